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
    """One task's answers, until nobody waits for them any more.

    Args:
        receive: Takes a site's name and its answer; called by one thread at a time, and never after :meth:`wait`.
        is_complete: Whether there is nobody left to wait for; asked after each answer.
        receive_late: Takes those that come after :meth:`wait`; by default they are dropped.
    """

    def __init__(
        self,
        receive: Callable[[str, Shareable], None],
        is_complete: Callable[[], bool],
        receive_late: Callable[[str, Shareable], None] = lambda *_: None,
    ) -> None:
        self._receive = receive
        self._is_complete = is_complete
        self._receive_late = receive_late
        self._condition = threading.Condition()
        self._is_over = False

    def on_result(self, client_task: ClientTask, fl_ctx: FLContext) -> None:
        """Take one answer and let go of it, so that no weights stay in NVFLARE's records."""
        answer, client_task.result = client_task.result, None
        self.take(client_task.client.name, answer)

    def take(self, site: str, answer: Shareable) -> None:
        """Take an answer that came by another way."""
        with self._condition:
            if self._is_over:
                self._receive_late(site, answer)
                return
            self._receive(site, answer)
            self._condition.notify_all()

    def wait(self, *, deadline_s: float, abort_signal: Signal) -> None:
        """Wait until all have answered or ``deadline_s`` seconds have passed; what comes later is late.

        Raises:
            Stopped: the job was aborted.
        """
        until = time.monotonic() + deadline_s
        with self._condition:
            try:
                while not self._is_complete():
                    if abort_signal.triggered:
                        raise Stopped("aborted", "the job was aborted")
                    left = until - time.monotonic()
                    if left <= 0:
                        return
                    self._condition.wait(min(left, _LOOK_S))
            finally:
                self._is_over = True  # before the lock is free: what the caller decides next stands
