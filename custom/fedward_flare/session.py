"""One person's session with a running federation: submit a job, watch it, abort it, fetch what came of it.

A job has one id, that of its signed document; NVFLARE's own id stays inside this module.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nvflare.fuel.flare_api.api_spec import (
    AuthenticationError,
    AuthorizationError,
    InternalError,
    JobNotDone,
    JobNotFound,
    JobNotRunning,
    NoConnection,
    NoReply,
    SessionClosed,
)
from nvflare.fuel.flare_api.flare_api import Session as FlareSession
from nvflare.fuel.flare_api.flare_api import new_secure_session

from fedward.errors import FederationError
from fedward.federation.record import JobRecord
from fedward_flare.jobs import PreparedJob, export
from fedward_flare.progress import PROGRESS_TOPIC, parse_progress
from fedward_flare.quiet import quietly
from fedward_flare.results import FinishedJob, keep_result
from fedward_flare.workdir import LOOPBACK, Workdir

#: A new session stands within a second; a server that is starting takes a few.
CONNECT_TIMEOUT_S = 20.0
_TRY_S = 5.0

#: How long (s) somebody who watches a job bears a server that does not answer.
_PATIENCE_S = 30.0

_FINISHED = "FINISHED"


@dataclass(frozen=True)
class ListedJob:
    """One job as the server knows it."""

    id: str
    name: str
    status: str
    submitted: str


class Session:
    """A connection that stays open until :meth:`close`."""

    def __init__(self, flare: FlareSession, workdir: Workdir) -> None:
        self._flare = flare
        self._workdir = workdir

    def close(self) -> None:
        """Log out."""
        with quietly(), contextlib.suppress(Exception):
            self._flare.close()

    def connected_sites(self) -> tuple[str, ...]:
        """Give the names of the sites that the server hears from."""
        with _explained():
            return tuple(sorted(client.name for client in self._flare.get_system_info().client_info))

    def submit(self, prepared: PreparedJob) -> str:
        """Submit a signed job and give its id.

        Raises:
            FederationError: the server refuses it.
        """
        with tempfile.TemporaryDirectory(prefix="job-", dir=self._workdir.root / "tmp") as folder:
            self.submit_folder(export(prepared, Path(folder) / "job"))
        return prepared.document.id

    def submit_folder(self, folder: Path) -> None:
        """Submit an NVFLARE job that lies in ``folder``; signature files are added to it."""
        with _explained():
            self._flare.submit_job(str(folder))

    def jobs(self) -> tuple[ListedJob, ...]:
        """Give all jobs that the server knows, the latest first."""
        with _explained():
            listed = self._flare.list_jobs()
        return tuple(sorted((_listed(job) for job in listed), key=lambda job: job.submitted, reverse=True))

    def abort(self, job_id: str) -> None:
        """Ask the server to end a job; the sites stop within seconds.

        Raises:
            FederationError: there is no such job.
        """
        _, flare_id = self._find(job_id)
        with _explained(), contextlib.suppress(JobNotRunning):
            self._flare.abort_job(flare_id)

    def abort_all(self) -> None:
        """End every job that is not finished."""
        with _explained():
            unfinished = [job["job_id"] for job in self._flare.list_jobs() if not _is_finished(job["status"])]
            for flare_id in unfinished:
                with contextlib.suppress(JobNotRunning):
                    self._flare.abort_job(flare_id)

    def shut_down(self) -> None:
        """Ask the server and every site to end; only the operator may."""
        with _explained():
            self._flare.shutdown("all", wait=False)

    def watch(
        self,
        job_id: str,
        *,
        on_progress: Callable[[JobRecord], None] = lambda _: None,
        poll_s: float = 0.5,
        timeout_s: float | None = None,
    ) -> FinishedJob:
        """Follow a job to its end, then fetch its result.

        Args:
            job_id: From :meth:`submit`, or its beginning.
            on_progress: Called with the controller's record whenever it has changed.
            poll_s: Time between two looks.
            timeout_s: Give up watching after this; the job goes on.

        Raises:
            FederationError: no such job, the server is lost, or the job ended without a record (``job_failed``).
        """
        job_id, flare_id = self._find(job_id)
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        seen: JobRecord | None = None
        while not _is_finished(status := self._status_patiently(flare_id)):
            record = self._progress(flare_id)
            if record is not None and record != seen:
                seen = record
                on_progress(record)
            if deadline is not None and time.monotonic() > deadline:
                raise FederationError("job_failed", f"job {job_id} is not finished after {timeout_s:.0f} s: {status}")
            time.sleep(poll_s)
        return self._fetch(job_id, flare_id, status)

    def fetch(self, job_id: str) -> FinishedJob:
        """Bring the result of a finished job into the coordinator's folder and its curves into ``tensorboard/``.

        Raises:
            FederationError: no such job, it is not finished, or it left no record.
        """
        job_id, flare_id = self._find(job_id)
        return self._fetch(job_id, flare_id, self._status(flare_id))

    def _fetch(self, job_id: str, flare_id: str, status: str) -> FinishedJob:
        with _explained():
            location = Path(self._flare.download_job_result(flare_id))
        try:
            return keep_result(location, self._workdir, job_id=job_id, status=status)
        finally:
            shutil.rmtree(location, ignore_errors=True)

    def _status(self, flare_id: str) -> str:
        with _explained():
            return str(self._flare.get_job_meta(flare_id)["status"])

    def _status_patiently(self, flare_id: str) -> str:
        """Ask again for a while: a server that is short of processor time may miss an answer."""
        until = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return self._status(flare_id)
            except FederationError as error:
                if error.code != "not_reachable" or time.monotonic() > until:
                    raise
                time.sleep(1.0)

    def _progress(self, flare_id: str) -> JobRecord | None:
        try:
            with quietly():
                answer = self._flare.do_app_command(flare_id, PROGRESS_TOPIC, {})
        except (NoReply, JobNotRunning, InternalError, NoConnection, RuntimeError):
            return None  # the job is not yet, or no longer, running: its status says which
        return parse_progress(answer)

    def _find(self, job_id: str) -> tuple[str, str]:
        """Give the full id of a job and NVFLARE's own."""
        with _explained():
            listed = sorted(self._flare.list_jobs(), key=lambda job: str(job.get("submit_time", "")))
        # A job that was resumed stands there twice: its latest run counts.
        ids = {_listed(job).id: str(job["job_id"]) for job in listed}
        found = [full for full in ids if full.startswith(job_id)]
        if len(found) != 1 or not job_id:
            how_many = f"{len(found)} jobs" if found else "no job"
            raise FederationError("unknown_job", f"the server knows {how_many} {job_id}; see: fedward job list")
        return found[0], ids[found[0]]


