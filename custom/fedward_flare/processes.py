"""Processes that are ours: started in a session of their own, found again, and ended without touching others.

Every process that a federation starts carries the federation's mark in its environment, and so does every process
that those start (a job's, above all). A process identifier alone proves nothing: the system gives it to the next one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict

#: The environment variable that holds the federation's mark.
MARK = "FEDWARD_FEDERATION"

#: Start times of one process, read twice, differ by less than this (s).
_SAME_START_S = 1.0


class OwnProcess(BaseModel):
    """One started process: its name in the federation, identifier, and start time (s since 1970)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    pid: int
    started_s: float


def start(name: str, command: Sequence[str], *, environment: Mapping[str, str], log: Path) -> OwnProcess:
    """Start ``command`` in a new session; what it prints goes to the end of ``log``."""
    log.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    pid = os.posix_spawn(command[0], list(command), dict(environment), file_actions=actions, setsid=True)
    return OwnProcess(name=name, pid=pid, started_s=psutil.Process(pid).create_time())


def is_alive(process: OwnProcess) -> bool:
    """Say whether this very process still runs; another one under the same identifier does not count."""
    try:
        found = psutil.Process(process.pid)
        same = abs(found.create_time() - process.started_s) < _SAME_START_S
        return bool(same and found.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def running(mark: str) -> list[psutil.Process]:
    """Give every running process of the federation with this ``mark``, those of its jobs included."""
    return [process for process in psutil.process_iter() if _carries(process, mark)]


def end(mark: str, *, grace_s: float) -> None:
    """End every process of the federation with this ``mark``: asked first, forced after ``grace_s`` seconds.

    An interrupt while it waits shortens the wait and leaves nothing running either.
    """
    try:
        asked = running(mark)
        for process in asked:
            _signal(process, force=False)
        psutil.wait_procs(asked, timeout=grace_s)
    finally:
        while remaining := running(mark):
            for process in remaining:
                _signal(process, force=True)
            psutil.wait_procs(remaining, timeout=1.0)


def wait_until_ended(mark: str, *, timeout_s: float) -> bool:
    """Wait for every process of the federation to end by itself and say whether all did."""
    _, alive = psutil.wait_procs(running(mark), timeout=timeout_s)
    return not alive and not running(mark)


def _carries(process: psutil.Process, mark: str) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == mark)
    except (psutil.Error, OSError):
        return False


def _signal(process: psutil.Process, *, force: bool) -> None:
    try:
        if force:
            process.kill()
        else:
            process.terminate()
    except psutil.NoSuchProcess:
        return
