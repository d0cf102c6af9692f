"""NVFLARE's communicator in the place of a network: every site is a function."""

from __future__ import annotations

import threading
from collections.abc import Callable

from nvflare.apis.client import Client
from nvflare.apis.controller_spec import ClientTask, Task
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable

Answer = Shareable | None
Site = Callable[[str, Shareable], Answer]


class StubCommunicator:
    """Has every site answer in a thread of its own; a site that gives None stays silent."""

    def __init__(self, sites: dict[str, Site]) -> None:
        self.sites = sites
        self.asked: list[tuple[str, tuple[str, ...]]] = []
        self.cancelled = 0
        self.late: list[Callable[[], None]] = []

    def broadcast(self, task: Task, fl_ctx: FLContext, targets: list[str], *_: int) -> None:
        self.asked.append((task.name, tuple(targets)))
        for name in targets:
            threading.Thread(target=self._answer, args=(name, task, fl_ctx)).start()

    def _answer(self, name: str, task: Task, fl_ctx: FLContext) -> None:
        client_task = ClientTask(Client(name, "token"), task)
        client_task.result = self.sites[name](task.name, task.data)
        if client_task.result is not None:
            task.result_received_cb(client_task=client_task, fl_ctx=fl_ctx)

    def cancel_task(self, *_: object) -> None:
        self.cancelled += 1
