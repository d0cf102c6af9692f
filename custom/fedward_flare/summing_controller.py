"""What the server's sides of the jobs have in common whose sites' vectors are added up, encrypted or not."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeVar

from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable

from fedward.errors import RoundFailed
from fedward.identity.certificates import read_certificate
from fedward.settings.job import SummedJob
from fedward_flare.checkpoint import FOLDER, Checkpoint
from fedward_flare.ckks_rounds import CkksRounds
from fedward_flare.controllers import Context, JobController, Receive, root_certificate, server_folder
from fedward_flare.heads import HEADS, SeenHeads
from fedward_flare.sum_rounds import Carriers, SumRounds

#: A sum is tried so many times.
_ATTEMPTS = 3

#: What another set-up may mend: somebody was lost between sending a vector and opening the shares.
_WORTH_ANOTHER_ATTEMPT = frozenset({"too_few_votes", "too_few_shares", "sum_unreadable"})

_Summed = TypeVar("_Summed")


class SummingController(JobController):
    """A job that adds up a vector of each site, once or in rounds."""

    def __init__(self, signed_job: str) -> None:
        super().__init__(signed_job)
        self._sums: SumRounds | None = None

    def _heads_at(self, fl_ctx: FLContext) -> SeenHeads:
        """Give what the server remembers of the sites' privacy ledgers."""
        return SeenHeads(server_folder(fl_ctx) / HEADS)

    def _checkpoint_at(self, fl_ctx: FLContext) -> Checkpoint:
        """Give the place of the job's committed state, which outlives the server."""
        return Checkpoint(server_folder(fl_ctx) / FOLDER / self._document.id)

    def _open_sums(self, job: SummedJob, *, size: int, checkpoint: Checkpoint, fl_ctx: FLContext) -> None:
        """Prepare the job's encrypted sum of ``size`` numbers; a plain job has none."""
        if job.exchange.mode == "plain":
            return
        root = read_certificate(root_certificate(fl_ctx))
        kind = SumRounds if job.exchange.mode == "secure-sum" else CkksRounds
        self._sums = kind(self._document, job, size=size, root=root, next_attempt=checkpoint.next_attempt)

    def _summed(self, attempt: Callable[[], _Summed]) -> _Summed:
        """Try a sum; one that cannot be opened is tried again after another set-up.

        Raises:
            RoundFailed: the last attempt's, or the first that another set-up does not mend.
            Stopped: the job was aborted.
        """
        for _ in range(_ATTEMPTS - 1):
            try:
                return attempt()
            except RoundFailed as error:
                if self._sums is None or error.code not in _WORTH_ANOTHER_ATTEMPT:
                    raise
        return attempt()

    def _waited_for(self, targets: Collection[str]) -> Collection[str]:
        """Give the sites among ``targets`` whose part in a sum is worth waiting for."""
        return targets

    def _carriers(self, context: Context) -> Carriers:
        """Give the ways in which the encrypted sum's messages travel."""

        def task(name: str, message: Shareable, targets: Collection[str], receive: Receive) -> None:
            answered: set[str] = set()

            def take(site: str, answer: Shareable) -> None:
                answered.add(site)
                receive(site, answer)

            waited_for = set(self._waited_for(targets))
            self._ask(
                name,
                message,
                receive=take,
                is_complete=lambda: waited_for <= answered,
                context=context,
                targets=targets,
            )

        def direct(topic: str, message: Shareable, targets: Collection[str], receive: Receive) -> None:
            self._ask_directly(topic, message, targets, receive, context[0])

        return Carriers(task=task, direct=direct)
