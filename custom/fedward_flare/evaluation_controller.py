"""The server's side of an evaluation: the sites' counts added up, and written down with the rows that they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal

from fedward.errors import ModelError, RoundFailed, UpdateRefused
from fedward.evaluation.outcome import EvaluationOutcome, models_at
from fedward.evaluation.sheet import sheet_of
from fedward.federation.consent import NO_MODELS, Consent, OwnModels, Weights, hash_model
from fedward.federation.record import AGREED, GAVE, NO_MODEL, SiteOutcome, SitePrivacy
from fedward.files import write_text
from fedward.settings.job import EvaluationJob
from fedward.site_counts import Counted
from fedward_flare import exchange, models_exchange, tasks
from fedward_flare.controllers import Context
from fedward_flare.counts_controller import CountsController, Tally
from fedward_flare.results import EVALUATION

#: Takes a site's name and its answer, and says in a word what the site has done.
Take = Callable[[str, Shareable], str]


class EvaluationController(CountsController):
    """Evaluates one release over the job's sites."""

    def __init__(self, signed_job: str) -> None:
        super().__init__(signed_job)
        job, release = self._document.job, self._document.release
        if not isinstance(job, EvaluationJob) or release is None:
            raise ModelError("wrong_input", f"expected an evaluation of a release, got {job.kind}")
        self._job, self._model_sha256 = job, release.model
        self._brought = NO_MODELS
        self._not_given: dict[str, str] = {}

    def _run(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        context = (abort_signal, fl_ctx)
        if self._job.local_models:
            self._brought = self._collect(context)
        tally = self._tally(
            tasks.COUNT_TASK,
            self._job,
            size=sheet_of(self._job.task).size,
            model_sha256=self._model_sha256,
            context=context,
            brought=self._brought,
        )
        write_text(self._result_folder / EVALUATION, self._outcome(tally).model_dump_json(indent=2) + "\n")

    def _collect(self, context: Context) -> OwnModels:
        """Have every site say yes, and only then give its own model; a site that has none, or fails, gives none.

        Raises:
            RoundFailed: ``not_all_agreed``: then no model has left its site.
            Stopped: the job was aborted.
        """
        found: dict[str, Consent] = {}

        def agree(site: str, answer: Shareable) -> str:
            found[site] = models_exchange.unpack_consent(answer)
            return AGREED

        self._ask_all(tasks.AGREE_TASK, Shareable(), agree, context)
        if missing := sorted(set(self._document.sites) - set(found)):
            raise RoundFailed("not_all_agreed", f"no yes of {', '.join(missing)}: no hospital's own model leaves")
        consents = tuple(found[site] for site in self._document.sites)
        models: dict[str, Weights] = {}
        heads = self._heads_at(context[1])

        def give(site: str, answer: Shareable) -> str:
            given = models_exchange.unpack_local_model(answer)
            if given is None:
                return NO_MODEL
            if hash_model(given.weights) != found[site].model_sha256:
                raise UpdateRefused("malformed_message", f"{site} sends another model than it has signed")
            heads.note(site, given.head)
            models[site] = given.weights
            return GAVE

        self._ask_all(tasks.GIVE_TASK, models_exchange.pack_consents(consents, heads.known), give, context)
        # The record goes on to what the sites have counted: this is kept beside it.
        self._not_given = {site: one.code for site, one in self._record.sites.items() if site not in models}
        return OwnModels(consents, models)

    def _ask_all(self, task: str, message: Shareable, take: Take, context: Context) -> None:
        """Send a task to every site and note in the record what each has done."""

        def judge(site: str, answer: Shareable) -> SiteOutcome:
            return SiteOutcome(code=exchange.failure_of(answer) or take(site, answer))

        self._ask_everybody(task, message, judge, context)

    def _check(self, site: str, counted: Counted) -> None:
        if not set(counted.rows) <= models_at(site, self._brought.models):
            raise UpdateRefused("malformed_message", f"{site} sends rows {sorted(counted.rows)}")
        if any((row < 0).any() for row in counted.rows.values()):
            raise UpdateRefused("malformed_message", f"{site} sends a row with counts below 0")

    def _outcome(self, tally: Tally) -> EvaluationOutcome:
        job, document = self._job, self._document
        rows: Mapping[str, Mapping[str, list[float]]] = {
            site: {name: row.tolist() for name, row in counted.rows.items()}
            for site, counted in tally.answers.items()
            if counted.rows
        }
        return EvaluationOutcome.model_validate(
            {
                "job_id": document.id,
                "name": job.name,
                "release": job.release,
                "number": job.number,
                "model_sha256": self._model_sha256,
                "task": job.task,
                "operating_point": job.operating_point,
                "exchange": job.exchange.mode,
                "created": datetime.now(UTC),
                "asked": document.sites,
                "total": tally.total.tolist(),
                "noise_multipliers": {site: one.noise_multiplier for site, one in tally.answers.items()},
                "privacy": {
                    site: SitePrivacy(epsilon=one.spent.epsilon, delta=one.spent.delta)
                    for site, one in tally.answers.items()
                },
                "rows": rows,
                "local_models": {site: hash_model(one) for site, one in self._brought.models.items()}
                if job.local_models
                else None,
                "not_given": self._not_given,
                "failures": dict(tally.failures),
            }
        )
