"""A hospital's part in one job's encrypted sum: each state lies on the disk before the message that goes with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedward.errors import SumRefused
from fedward.federation.secure_messages import Box, Masked, Opened, Receipt, SetUp, Value, Vote, hash_vector
from fedward.federation.secure_site import begin, mask, open_shares, sign_survivors, take_set_ups, take_shares
from fedward.federation.secure_state import SiteState
from fedward.files import explained_writes, write_bytes
from fedward.identity.trusted import roster_of, signer_of
from fedward.privacy.sealed import Answer
from fedward.randomness import Secret
from fedward.settings.site import read_site_settings, require_identity
from fedward.site_party import SumParty

_BOXES = "boxes.json"


class _Dealt(Value):
    """What a site has dealt, sealed for each peer: its answer to a request that comes again."""

    attempt: int
    set_ups: list[bytes]
    boxes: list[Box]


class SiteSum(SumParty[SiteState]):
    """What a hospital does in a job's encrypted sum; the attributes are those of :class:`SumParty`."""

    _file = "sum.state"

    def begin(self, *, attempt: int, first_round: int) -> SetUp:
        """Make fresh keys for every round that is left, and the set-up that tells of them.

        Raises:
            SumRefused: ``wrong_session``: the attempt was there before.
            IdentityError: ``unreadable_key``.
        """
        return self._begin(begin, attempt=attempt, first_round=first_round)

    def deal(self, set_ups: Sequence[SetUp]) -> tuple[Box, ...]:
        """Read everybody's set-up, and deal each peer its shares; the same request gets the same ones again.

        Raises:
            SumRefused, IdentityError: see :func:`take_set_ups`.
        """
        before, path = self._read(), self.folder / _BOXES
        asked = sorted(set_up.content for set_up in set_ups)
        if before.agreement is not None and path.exists():
            kept = _Dealt.from_bytes(path.read_bytes())
            if (kept.attempt, kept.set_ups) == (before.session.attempt, asked):
                return tuple(kept.boxes)
        identity = require_identity(read_site_settings(self.site_file))
        state, boxes = take_set_ups(before, set_ups, roster=roster_of(identity), now=self.clock(), secret=Secret())
        dealt = _Dealt(attempt=state.session.attempt, set_ups=asked, boxes=list(boxes))
        write_bytes(path, dealt.to_bytes())
        self._write(state)
        return boxes

    def masked(self, number: int, answer: Answer, *, model_sha256: str, boxes: Sequence[Box]) -> Masked:
        """Give the round's masked vector; the same request gets the same one again.

        Args:
            number: The round.
            answer: What the round's charge bought.
            model_sha256: Of the model that came.
            boxes: The shares that peers have dealt to this site; they count once, in the first round of an attempt.

        Raises:
            SumRefused, IdentityError: see :func:`mask`.
            UpdateRefused: the answer is not what the job sums.
        """
        site = read_site_settings(self.site_file)
        identity, state = require_identity(site), self._read()
        if state.agreement is None or not state.agreement.participants:
            state = take_shares(state, [box for box in boxes if box.receiver == state.name])
        path = self.folder / f"masked-{state.session.attempt}-{number}.npy"
        if number in state.uses:
            receipt = state.uses[number].receipt
            return Masked(receipt, _read_vector(path, receipt.vector_sha256))
        state, masked = mask(
            state,
            number,
            self._encode(answer),
            model_sha256=model_sha256,
            signer=signer_of(identity, name=site.name),
            roster=roster_of(identity),
            now=self.clock(),
        )
        for old in self.folder.glob("masked-*.npy"):
            old.unlink(missing_ok=True)
        # Not flushed: whoever finds it torn after a power cut begins another attempt.
        with explained_writes(path), path.open("wb") as file:
            np.save(file, masked.vector, allow_pickle=False)
        self._write(state)
        return masked

    def vote(self, number: int, survivors: Sequence[Receipt]) -> Vote:
        """Sign who is in the sum.

        Raises:
            SumRefused, IdentityError: see :func:`sign_survivors`.
        """
        site = read_site_settings(self.site_file)
        signer = signer_of(require_identity(site), name=site.name)
        state, vote = sign_survivors(self._read(), number, survivors, signer=signer)
        self._write(state)
        return vote

    def open(self, number: int, survivors: Sequence[Receipt], votes: Sequence[Vote]) -> Opened:
        """Open the shares of a round, once.

        Raises:
            SumRefused, IdentityError: see :func:`open_shares`.
        """
        state, opened = open_shares(self._read(), number, survivors, votes)
        self._write(state)
        return opened

    @property
    def _kind(self) -> type[SiteState]:
        return SiteState


def _read_vector(path: Path, digest: str) -> NDArray[np.uint32]:
    try:
        vector = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        vector = np.empty(0, np.uint32)
    if vector.dtype != np.uint32 or hash_vector(vector) != digest:
        raise SumRefused("key_set_used", "the round's masked vector is gone, and its key set has served")
    return np.asarray(vector, dtype=np.uint32)