@contextlib.contextmanager
def connect(workdir: Workdir, *, as_operator: bool = False, timeout_s: float = CONNECT_TIMEOUT_S) -> Iterator[Session]:
    """Open a session as the coordinator (or the operator), trying again until ``timeout_s`` is over.

    Raises:
        FederationError: no federation was started from the work folder, the kit is missing (``kit_missing``), or the
            server does not answer.
    """
    state = workdir.state()
    if not (state.processes or state.server):
        raise FederationError("not_running", f"no federation runs from {workdir.root}; start it with: fedward poc up")
    person = state.operator if as_operator else state.coordinator
    listener = (state.server or LOOPBACK, state.port)
    session = Session(_open(person, workdir.login(person), listener=listener, timeout_s=timeout_s), workdir)
    try:
        yield session
    finally:
        session.close()


def _open(person: str, kit: Path, *, listener: tuple[str, int], timeout_s: float) -> FlareSession:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            _require_listener(listener)
            with _explained():
                return new_secure_session(person, str(kit), timeout=min(_TRY_S, timeout_s), auto_login_max_tries=1)
        except FederationError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _require_listener(listener: tuple[str, int]) -> None:
    """NVFLARE's client waits long, and leaks its socket, where nobody listens: ask first."""
    try:
        socket.create_connection(listener, timeout=_TRY_S if listener[0] != LOOPBACK else 1.0).close()
    except OSError as error:
        host, port = listener
        raise FederationError("not_reachable", f"nobody listens on port {port} of {host}: {error}") from error


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Turn NVFLARE's exceptions into ours and keep its prints away."""
    try:
        with quietly():
            yield
    except (NoConnection, SessionClosed) as error:
        raise FederationError("not_reachable", f"the server does not answer: {error}") from error
    except (AuthenticationError, AuthorizationError) as error:
        raise FederationError("not_allowed", f"the server refuses this person: {error}") from error
    except JobNotFound as error:
        raise FederationError("unknown_job", f"the server knows no such job: {error}") from error
    except JobNotDone as error:
        raise FederationError("job_failed", f"the job is not finished: {error}") from error
    except (InternalError, RuntimeError) as error:
        raise FederationError("not_reachable", f"the server could not do it: {error}") from error


def _is_finished(status: str) -> bool:
    return status.startswith(_FINISHED)


def _listed(job: dict[str, Any]) -> ListedJob:
    name, _, job_id = str(job.get("job_name", "")).rpartition(".")
    return ListedJob(id=job_id, name=name, status=str(job.get("status", "")), submitted=str(job.get("submit_time", "")))
