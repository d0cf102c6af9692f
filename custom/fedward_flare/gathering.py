"""Waiting for the sites' answers to one task, as they come in on NVFLARE's threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from nvflare.apis.controller_spec import ClientTask
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal

from fedward.errors import Stopped

#: A waiting controller looks this often (s) whether the job was aborted.
_LOOK_S = 0.5


class Gathering:
    """One task's answers.

    Args:
        receive: Takes a site's name and its answer; called by one thread at a time.
        is_complete: Whether there is nobody left to wait for; asked after each answer.
    """

    def __init__(self, receive: Callable[[str, Shareable], None], is_complete: Callable[[], bool]) -> None:
        self._receive = receive
        self._is_complete = is_complete
        self._condition = threading.Condition()

    def on_result(self, client_task: ClientTask, fl_ctx: FLContext) -> None:
        """Take one answer and let go of it, so that no weights stay in NVFLARE's records."""
        answer, client_task.result = client_task.result, None
        self.take(client_task.client.name, answer)

    def take(self, site: str, answer: Shareable) -> None:
        """Take an answer that came by another way."""
        with self._condition:
            self._receive(site, answer)
            self._condition.notify_all()

    def wait(self, *, deadline_s: float, abort_signal: Signal) -> None:
        """Wait until all have answered or ``deadline_s`` seconds have passed.

        Raises:
            Stopped: the job was aborted.
        """
        until = time.monotonic() + deadline_s
        with self._condition:
            while not self._is_complete():
                if abort_signal.triggered:
                    raise Stopped("aborted", "the job was aborted")
                left = until - time.monotonic()
                if left <= 0:
                    return
                self._condition.wait(min(left, _LOOK_S))
