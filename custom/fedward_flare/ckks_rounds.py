"""The server's side of a sum under a homomorphic key, which it lacks: it adds, and asks the sites what is there.

What a message means stands in :mod:`fedward.federation.ckks`; this carries it. The set-up is carried as that of the
encrypted sum, whose boxes here hold the key.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from fedward.errors import RoundFailed, SumRefused
from fedward.federation.ckks import Encrypted, ServerSum, public_context
from fedward.federation.quantise import Decoded
from fedward.federation.secure_messages import Masked, hash_vector
from fedward_flare import ckks_exchange, tasks
from fedward_flare.sum_rounds import Carriers, SumRounds, listed, reading


class CkksRounds(SumRounds):
    """All rounds of a job; the attributes are those of :class:`SumRounds`.

    Raises:
        SettingsError: ``missing_extra``: TenSEAL is not installed at the server.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self._context = public_context()
        self._sum: ServerSum | None = None

    def open_round(self, number: int, model_sha256: str) -> None:
        """Begin to add up a round's ciphertexts; they are bound to the model that the sites have."""
        agreement = self._standing()
        # A hospital knows whose set-up was accepted, not who has answered since: those are the participants here.
        agreement = agreement.joined_by(agreement.peers)
        self._sum = ServerSum(agreement, number, model_sha256=model_sha256, context=self._context)

    def finish(self, number: int, carriers: Carriers) -> Decoded:
        """Have the sites decrypt the sum; give the mean on which at least the job's minimum of them agree.

        Raises:
            RoundFailed: ``sum_unreadable``; the round may be tried again after another set-up.
        """
        was_stale, self._is_stale = self._is_stale, True
        receipts, blocks = self._open_sum().close()
        self._sum = None
        failures: dict[str, str] = {}
        digests: dict[str, str] = {}
        carriers.task(
            tasks.DECRYPT_TASK,
            ckks_exchange.pack_sum(number, receipts, blocks),
            [receipt.site for receipt in receipts],
            reading(ckks_exchange.unpack_digest, digests.__setitem__, failures),
        )
        digest, count = (Counter(digests.values()).most_common(1) or [("", 0)])[0]
        if count < self.job.sites.minimum:
            raise RoundFailed("sum_unreadable", f"round {number}: {count} sites agree ({listed(failures)})")
        agreeing = [site for site in sorted(digests) if digests[site] == digest]
        decoded = self._quantiser.decode(
            self._total(number, agreeing, digest, carriers=carriers), contributors=len(receipts)
        )
        self._is_stale = was_stale
        self.note(failures.values())
        return decoded

    def _total(self, number: int, agreeing: list[str], digest: str, *, carriers: Carriers) -> NDArray[np.uint32]:
        """Ask one agreeing site after another for what all of them have decrypted."""
        totals: dict[str, NDArray[np.uint32]] = {}
        for site in agreeing:
            answer = reading(ckks_exchange.unpack_total, totals.__setitem__, {})
            carriers.task(tasks.TOTAL_TASK, ckks_exchange.pack_ask(number), [site], answer)
            if site in totals and hash_vector(totals[site]) == digest:
                return totals[site]
        raise RoundFailed("sum_unreadable", f"round {number}: no site gave what {len(agreeing)} have decrypted")

    def _add(self, site: str, masked: Masked | Encrypted | None) -> None:
        if not isinstance(masked, Encrypted):
            raise SumRefused("malformed_message", f"expected ciphertexts of {site}")
        self._open_sum().receive(site, masked)

    def _open_sum(self) -> ServerSum:
        if self._sum is None:
            raise RoundFailed("too_few_sites", "no round is open")
        return self._sum
