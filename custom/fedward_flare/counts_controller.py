"""The server's side of a job that adds up one vector of each site, once: asked, summed, and what came of it written."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from nvflare.apis.shareable import Shareable

from fedward.errors import RoundFailed
from fedward.evaluation.outcome import model_of
from fedward.federation.ckks import Encrypted
from fedward.federation.consent import NO_MODELS, OwnModels
from fedward.federation.record import DONE, SiteOutcome
from fedward.federation.secure_job import count_names
from fedward.federation.secure_messages import Masked
from fedward.settings.job import EvaluationJob
from fedward.site_counts import ONLY_ROUND, Counted, Counts
from fedward_flare import counts_exchange, exchange
from fedward_flare.controllers import Context
from fedward_flare.heads import SeenHeads
from fedward_flare.summing_controller import SummingController


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


class CountsController(SummingController):
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
        checkpoint = self._checkpoint_at(context[1])
        self._open_sums(job, size=size, checkpoint=checkpoint, fl_ctx=context[1])
        heads = self._heads_at(context[1])
        try:
            return self._summed(
                lambda: self._try(task, size, model_sha256, heads=heads, context=context, brought=brought)
            )
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
        heads: SeenHeads,
        context: Context,
        brought: OwnModels,
    ) -> Tally:
        sums = self._sums
        answers: dict[str, Counted] = {}

        def judge(site: str, answer: Shareable) -> SiteOutcome:
            code = exchange.failure_of(answer)
            if code is not None:
                return SiteOutcome(code=code)
            others = {model_of(other) for other in brought.models if other != site}
            counted = counts_exchange.unpack_counted(answer, size=size, others=others)
            self._check(site, counted)
            if sums is not None:
                failure = sums.receive(site, _hidden(counted))
                if failure is not None:
                    return SiteOutcome(code=failure.code)
            heads.note(site, counted.head)
            answers[site] = counted
            return SiteOutcome(code=DONE)

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
        self._ask_everybody(task, message, judge, context)
        if len(answers) < self._document.job.sites.minimum:
            raise RoundFailed("too_few_sites", f"{len(answers)} sites have counted: {', '.join(sorted(answers))}")
        failures = {site: one.code for site, one in self._record.sites.items() if site not in answers}
        if sums is None:
            seen = [one.noised for one in answers.values() if isinstance(one.noised, np.ndarray)]
            return Tally(np.sum(seen, axis=0), answers, failures)
        metrics = sums.finish(ONLY_ROUND, carriers).metrics
        return Tally(np.array([metrics[name] for name in count_names(size)]), answers, failures)


def _hidden(counted: Counted) -> Masked | Encrypted | None:
    return None if isinstance(counted.noised, np.ndarray) else counted.noised
