"""What a hospital does when a job's answers are added up under encryption, whatever the job counts or trains."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fedward.errors import JobRefused
from fedward.federation.secure_job import last_sum
from fedward.federation.secure_messages import Box, Opened, Receipt, SetUp, Vote
from fedward.identity.document import JobDocument
from fedward.settings.job import SummedJob
from fedward.site_ckks import SiteCkks
from fedward.site_sum import SiteSum

ShouldStop = Callable[[], bool]


class SummedAtSite(ABC):
    """A job of one hospital whose answers are summed, or in plain mode are not.

    Attributes:
        document: The accepted job.
        job: What it says.
        sum: The site's part in the job's encrypted sum; None in plain mode.
    """

    document: JobDocument
    job: SummedJob
    sum: SiteSum | SiteCkks | None

    @abstractmethod
    def close(self) -> None:
        """End the job here: free what it did not use, and remove what was kept for it."""

    def any_sum(self) -> SiteSum | SiteCkks:
        """Give the site's part in the encrypted sum, of either kind.

        Raises:
            JobRefused: ``exchange_mode_not_allowed``: the job has none.
        """
        if self.sum is None:
            raise JobRefused("exchange_mode_not_allowed", f"job {self.document.id} is not summed under encryption")
        return self.sum

    def secure_sum(self) -> SiteSum:
        """Give the site's part in the sum under masks.

        Raises:
            JobRefused: ``exchange_mode_not_allowed``: the job has none.
        """
        if not isinstance(self.sum, SiteSum):
            raise JobRefused("exchange_mode_not_allowed", f"job {self.document.id} is not summed under masks")
        return self.sum

    def ckks_sum(self) -> SiteCkks:
        """Give the site's part in the sum under a homomorphic key.

        Raises:
            JobRefused: ``exchange_mode_not_allowed``: the job has none.
        """
        if not isinstance(self.sum, SiteCkks):
            raise JobRefused("exchange_mode_not_allowed", f"job {self.document.id} is not summed under one key")
        return self.sum


class SummingHospital(ABC):
    """A hospital's part in encrypted sums: set-up, shares, votes; each belongs to a job that was accepted."""

    @abstractmethod
    def _summed(self, document: JobDocument, number: int, *, should_stop: ShouldStop = lambda: False) -> SummedAtSite:
        """Give the job, opened once in this process; ``number`` is one of its sums, the last one included."""

    @abstractmethod
    def _close(self, summed: SummedAtSite) -> None:
        """End a job here."""

    def begin_sum(
        self, document: JobDocument, *, attempt: int, first_round: int, should_stop: ShouldStop = lambda: False
    ) -> SetUp:
        """Begin an attempt at the job's encrypted sum: fresh keys for every round from ``first_round``.

        Raises:
            JobRefused: ``exchange_mode_not_allowed``: the job is not summed under encryption; else as the job's tasks.
            SumRefused, IdentityError: see :meth:`SiteSum.begin`.
        """
        summed = self._summed(document, first_round, should_stop=should_stop)
        return summed.any_sum().begin(attempt=attempt, first_round=first_round)

    def deal_shares(self, document: JobDocument, number: int, set_ups: Sequence[SetUp]) -> tuple[Box, ...]:
        """Read all set-ups and deal each peer its shares.

        Raises:
            SumRefused, IdentityError: see :meth:`SiteSum.deal`.
        """
        return self._summed(document, number).any_sum().deal(set_ups)

    def sign_survivors(self, document: JobDocument, number: int, survivors: Sequence[Receipt]) -> Vote:
        """Sign who is in a round's sum.

        Raises:
            SumRefused, IdentityError: see :meth:`SiteSum.vote`.
        """
        return self._summed(document, number).secure_sum().vote(number, survivors)

    def open_shares(
        self, document: JobDocument, number: int, survivors: Sequence[Receipt], votes: Sequence[Vote]
    ) -> Opened:
        """Open this site's shares of a round; after the last sum's the job is over here.

        Raises:
            SumRefused, IdentityError: see :meth:`SiteSum.open`.
        """
        summed = self._summed(document, number)
        opened = summed.secure_sum().open(number, survivors, votes)
        if number >= last_sum(summed.job):
            self._close(summed)
        return opened

    def decrypt_sum(
        self, document: JobDocument, number: int, receipts: Sequence[Receipt], blocks: Sequence[bytes]
    ) -> NDArray[np.uint32]:
        """Decrypt a round's homomorphic sum; after the last sum's the job is over here.

        Raises:
            SumRefused, IdentityError, RoundFailed: see :meth:`SiteCkks.decrypt`.
        """
        summed = self._summed(document, number)
        total = summed.ckks_sum().decrypt(number, receipts, blocks)
        if number >= last_sum(summed.job):
            self._close(summed)
        return total
