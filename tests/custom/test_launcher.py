from __future__ import annotations

import os
import signal
import sys

import pytest
from nvflare.apis.job_launcher_spec import JobReturnCode
from nvflare.utils.process_utils import ProcessAdapter, spawn_process

from fedward_flare.launcher import RestartingHandle

SLEEP = "import time; time.sleep(60)"


class Spawner:
    def __init__(self, *programs: str) -> None:
        self.programs = list(programs)
        self.started: list[ProcessAdapter] = []

    def __call__(self) -> ProcessAdapter:
        program = self.programs[min(len(self.started), len(self.programs) - 1)]
        self.started.append(spawn_process([sys.executable, "-c", program], dict(os.environ)))
        return self.started[-1]


def kill_self(number: int) -> str:
    return f"import os; os.kill(os.getpid(), {number})"


def test_a_process_that_dies_by_a_signal_is_started_again() -> None:
    spawn = Spawner(kill_self(signal.SIGKILL), "pass")
    handle = RestartingHandle(spawn)
    handle.wait()
    assert len(spawn.started) == 2
    assert handle.poll() == JobReturnCode.SUCCESS


def test_a_process_that_keeps_dying_is_given_up_without_ending_the_others_job() -> None:
    spawn = Spawner(kill_self(signal.SIGSEGV))
    handle = RestartingHandle(spawn, max_restarts=3)
    handle.wait()
    assert len(spawn.started) == 4
    assert handle.poll() == JobReturnCode.UNKNOWN


@pytest.mark.parametrize(
    ("program", "code"), [("pass", JobReturnCode.SUCCESS), ("raise SystemExit(1)", JobReturnCode.EXECUTION_ERROR)]
)
def test_a_process_that_ends_by_itself_is_not_started_again(program: str, code: int) -> None:
    spawn = Spawner(program)
    handle = RestartingHandle(spawn)
    handle.wait()
    assert len(spawn.started) == 1
    assert handle.poll() == code


def test_a_process_that_is_told_to_end_is_not_started_again() -> None:
    spawn = Spawner(SLEEP)
    handle = RestartingHandle(spawn)
    assert handle.poll() == JobReturnCode.UNKNOWN
    handle.terminate()
    handle.wait()
    assert len(spawn.started) == 1
    assert handle.has_ended
