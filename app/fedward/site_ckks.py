"""A hospital's part in one job's sum under a homomorphic key: each state lies on the disk before its message."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedward.errors import SumRefused
from fedward.federation import ckks_site
from fedward.federation.ckks import Encrypted
from fedward.federation.ckks_site import CkksState
from fedward.federation.quantise import Quantiser
from fedward.federation.secure_job import session_of
from fedward.federation.secure_messages import Box, Receipt, SetUp
from fedward.files import write_bytes
from fedward.identity.document import JobDocument
from fedward.identity.trusted import roster_of, signer_of
from fedward.privacy.sealed import Answer
from fedward.randomness import Secret
from fedward.settings.job import SummedJob
from fedward.settings.site import read_site_settings, require_identity

_STATE = "ckks.json"


@dataclass(frozen=True, eq=False)
class SiteCkks:
    """What a hospital does in such a job; the attributes are those of :class:`~fedward.site_sum.SiteSum`."""

    site_file: Path
    document: JobDocument
    job: SummedJob
    quantiser: Quantiser
    folder: Path
    clock: Callable[[], datetime]

    def begin(self, *, attempt: int, first_round: int) -> SetUp:
        """Make the set-up of an attempt.

        Raises:
            SettingsError: ``missing_extra``.
            SumRefused: ``wrong_session``: the attempt was there before.
            IdentityError: ``unreadable_key``.
        """
        site = read_site_settings(self.site_file)
        before = self._read() if self._path.exists() else None
        session = session_of(self.document, self.job, self.quantiser, attempt=attempt, first=first_round)
        signer = signer_of(require_identity(site), name=site.name)
        smallest = site.bounds.organisations_in_a_sum
        state, set_up = ckks_site.begin(session, signer, minimum=smallest, secret=Secret(), after=before)
        self._write(state)
        return set_up

    def deal(self, set_ups: Sequence[SetUp]) -> tuple[Box, ...]:
        """Read everybody's set-up; the first site by name gives a box with the key for each peer.

        Raises:
            SumRefused, IdentityError: see :func:`ckks_site.take_set_ups`.
        """
        identity = require_identity(read_site_settings(self.site_file))
        state, boxes = ckks_site.take_set_ups(
            self._read(), set_ups, roster=roster_of(identity), now=self.clock(), secret=Secret()
        )
        self._write(state)
        return boxes

    def masked(self, number: int, answer: Answer, *, model_sha256: str, boxes: Sequence[Box]) -> Encrypted:
        """Give the round's vector under the key.

        Args:
            number: The round.
            answer: What the round's charge bought.
            model_sha256: Of the model that came.
            boxes: What the first site has sealed for the others; it counts once.

        Raises:
            SumRefused, IdentityError: see :func:`ckks_site.take_key` and :func:`ckks_site.encrypt`.
            UpdateRefused: the answer is not what the job sums.
        """
        site = read_site_settings(self.site_file)
        identity, state = require_identity(site), self._read()
        state = ckks_site.take_key(state, [box for box in boxes if box.receiver == state.name])
        encoded = self.quantiser.encode(
            answer.update if answer.update is not None else np.zeros(self.quantiser.size, np.float32),
            weight=answer.weight,
            metrics={name: answer.metrics.get(name, 0.0) for name in self.quantiser.metrics},
            secret=Secret(),
        )
        state, encrypted = ckks_site.encrypt(
            state,
            number,
            encoded.vector,
            model_sha256=model_sha256,
            signer=signer_of(identity, name=site.name),
            roster=roster_of(identity),
            now=self.clock(),
        )
        self._write(state)
        return encrypted

    def decrypt(self, number: int, receipts: Sequence[Receipt], blocks: Sequence[bytes]) -> NDArray[np.uint32]:
        """Decrypt the round's sum, after a look at what the server says is in it.

        Raises:
            SumRefused, IdentityError: see :func:`ckks_site.decrypt`.
            RoundFailed: ``sum_unreadable``: no sum of so many sites.
        """
        state, total = ckks_site.decrypt(self._read(), number, receipts, blocks)
        self.quantiser.decode(total, contributors=len(receipts))
        self._write(state)
        return total

    @property
    def _path(self) -> Path:
        return self.folder / _STATE

    def _read(self) -> CkksState:
        if not self._path.exists():
            raise SumRefused("set_up_unfinished", "this site has begun no set-up for the job")
        return CkksState.from_bytes(self._path.read_bytes())

    def _write(self, state: CkksState) -> None:
        write_bytes(self._path, state.to_bytes())
