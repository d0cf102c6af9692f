"""A hospital's part in one job's sum under a homomorphic key: each state lies on the disk before its message."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedward.federation import ckks_site
from fedward.federation.ckks import Encrypted
from fedward.federation.ckks_site import CkksState
from fedward.federation.secure_messages import Box, Receipt, SetUp
from fedward.identity.trusted import roster_of, signer_of
from fedward.privacy.sealed import Answer
from fedward.randomness import Secret
from fedward.settings.site import read_site_settings, require_identity
from fedward.site_party import SumParty


class SiteCkks(SumParty[CkksState]):
    """What a hospital does in such a job; the attributes are those of :class:`SumParty`."""

    _file = "ckks.state"

    def begin(self, *, attempt: int, first_round: int) -> SetUp:
        """Make the set-up of an attempt.

        Raises:
            SettingsError: ``missing_extra``.
            SumRefused: ``wrong_session``: the attempt was there before.
            IdentityError: ``unreadable_key``.
        """
        return self._begin(ckks_site.begin, attempt=attempt, first_round=first_round)

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
        state, encrypted = ckks_site.encrypt(
            state,
            number,
            self._encode(answer),
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
    def _kind(self) -> type[CkksState]:
        return CkksState
