"""A component that stands in a malicious server's own kit: it sends any site any request and says what came back.

The test writes a request as a pickle into the folder; the server's process sends it and writes the answer beside it.
"""

from __future__ import annotations

import pickle
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nvflare.apis.event_type import EventType
from nvflare.apis.fl_component import FLComponent
from nvflare.apis.fl_context import FLContext
from nvflare.apis.signal import Signal
from nvflare.fuel.f3.cellnet.defs import CellChannel
from nvflare.private.admin_defs import Message
from nvflare.private.defs import new_cell_message

from fedward.release.package import ReleaseParts
from fedward_flare import exchange, tasks
from fedward_flare.once_controllers import InferenceController


class ModelBringingController(InferenceController):
    """Sends the model that the sites shall run with the inference task."""

    def _run(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        message = exchange.pack_release(ReleaseParts(model=b"weights", passport=b"{}", signature=b"x"))
        self._send_once(tasks.INFER_TASK, message, context=(abort_signal, fl_ctx))


@dataclass(frozen=True)
class Order:
    """What the server sends to a site: a message of the engine to the parent process, or anything else as it is."""

    site: str
    topic: str
    body: Any = ""
    headers: dict[str, Any] = field(default_factory=dict)
    channel: str = CellChannel.CLIENT_MAIN


class Malice(FLComponent):
    def __init__(self, folder: str) -> None:
        super().__init__()
        self._folder = Path(folder)

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        if event_type == EventType.SYSTEM_START:
            threading.Thread(target=self._serve, args=(fl_ctx.get_engine(),), daemon=True).start()

    def _serve(self, engine: Any) -> None:
        while True:
            for path in sorted(self._folder.glob("*.order")):
                answer = _send(engine, pickle.loads(path.read_bytes()))
                path.unlink()
                temporary = path.with_suffix(".part")
                temporary.write_bytes(pickle.dumps(answer))
                temporary.rename(path.with_suffix(".answer"))
            time.sleep(0.02)


def _send(engine: Any, order: Order) -> tuple[str, str]:
    request = Message(order.topic, order.body)
    request.set_headers(order.headers)
    try:
        if order.channel != CellChannel.CLIENT_MAIN:
            reply = engine.cell.core_cell.send_request(
                channel=order.channel,
                target=order.site,
                topic=order.topic,
                request=new_cell_message({}, order.body),
                timeout=10.0,
            )
            return str(reply.headers), str(reply.payload)
        reply = engine.cell.send_request(
            channel=order.channel,
            target=order.site,
            topic=order.topic,
            request=new_cell_message({}, request),
            timeout=10.0,
        )
        return str(reply.payload.headers), str(reply.payload.body)
    except Exception as error:  # noqa: BLE001  the test reads it
        return "no answer", repr(error)


def give(folder: Path, order: Order) -> tuple[str, str]:
    """Have the server send ``order``; give the headers and the body of the site's answer."""
    name = folder / f"{time.monotonic_ns()}"
    name.with_suffix(".part").write_bytes(pickle.dumps(order))
    name.with_suffix(".part").rename(name.with_suffix(".order"))
    deadline = time.monotonic() + 30
    while not name.with_suffix(".answer").exists():
        assert time.monotonic() < deadline, "the server's process does not answer"
        time.sleep(0.02)
    return pickle.loads(name.with_suffix(".answer").read_bytes())
