from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from fedward.randomness import Secret
from fedward_flare.processes import MARK, OwnProcess, end, is_alive, running, start

SLEEP = "import time; print('started', flush=True); time.sleep(60)"
#: Ignores the polite request and starts a child of its own in a new session, as NVFLARE's job launcher does.
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
print("started", flush=True)
time.sleep(60)
"""


@pytest.fixture
def mark() -> Iterator[str]:
    mark = Secret().token()
    yield mark
    end(mark, grace_s=0)


def launch(program: str, mark: str, folder: Path) -> OwnProcess:
    log = folder / "log"
    process = start("one", [sys.executable, "-c", program], environment={**os.environ, MARK: mark}, log=log)
    while "started" not in log.read_text():
        time.sleep(0.02)
    return process


def test_everything_with_the_mark_is_ended_and_nothing_else(mark: str, tmp_path: Path) -> None:
    other = Secret().token()
    mine, foreign = launch(STUBBORN, mark, tmp_path / "a"), launch(SLEEP, other, tmp_path / "b")
    assert len(running(mark)) == 2
    end(mark, grace_s=0.2)
    assert running(mark) == []
    assert not is_alive(mine)
    assert is_alive(foreign)
    end(other, grace_s=2)


def test_a_started_process_leads_a_session_of_its_own(mark: str, tmp_path: Path) -> None:
    process = launch(SLEEP, mark, tmp_path)
    assert os.getsid(process.pid) == process.pid != os.getsid(0)


def test_another_process_under_the_same_identifier_is_not_taken_for_ours(mark: str, tmp_path: Path) -> None:
    process = launch(SLEEP, mark, tmp_path)
    assert is_alive(process)
    assert not is_alive(process.model_copy(update={"started_s": process.started_s - 10}))


def test_a_process_that_has_ended_but_was_not_waited_for_is_not_alive(mark: str, tmp_path: Path) -> None:
    process = launch("print('started', flush=True)", mark, tmp_path)
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.02)
    assert not is_alive(process)
    os.waitpid(process.pid, 0)
