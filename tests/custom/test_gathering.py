"""Waiting for the sites' answers: what comes after the waiting changes nothing that was decided."""

from __future__ import annotations

import threading

import pytest
from nvflare.apis.client import Client
from nvflare.apis.controller_spec import ClientTask, Task
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal

from fedward.errors import Stopped
from fedward_flare.gathering import Gathering


class Gathered:
    """A gathering of two sites, and whose answer it took in time and whose late."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.late: list[str] = []
        self.gathering = Gathering(
            lambda site, _: self.taken.append(site),
            lambda: len(self.taken) == 2,
            lambda site, _: self.late.append(site),
        )

    def answer(self, site: str) -> None:
        self.gathering.take(site, Shareable())


def test_it_waits_no_longer_than_for_the_last_answer() -> None:
    gathered = Gathered()
    gathered.answer("east")
    threading.Timer(0.05, gathered.answer, args=("north",)).start()
    gathered.gathering.wait(deadline_s=30, abort_signal=Signal())
    assert (gathered.taken, gathered.late) == (["east", "north"], [])


def test_an_answer_after_the_deadline_is_late_and_taken_no_more() -> None:
    gathered = Gathered()
    gathered.answer("east")
    gathered.gathering.wait(deadline_s=0.0, abort_signal=Signal())
    gathered.answer("north")
    assert (gathered.taken, gathered.late) == (["east"], ["north"])


def test_an_answer_to_an_aborted_job_is_late() -> None:
    gathered, signal = Gathered(), Signal()
    signal.trigger("abort")
    with pytest.raises(Stopped, match="aborted"):
        gathered.gathering.wait(deadline_s=30, abort_signal=signal)
    gathered.answer("east")
    assert (gathered.taken, gathered.late) == ([], ["east"])


def test_nobody_keeps_an_answer_that_nobody_waits_for() -> None:
    gathering = Gathering(lambda *_: None, lambda: True)
    gathering.wait(deadline_s=0.0, abort_signal=Signal())
    task = ClientTask(Client("east", "token"), Task(name="train", data=Shareable()))
    task.result = Shareable()
    gathering.on_result(task, FLContext())
    assert task.result is None
