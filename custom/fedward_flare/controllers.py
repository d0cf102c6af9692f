"""What runs on the server when a job is there: send the task, wait for the sites, keep the record.

The record is the truth about a job. NVFLARE's own status may call a job abnormal that did all its rounds.
"""

from __future__ import annotations

import math
import os
import threading
from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Literal

from nvflare.apis.client import Client
from nvflare.apis.controller_spec import Task
from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.impl.controller import Controller
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal
from nvflare.apis.workspace import Workspace

from fedward.errors import FedwardError, Stopped
from fedward.federation.record import JobRecord, SiteOutcome
from fedward.files import write_text
from fedward.identity.document import JobDocument, parse_document
from fedward_flare import exchange
from fedward_flare.gathering import Gathering
from fedward_flare.progress import PROGRESS_TOPIC, pack_progress
from fedward_flare.results import RECORD, RESULT
from fedward_flare.signed import decode_signed_job
from fedward_flare.workdir import SERVER_STATE

Context = tuple[Signal, FLContext]
Receive = Callable[[str, Shareable], None]

#: How often (s) NVFLARE looks at its tasks; its constructor's argument for this has no effect.
_TASK_CHECK_PERIOD_S = 0.02

#: A site's running job process has this long (s) to answer a direct message.
_DIRECT_S = 20.0

#: NVFLARE ends a task at its own timeout; ours comes first, so that the round is closed in one place.
_TIMEOUT_MARGIN_S = 10


