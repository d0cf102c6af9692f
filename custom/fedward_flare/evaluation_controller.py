"""The server's side of an evaluation: the sites' counts added up, and written down with the rows that they share."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from nvflare.apis.fl_context import FLContext
from nvflare.apis.signal import Signal

from fedward.errors import ModelError, UpdateRefused
from fedward.evaluation.outcome import LOCAL, RELEASE, EvaluationOutcome
from fedward.evaluation.sheet import sheet_of
from fedward.federation.record import SitePrivacy
from fedward.files import write_text
from fedward.settings.job import EvaluationJob
from fedward.site_counts import Counted
from fedward_flare import tasks
from fedward_flare.counts_controller import CountsController, Tally
from fedward_flare.results import EVALUATION


class EvaluationController(CountsController):
    """Evaluates one release over the job's sites."""

    def __init__(self, signed_job: str) -> None:
        super().__init__(signed_job)
        job, release = self._document.job, self._document.release
        if not isinstance(job, EvaluationJob) or release is None:
            raise ModelError("wrong_input", f"expected an evaluation of a release, got {job.kind}")
        self._job, self._model_sha256 = job, release.model

    def _run(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        size = sheet_of(self._job.task).size
        tally = self._tally(
            tasks.COUNT_TASK,
            self._job,
            size=size,
            model_sha256=self._model_sha256,
            context=(abort_signal, fl_ctx),
        )
        write_text(self._result_folder / EVALUATION, self._outcome(tally).model_dump_json(indent=2) + "\n")

    def _check(self, site: str, counted: Counted) -> None:
        if not set(counted.rows) <= {RELEASE, LOCAL}:
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
                "failures": dict(tally.failures),
            }
        )
