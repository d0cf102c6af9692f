"""A lasting local federation: one server and one process a hospital on this machine, all below one work folder.

It stands for what hospitals run on their own machines. One owner holds every key here, so a local federation protects
nobody from that owner.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from fedward.errors import FederationError
from fedward.randomness import Secret
from fedward.settings.federation import FederationSettings
from fedward_flare import processes
from fedward_flare.folders import render_coordinator, render_hospitals
from fedward_flare.kits import provision
from fedward_flare.services import start_all
from fedward_flare.session import Session, connect
from fedward_flare.workdir import LOOPBACK, FederationState, Workdir

#: All hospitals are registered within 3-5 s on two cores; a slow disk or a busy machine takes longer.
START_TIMEOUT_S = 90.0

#: `shutdown all` takes 5 s, and 30 s when a site has died.
SHUTDOWN_TIMEOUT_S = 20.0
_GRACE_S = 5.0

Progress = Callable[[str], None]


@dataclass(frozen=True)
class StartOptions:
    """What a test or a benchmark changes about a local federation.

    Args:
        builder: Arguments for :class:`fedward_flare.provisioning.FedwardBuilder`.
        environment: Variables for every process.
    """

    builder: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PocStatus:
    """What runs: the processes by name, and which hospitals the server sees (none when it does not run)."""

    project: str
    port: int
    processes: Mapping[str, bool]
    connected: tuple[str, ...]

    @property
    def is_running(self) -> bool:
        """Whether the server's process is alive."""
        return self.processes.get("server", False)


def up(
    federation: FederationSettings,
    workdir: Workdir,
    *,
    options: StartOptions | None = None,
    progress: Progress = lambda _: None,
) -> None:
    """Provision and start the federation and wait until every hospital is registered.

    Keys, certificates and site files that exist in the work folder are kept. When anything fails, or the program is
    interrupted, everything that was started is ended.

    Raises:
        FederationError: the folder belongs to another project, the port is taken, or the start failed.
    """
    with _terminable():
        _up(federation, workdir, options or StartOptions(), progress)


def down(workdir: Workdir, *, progress: Progress = lambda _: None) -> None:
    """Abort what runs, shut everything down, and end what does not go by itself. Nothing is left running.

    Raises:
        FederationError: see :func:`status`.
    """
    state = _local_state(workdir)
    try:
        if state.mark and processes.running(state.mark):
            progress("stopping the jobs and the hospitals")
            _shut_down(workdir, state)
    finally:
        if state.mark:
            processes.end(state.mark, grace_s=_GRACE_S)
        workdir.write_state(state.model_copy(update={"processes": ()}))


def status(workdir: Workdir) -> PocStatus:
    """Say what runs in the work folder.

    Raises:
        FederationError: ``not_running``: it is not a work folder of fedward; ``workdir_not_ours``: it is one from which
            no server is started.
    """
    state = _local_state(workdir)
    alive = {process.name: processes.is_alive(process) for process in state.processes}
    connected: tuple[str, ...] = ()
    if alive.get("server"):
        with contextlib.suppress(FederationError), connect(workdir, timeout_s=10.0) as session:
            connected = session.connected_sites()
    return PocStatus(project=state.project, port=state.port, processes=alive, connected=connected)


@contextlib.contextmanager
def running(
    federation: FederationSettings,
    workdir: Workdir,
    *,
    options: StartOptions | None = None,
    progress: Progress = lambda _: None,
) -> Iterator[Session]:
    """Have the federation up inside the block, and nothing left of it after, however the block ends.

    A request to terminate (SIGTERM, SIGHUP) ends the block as an interrupt would.
    """
    with _terminable():
        try:
            up(federation, workdir, options=options, progress=progress)
            with connect(workdir) as session:
                yield session
        finally:
            down(workdir, progress=progress)