class JobController(Controller):
    """Runs one signed job from its first task to its record.

    Args:
        signed_job: The job as the coordinator signed it, in the text form of :mod:`fedward_flare.signed`.
    """

    def __init__(self, signed_job: str) -> None:
        super().__init__()
        self._document: JobDocument = parse_document(decode_signed_job(signed_job).document)
        self._record = JobRecord.begin(self._document)
        self._result_folder = Path()

    def start_controller(self, fl_ctx: FLContext) -> None:
        """Answer whoever watches, and look at tasks often enough for short rounds."""
        self.communicator._task_check_period = _TASK_CHECK_PERIOD_S
        self._engine.register_app_command(PROGRESS_TOPIC, self._answer_progress)
        self._result_folder = run_folder(fl_ctx) / RESULT

    def stop_controller(self, fl_ctx: FLContext) -> None:
        """Nothing is left to do: the record was written when the control flow ended."""

    def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        """Do the job and write its record, whichever way it ends."""
        try:
            self._run(abort_signal, fl_ctx)
        except Stopped as error:
            self._end("aborted", error.code)
        except FedwardError as error:
            self._end("failed", error.code)
            self.system_panic(error.code, fl_ctx)
        else:
            self._end("completed", None)

    def process_result_of_unknown_task(
        self,
        client: Client,
        task_name: str,
        client_task_id: str,
        result: Shareable,
        fl_ctx: FLContext,
    ) -> None:
        """A site has answered a task that is over."""
        self._take_late(client.name, result)

    @abstractmethod
    def _run(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        """Do the job and keep ``self._record``."""

    def _take_late(self, site: str, answer: Shareable) -> None:
        """Do with a late answer what the job's kind asks for; by default nothing."""

    def _ask(
        self,
        name: str,
        message: Shareable,
        *,
        receive: Receive,
        is_complete: Callable[[], bool],
        context: Context,
        targets: Collection[str] = (),
    ) -> None:
        """Send one task to sites of the job and wait until ``is_complete`` or the job's deadline.

        Args:
            name: The task's name.
            message: What each site gets.
            receive: Takes a site's name and answer; called by one thread at a time.
            is_complete: Whether there is nobody left to wait for.
            context: NVFLARE's abort signal and context.
            targets: The sites; empty for all.

        Raises:
            Stopped: the job was aborted.
        """
        abort_signal, fl_ctx = context
        sites, deadline_s = list(targets or self._document.sites), self._document.job.sites.deadline_s
        gathering = Gathering(receive, is_complete, self._take_late)
        task = Task(
            name=name,
            data=message,
            timeout=math.ceil(deadline_s) + _TIMEOUT_MARGIN_S,
            result_received_cb=gathering.on_result,
        )
        self.broadcast(task, fl_ctx, targets=sites, min_responses=len(sites))
        try:
            gathering.wait(deadline_s=deadline_s, abort_signal=abort_signal)
        finally:
            self.cancel_task(task)

    def _ask_everybody(
        self,
        name: str,
        message: Shareable,
        judge: Callable[[str, Shareable], SiteOutcome],
        context: Context,
    ) -> dict[str, SiteOutcome]:
        """Send one task to every site of the job; the record names what each has done, and who was silent.

        Args:
            name: The task's name.
            message: What each site gets.
            judge: Gives what a site's answer amounts to; the code of an error of ours stands for itself.
            context: NVFLARE's abort signal and context.

        Returns:
            The outcome of each site that answered.

        Raises:
            Stopped: the job was aborted.
        """
        outcomes: dict[str, SiteOutcome] = {}

        def receive(site: str, answer: Shareable) -> None:
            try:
                outcomes[site] = judge(site, answer)
            except FedwardError as error:
                outcomes[site] = SiteOutcome(code=error.code)
            self._record = self._record.with_sites(outcomes)

        self._ask(
            name,
            message,
            receive=receive,
            is_complete=lambda: len(outcomes) == len(self._document.sites),
            context=context,
        )
        self._note_silent(outcomes)
        return outcomes

    def _note_silent(self, outcomes: Mapping[str, SiteOutcome]) -> None:
        silent = {site: SiteOutcome(code="deadline_missed") for site in self._document.sites if site not in outcomes}
        self._record = self._record.with_sites({**outcomes, **silent})

    def _ask_directly(
        self,
        topic: str,
        message: Shareable,
        targets: Collection[str],
        receive: Receive,
        abort_signal: Signal,
    ) -> None:
        """Send a message straight to sites' running job processes and wait until each has answered, or not in time.

        Raises:
            Stopped: the job was aborted.
        """
        answered: set[str] = set()

        def take(site: str, answer: Shareable) -> None:
            answered.add(site)
            receive(site, answer)

        gathering = Gathering(take, lambda: set(targets) <= answered)

        def send(site: str) -> None:
            replies = self._engine.send_aux_request(
                [site], topic, message, _DIRECT_S, self._engine.new_context(), optional=True
            )
            answer = (replies or {}).get(site)
            gathering.take(site, answer if isinstance(answer, Shareable) else exchange.no_answer())

        for site in targets:
            threading.Thread(target=send, args=(site,), name=f"{topic} {site}", daemon=True).start()
        gathering.wait(deadline_s=_DIRECT_S + 1, abort_signal=abort_signal)

    def _end(self, status: Literal["completed", "failed", "aborted"], code: str | None) -> None:
        self._record = self._record.end(status, code)
        write_text(self._result_folder / RECORD, self._record.model_dump_json(indent=2) + "\n")

    def _answer_progress(self, topic: str, data: object, fl_ctx: FLContext) -> dict[str, Any]:
        return pack_progress(self._record)


def run_folder(fl_ctx: FLContext) -> Path:
    """Give the job's own folder on the server; NVFLARE keeps it with the job and then removes it."""
    workspace: Workspace = fl_ctx.get_prop(FLContextKey.WORKSPACE_OBJECT)
    return Path(workspace.get_run_dir(fl_ctx.get_job_id()))


def server_folder(fl_ctx: FLContext) -> Path:
    """Give the folder that outlives the server's jobs: the one that its service names, else its kit."""
    named = os.environ.get(SERVER_STATE)
    return Path(named) if named else _kit(fl_ctx)


def _kit(fl_ctx: FLContext) -> Path:
    workspace: Workspace = fl_ctx.get_prop(FLContextKey.WORKSPACE_OBJECT)
    return Path(workspace.get_root_dir())


def root_certificate(fl_ctx: FLContext) -> Path:
    """Give the federation's root certificate in the server's kit."""
    return _kit(fl_ctx) / "startup" / "rootCA.pem"


def application_folder(fl_ctx: FLContext) -> Path:
    """Give the folder of the server's application, where a publishing job's release lies."""
    workspace: Workspace = fl_ctx.get_prop(FLContextKey.WORKSPACE_OBJECT)
    return Path(workspace.get_app_dir(fl_ctx.get_job_id()))
