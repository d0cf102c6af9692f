"""The jobs of one task: hold a model against the one that runs, bring a release, run the active model."""

from __future__ import annotations

from collections.abc import Callable

from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal

from fedward.errors import RoundFailed
from fedward.federation.record import DONE, NON_INFERIOR, NOT_SHOWN, SiteOutcome
from fedward.release.package import read_parts
from fedward_flare import exchange, tasks
from fedward_flare.controllers import Context, JobController, application_folder
from fedward_flare.jobs import CANDIDATE, RELEASE, read_candidate

Read = Callable[[Shareable], SiteOutcome]


class _OnceController(JobController):
    """Sends one task, and fails the job when fewer sites than its minimum have done it."""

    def _send_once(self, name: str, message: Shareable, *, context: Context) -> None:
        outcomes = self._ask_everybody(name, message, _reading(_counted), context)
        done = [site for site, outcome in outcomes.items() if outcome.code == DONE]
        if len(done) < self._document.job.sites.minimum:
            raise RoundFailed("too_few_sites", f"{len(done)} sites have done it: {', '.join(sorted(done)) or 'none'}")


class GateController(JobController):
    """Sends the candidate to every site and keeps each one's bit, or why there is none; the coordinator judges."""

    def _run(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        files = read_candidate(application_folder(fl_ctx) / CANDIDATE)
        message = exchange.pack_candidate(files)
        self._ask_everybody(tasks.GATE_TASK, message, _reading(_judged), (abort_signal, fl_ctx))


class PublishController(_OnceController):
    """Sends the release's three files, which lie in the server's application alone, to every site."""

    def _run(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        parts = read_parts(application_folder(fl_ctx) / RELEASE)
        self._send_once(tasks.PUBLISH_TASK, exchange.pack_release(parts), context=(abort_signal, fl_ctx))


class InferenceController(_OnceController):
    """Asks every site to run its active model over its own studies."""

    def _run(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        self._send_once(tasks.INFER_TASK, Shareable(), context=(abort_signal, fl_ctx))


def _reading(read: Read) -> Callable[[str, Shareable], SiteOutcome]:
    def judge(_: str, answer: Shareable) -> SiteOutcome:
        failure = exchange.failure_of(answer)
        return read(answer) if failure is None else SiteOutcome(code=failure)

    return judge


def _counted(answer: Shareable) -> SiteOutcome:
    return SiteOutcome(code=DONE, counts=exchange.unpack_counts(answer))


def _judged(answer: Shareable) -> SiteOutcome:
    return SiteOutcome(code=NON_INFERIOR if exchange.unpack_bit(answer) else NOT_SHOWN)
