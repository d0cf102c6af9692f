"""The jobs of one task: hold a model against the one that runs, bring a release, run the active model."""

from __future__ import annotations

from collections.abc import Callable

from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal

from fedward.errors import FedwardError, RoundFailed
from fedward.federation.record import SiteOutcome
from fedward.release.gate import NON_INFERIOR, NOT_SHOWN
from fedward.release.package import read_parts
from fedward_flare import exchange, tasks
from fedward_flare.controllers import JobController, application_folder
from fedward_flare.jobs import CANDIDATE, RELEASE, read_candidate

Read = Callable[[Shareable], SiteOutcome]

DONE = "done"
_ANSWERS = frozenset({DONE, NON_INFERIOR, NOT_SHOWN})


class _OnceController(JobController):
    """Sends one task, and fails the job when fewer sites than its minimum have done it."""

    def _send_once(self, name: str, message: Shareable, *, context: tuple[Signal, FLContext]) -> None:
        outcomes = self._gather(name, message, read=_counted, context=context)
        done = [site for site, outcome in outcomes.items() if outcome.code == DONE]
        if len(done) < self._document.job.sites.minimum:
            raise RoundFailed("too_few_sites", f"{len(done)} sites have done it: {', '.join(sorted(done)) or 'none'}")

    def _gather(
        self, name: str, message: Shareable, *, read: Read, context: tuple[Signal, FLContext]
    ) -> dict[str, SiteOutcome]:
        """Send the task, wait, and give what each site that answered has done; the record names the silent too."""
        outcomes: dict[str, SiteOutcome] = {}

        def receive(site: str, answer: Shareable) -> None:
            outcomes[site] = _outcome(answer, read)
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
        return outcomes


class GateController(_OnceController):
    """Sends the candidate to every site and keeps each one's bit, or why there is none; the coordinator judges."""

    def _run(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        files = read_candidate(application_folder(fl_ctx) / CANDIDATE)
        message = exchange.pack_candidate(files)
        self._gather(tasks.GATE_TASK, message, read=_judged, context=(abort_signal, fl_ctx))


class PublishController(_OnceController):
    """Sends the release's three files, which lie in the server's application alone, to every site."""

    def _run(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        parts = read_parts(application_folder(fl_ctx) / RELEASE)
        self._send_once(tasks.PUBLISH_TASK, exchange.pack_release(parts), context=(abort_signal, fl_ctx))


class InferenceController(_OnceController):
    """Asks every site to run its active model over its own studies."""

    def _run(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        self._send_once(tasks.INFER_TASK, Shareable(), context=(abort_signal, fl_ctx))


def _outcome(answer: Shareable, read: Read) -> SiteOutcome:
    failure = exchange.failure_of(answer)
    if failure is not None:
        # A failure is never an answer, whatever it calls itself.
        return SiteOutcome(code=exchange.INTERNAL_ERROR if failure in _ANSWERS else failure)
    try:
        return read(answer)
    except FedwardError as error:
        return SiteOutcome(code=error.code)


def _counted(answer: Shareable) -> SiteOutcome:
    return SiteOutcome(code=DONE, counts=exchange.unpack_counts(answer))


def _judged(answer: Shareable) -> SiteOutcome:
    return SiteOutcome(code=NON_INFERIOR if exchange.unpack_bit(answer) else NOT_SHOWN)
