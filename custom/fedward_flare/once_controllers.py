"""The jobs of one task: bring a release to every site, or have every site run its active model."""

from __future__ import annotations

from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal

from fedward.errors import FedwardError, RoundFailed
from fedward.federation.record import SiteOutcome
from fedward.release.package import read_parts
from fedward_flare import exchange, tasks
from fedward_flare.controllers import JobController, application_folder
from fedward_flare.jobs import RELEASE


class _OnceController(JobController):
    """Sends one task, and fails the job when fewer sites than its minimum have done it."""

    def _send_once(self, name: str, message: Shareable, *, context: tuple[Signal, FLContext]) -> None:
        outcomes: dict[str, SiteOutcome] = {}

        def receive(site: str, answer: Shareable) -> None:
            outcomes[site] = _outcome(answer)
            self._record = self._record.with_sites(outcomes)

        self._ask(
            name,
            message,
            receive=receive,
            is_complete=lambda: len(outcomes) == len(self._document.sites),
            context=context,
        )
        silent = {site: SiteOutcome(code="deadline_missed") for site in self._document.sites if site not in outcomes}
        self._record = self._record.with_sites({**outcomes, **silent})
        done = [site for site, outcome in outcomes.items() if outcome.code == "done"]
        if len(done) < self._document.job.sites.minimum:
            raise RoundFailed("too_few_sites", f"{len(done)} sites have done it: {', '.join(sorted(done)) or 'none'}")


class PublishController(_OnceController):
    """Sends the release's three files, which lie in the server's application alone, to every site."""

    def _run(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        parts = read_parts(application_folder(fl_ctx) / RELEASE)
        self._send_once(tasks.PUBLISH_TASK, exchange.pack_release(parts), context=(abort_signal, fl_ctx))


class InferenceController(_OnceController):
    """Asks every site to run its active model over its own studies."""

    def _run(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        self._send_once(tasks.INFER_TASK, Shareable(), context=(abort_signal, fl_ctx))


def _outcome(answer: Shareable) -> SiteOutcome:
    failure = exchange.failure_of(answer)
    if failure is not None:
        return SiteOutcome(code=failure)
    try:
        return SiteOutcome(code="done", counts=exchange.unpack_counts(answer))
    except FedwardError as error:
        return SiteOutcome(code=error.code)
