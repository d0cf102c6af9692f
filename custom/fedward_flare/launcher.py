"""How a job's process is started, at the server and at a site; one that dies at a site is started again by the site.

NVFLARE ends everybody's job when one site's job process dies by a signal (out of memory, a crash in native code),
whatever minimum the job has. The process that takes its place fetches the same task again; what must survive lies on
the site's disk.
"""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nvflare.apis.fl_constant import FLContextKey, JobConstants
from nvflare.apis.fl_context import FLContext
from nvflare.apis.job_launcher_spec import JobHandleSpec, JobReturnCode
from nvflare.apis.workspace import Workspace
from nvflare.app_common.job_launcher.client_process_launcher import ClientProcessJobLauncher
from nvflare.app_common.job_launcher.process_launcher import JOB_RETURN_CODE_MAPPING
from nvflare.app_common.job_launcher.server_process_launcher import ServerProcessJobLauncher
from nvflare.utils.job_launcher_utils import get_credential_env
from nvflare.utils.process_utils import ProcessAdapter, spawn_process

from fedward_flare.job_process import job_command
from fedward_flare.locks import require_in_place

#: A process that dies more often than this in one job has a reason that starting it again does not cure.
MAX_RESTARTS = 3

_log = logging.getLogger(__name__)


class RestartingHandle(JobHandleSpec):
    """One job's process at a site, and its successors.

    Args:
        spawn: Starts the process; called again after a death by a signal.
        max_restarts: How often.
    """

    def __init__(self, spawn: Callable[[], ProcessAdapter], *, max_restarts: int = MAX_RESTARTS) -> None:
        super().__init__()
        self._spawn = spawn
        self._restarts_left = max_restarts
        self._lock = threading.Lock()
        self._is_wanted = True
        self._process = spawn()

    def terminate(self) -> None:
        """End the process for good."""
        with self._lock:
            self._is_wanted = False
            self._process.terminate()

    def poll(self) -> int:
        """Give NVFLARE's return code; a death by a signal is UNKNOWN, which does not end the others' job."""
        code = self._process.poll()
        if code is None or code < 0:
            return int(JobReturnCode.UNKNOWN)
        return int(JOB_RETURN_CODE_MAPPING.get(code, JobReturnCode.EXECUTION_ERROR))

    @property
    def has_ended(self) -> bool:
        """Whether the last process has ended."""
        return self._process.poll() is not None

    def wait(self) -> None:
        """Wait until the process has ended and no other takes its place."""
        self._process.wait()
        while self._start_again():
            self._process.wait()

    def _start_again(self) -> bool:
        with self._lock:
            code = self._process.poll()
            died = code is not None and code < 0
            if not (died and self._is_wanted and self._restarts_left > 0):
                return False
            self._restarts_left -= 1
            _log.warning("the job process died by signal %d: starting it again", -code)
            self._process = self._spawn()
            return True


class RestartingLauncher(ClientProcessJobLauncher):
    """NVFLARE's launcher with a handle that starts a dead process again; it also clears the folders of ended jobs."""

    def __init__(self) -> None:
        super().__init__()
        self._folders: dict[Path, RestartingHandle] = {}

    def launch_job(self, job_meta: dict[str, Any], fl_ctx: FLContext) -> RestartingHandle:
        """Start the job's process with NVFLARE's own arguments; jobs bring no code, so no folder of theirs is added."""
        require_in_place()
        self._clear_ended()
        credentials = get_credential_env(fl_ctx.get_prop(FLContextKey.JOB_PROCESS_ARGS) or {})
        environment = {**os.environ, **credentials}
        command = shlex.split(self.get_command(job_meta, fl_ctx), posix=True)
        handle = RestartingHandle(lambda: spawn_process(command, environment))
        self._folders[_run_folder(job_meta, fl_ctx)] = handle
        return handle

    def get_command(self, job_meta: dict[str, Any], fl_ctx: FLContext) -> str:
        """Give NVFLARE's command in our program."""
        return job_command(super().get_command(job_meta, fl_ctx))

    def _clear_ended(self) -> None:
        """NVFLARE keeps a site's run folder for ever; the one of the latest job stays for whoever reads its log."""
        ended = [folder for folder, handle in self._folders.items() if handle.has_ended]
        for folder in ended:
            shutil.rmtree(folder, ignore_errors=True)
            del self._folders[folder]


class ServerLauncher(ServerProcessJobLauncher):
    """NVFLARE's launcher of the server's job processes, in our program."""

    def get_command(self, job_meta: dict[str, Any], fl_ctx: FLContext) -> str:
        """Give NVFLARE's command in our program."""
        return job_command(super().get_command(job_meta, fl_ctx))


def _run_folder(job_meta: dict[str, Any], fl_ctx: FLContext) -> Path:
    workspace: Workspace = fl_ctx.get_prop(FLContextKey.WORKSPACE_OBJECT)
    return Path(workspace.get_run_dir(job_meta[JobConstants.JOB_ID]))