def _up(federation: FederationSettings, workdir: Workdir, options: StartOptions, progress: Progress) -> None:
    require_same_project(federation, workdir)
    port = choose_port(federation.federation.port)
    state = _state_of(federation, port)
    workdir.write_state(state)
    progress("writing keys and kits")
    provision(federation, workdir, port=port, builder=dict(options.builder))
    render_hospitals(federation, workdir)
    render_coordinator(workdir)
    try:
        progress("starting the server and the hospitals")
        started = start_all(federation, workdir, mark=state.mark, extra=options.environment)
        workdir.write_state(state.model_copy(update={"processes": started}))
        progress("waiting for the hospitals to register")
        _wait_until_registered(workdir)
    except BaseException:
        processes.end(state.mark, grace_s=_GRACE_S)
        workdir.write_state(state)
        raise


def _local_state(workdir: Workdir) -> FederationState:
    """Give the state of a work folder from which a server may be started."""
    state = workdir.state()
    if state.server:
        raise FederationError(
            "workdir_not_ours",
            f"{workdir.root} is the folder of {state.coordinator} in {state.project}, whose server is {state.server}, "
            f"port {state.port}; nothing is started from here. See: fedward job list --workdir {workdir.root}",
        )
    return state


def require_same_project(federation: FederationSettings, workdir: Workdir) -> None:
    """Refuse a work folder in which another federation lies, or one that runs elsewhere.

    Raises:
        FederationError: ``workdir_not_ours``.
    """
    state = _local_state(workdir)
    expected = (federation.federation.project, federation.names)
    found = (state.project, state.hospitals)
    if state.project and found != expected:
        raise FederationError(
            "workdir_not_ours",
            f"{workdir.root} holds the federation {found[0]} of {', '.join(found[1])}; "
            f"expected {expected[0]} of {', '.join(expected[1])}",
        )


def choose_port(wanted: int | None) -> int:
    """Give the wanted port if it is free on this machine, or any free one.

    gRPC shares a listening port with whoever asks for it too, so the test is made without that option.
    """
    with socket.socket() as probe:
        try:
            probe.bind((LOOPBACK, wanted or 0))
        except OSError as error:
            raise FederationError(
                "port_in_use", f"port {wanted} is taken; change [federation] port, or leave it out for a free one"
            ) from error
        return int(probe.getsockname()[1])


def _state_of(federation: FederationSettings, port: int) -> FederationState:
    project = federation.federation
    return FederationState(
        project=project.project,
        coordinator=project.coordinator,
        operator=project.operator,
        hospitals=federation.names,
        port=port,
        mark=Secret().token(),
    )


def _wait_until_registered(workdir: Workdir) -> None:
    expected = set(workdir.state().hospitals)
    deadline = time.monotonic() + START_TIMEOUT_S
    missing = expected
    while time.monotonic() < deadline:
        _require_alive(workdir)
        with contextlib.suppress(FederationError), connect(workdir, timeout_s=5.0) as session:
            while (missing := expected - set(session.connected_sites())) and time.monotonic() < deadline:
                _require_alive(workdir)
                time.sleep(0.2)
            if not missing:
                return
        time.sleep(0.2)
    raise FederationError(
        "start_failed",
        f"not registered after {START_TIMEOUT_S:.0f} s: {', '.join(sorted(missing))}; see {workdir.logs}",
    )


def _require_alive(workdir: Workdir) -> None:
    for process in workdir.state().processes:
        if not processes.is_alive(process):
            log = workdir.logs / f"{process.name}.log"
            raise FederationError(
                "start_failed", f"{process.name} ended while starting; the end of {log}:\n{_tail(log)}"
            )


def _tail(log: Path, lines: int = 5) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def _shut_down(workdir: Workdir, state: FederationState) -> None:
    with contextlib.suppress(FederationError), connect(workdir, as_operator=True, timeout_s=5.0) as session:
        session.abort_all()
        session.shut_down()
        processes.wait_until_ended(state.mark, timeout_s=SHUTDOWN_TIMEOUT_S)


class _Terminated(SystemExit):
    """The program was asked to end by a signal."""


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into an exception, so that what was started is ended; only the main thread can."""

    def stop(number: int, _: FrameType | None) -> None:
        raise _Terminated(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
