"""The server's side of a job that adds up one vector of each site, once: asked, summed, and what came of it written."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal

from fedward.errors import FedwardError, RoundFailed
from fedward.evaluation.outcome import model_of
from fedward.federation.ckks import Encrypted
from fedward.federation.consent import NO_MODELS, OwnModels
from fedward.federation.record import SiteOutcome
from fedward.federation.secure_job import count_names
from fedward.federation.secure_messages import Masked
from fedward.identity.certificates import read_certificate
from fedward.settings.job import EvaluationJob
from fedward.site_counts import ONLY_ROUND, Counted, Counts
from fedward_flare import counts_exchange, exchange
from fedward_flare.checkpoint import FOLDER, Checkpoint
from fedward_flare.ckks_rounds import CkksRounds
from fedward_flare.controllers import JobController, root_certificate, server_folder
from fedward_flare.heads import HEADS, SeenHeads
from fedward_flare.sum_rounds import Carriers, SumRounds

Context = tuple[Signal, FLContext]
Receive = Callable[[str, Shareable], None]

#: A sum is tried so many times.
_ATTEMPTS = 3

#: What another set-up may mend: somebody was lost between sending a vector and opening the shares.
_WORTH_ANOTHER_ATTEMPT = frozenset({"too_few_votes", "too_few_shares", "sum_unreadable"})


@dataclass(frozen=True, eq=False)
class Tally:
    """What the sites have said.

    Attributes:
        total: The sum of their noised counts, shape ``(count,)``.
        answers: What each site in the sum says beside its counts.
        failures: The code of each site that is not in it.
    """

    total: Counts
    answers: Mapping[str, Counted]
    failures: Mapping[str, str] = field(default_factory=dict)


class CountsController(JobController):
    """Asks every site once and adds up what comes."""

    def _tally(
        self,
        task: str,
        job: EvaluationJob,
        *,
        size: int,
        model_sha256: str,
        context: Context,
        brought: OwnModels = NO_MODELS,
    ) -> Tally:
        """Have the sites count, and add up.

        Args:
            task: The task's name.
            job: The job.
            size: How many counts each site gives.
            model_sha256: Of the model that the job is about; it binds the sum.
            context: NVFLARE's abort signal and context.
            brought: The sites' own models, which go to all of them.

        Raises:
            RoundFailed: fewer sites than the job's minimum are in the sum, or it cannot be opened.
            Stopped: the job was aborted.
        """
        folder = server_folder(context[1])
        heads = SeenHeads(folder / HEADS)
        checkpoint = Checkpoint(folder / FOLDER / self._document.id)
        sums: SumRounds | None = None
        if job.exchange.mode != "plain":
            root = read_certificate(root_certificate(context[1]))
            kind = SumRounds if job.exchange.mode == "secure-sum" else CkksRounds
            sums = kind(self._document, job, size=size, root=root, next_attempt=checkpoint.next_attempt)
        try:
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    return self._try(
                        task,
                        size,
                        model_sha256,
                        sums=sums,
                        heads=heads,
                        context=context,
                        brought=brought,
                    )
                except RoundFailed as error:
                    if sums is None or error.code not in _WORTH_ANOTHER_ATTEMPT or attempt == _ATTEMPTS:
                        raise
            raise RoundFailed("sum_unreadable", "no attempt was made")
        finally:
            checkpoint.remove()

    @abstractmethod
    def _check(self, site: str, counted: Counted) -> None:
        """Refuse an answer that is none of the job's kind.

        Raises:
            FedwardError: why.
        """

    def _try(
        self,
        task: str,
        size: int,
        model_sha256: str,
        *,
        sums: SumRounds | None,
        heads: SeenHeads,
        context: Context,
        brought: OwnModels,
    ) -> Tally:
        answers: dict[str, Counted] = {}
        outcomes: dict[str, SiteOutcome] = {}

        def take(site: str, answer: Shareable) -> str:
            code = exchange.failure_of(answer)
            if code is not None:
                return code
            others = {model_of(other) for other in brought.models if other != site}
            counted = counts_exchange.unpack_counted(answer, size=size, others=others)
            self._check(site, counted)
            if sums is not None:
                failure = sums.receive(site, _hidden(counted))
                if failure is not None:
                    return failure.code
            heads.note(site, counted.head)
            answers[site] = counted
            return "done"

        def receive(site: str, answer: Shareable) -> None:
            try:
                code = take(site, answer)
            except FedwardError as error:
                code = error.code
            outcomes[site] = SiteOutcome(code=code)
            self._record = self._record.with_sites(outcomes)

        message = counts_exchange.pack_ask(heads.known, brought)
        carriers = self._carriers(context)
        if sums is not None:
            try:
                sums.set_up(ONLY_ROUND, carriers)
            except RoundFailed:
                self._note_silent({site: SiteOutcome(code=code) for site, code in sums.failures.items()})
                raise
            sums.open_round(ONLY_ROUND, model_sha256)
            message = sums.complete(message)
        self._ask(
            task,
            message,
            receive=receive,
            is_complete=lambda: len(outcomes) == len(self._document.sites),
            context=context,
        )
        self._note_silent(outcomes)
        if len(answers) < self._document.job.sites.minimum:
            raise RoundFailed("too_few_sites", f"{len(answers)} sites have counted: {', '.join(sorted(answers))}")
        failures = {site: one.code for site, one in self._record.sites.items() if site not in answers}
        if sums is None:
            seen = [one.noised for one in answers.values() if isinstance(one.noised, np.ndarray)]
            return Tally(np.sum(seen, axis=0), answers, failures)
        metrics = sums.finish(ONLY_ROUND, carriers).metrics
        return Tally(np.array([metrics[name] for name in count_names(size)]), answers, failures)

    def _note_silent(self, outcomes: Mapping[str, SiteOutcome]) -> None:
        silent = {site: SiteOutcome(code="deadline_missed") for site in self._document.sites if site not in outcomes}
        self._record = self._record.with_sites({**outcomes, **silent})

    def _carriers(self, context: Context) -> Carriers:
        """Give the ways in which the encrypted sum's messages travel."""

        def task(name: str, message: Shareable, targets: Collection[str], receive: Receive) -> None:
            answered: set[str] = set()

            def take(site: str, answer: Shareable) -> None:
                answered.add(site)
                receive(site, answer)

            self._ask(
                name,
                message,
                receive=take,
                is_complete=lambda: set(targets) <= answered,
                context=context,
                targets=targets,
            )

        def direct(topic: str, message: Shareable, targets: Collection[str], receive: Receive) -> None:
            self._ask_directly(topic, message, targets, receive, context[0])

        return Carriers(task=task, direct=direct)


def _hidden(counted: Counted) -> Masked | Encrypted | None:
    return None if isinstance(counted.noised, np.ndarray) else counted.noised
