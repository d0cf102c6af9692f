"""A server and a site that are nothing but NVFLARE's network: ``python wire_peers.py ROLE PORT``.

The site's process has the firewall for words; everything that it is told to say holds a name that must not leave. Each
prints what it received, a JSON object a line.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
from nvflare.apis.shareable import Shareable
from nvflare.apis.utils.decomposers import flare_decomposers
from nvflare.app_common.decomposers import common_decomposers
from nvflare.fuel.f3.cellnet.cell import Cell
from nvflare.fuel.f3.cellnet.utils import make_reply, new_cell_message
from nvflare.fuel.f3.message import Message
from nvflare.fuel.f3.streaming.download_service import DownloadService
from nvflare.private.admin_defs import Message as AdminMessage
from nvflare.private.admin_defs import ok_reply

from fedward_flare import wire
from fedward_flare.locks import TOPICS
from wire_words import CANARY, LENGTH


def say(kind: str, **words: Any) -> None:
    print(json.dumps({"kind": kind, **words}, default=repr), flush=True)


def told(message: Any) -> dict[str, Any]:
    """Give what a message holds, an array as its sum."""
    if isinstance(message, AdminMessage):
        return {"topic": message.topic, "body": message.body, "headers": message.headers}
    if not isinstance(message, dict):
        return {"none": repr(message)}
    return {name: float(value.sum()) if isinstance(value, np.ndarray) else value for name, value in message.items()}


def message(**content: Any) -> Shareable:
    made = Shareable()
    made.update({name.replace("__", "."): value for name, value in content.items()})
    return made


def connected(name: str, port: str) -> Cell:
    flare_decomposers.register()
    common_decomposers.register()
    cell = Cell(fqcn=name, root_url=f"tcp://localhost:{port}", secure=False, credentials={})
    cell.start()
    return cell


def server(port: str) -> None:
    cell = connected("server", port)
    DownloadService.initialize(cell)

    def receive(request: Message) -> Message:
        say(
            "received",
            headers={k: v for k, v in request.headers.items() if k != "cn__route"},
            content=told(request.payload),
        )
        return make_reply("ok", body=message(ok=1))

    for channel, topic in (("server_command", "submit_update"), ("task", "register"), ("log_streaming", "log")):
        cell.register_request_cb(channel=channel, topic=topic, cb=receive)
    say("ready")
    sys.stdin.readline()
    vector = message(fedward__weights=np.ones(LENGTH, np.float32))
    answer = cell.broadcast_request(
        channel="aux_communication",
        topic="fedward.vote",
        targets=["north"],
        request=Message(payload=vector),
        timeout=30.0,
    )["north"]
    say("answered", headers=answer.headers, content=told(answer.payload))
    request = new_cell_message({}, AdminMessage("train.abort", ""))
    answer = cell.send_request(channel="admin", topic="admin", target="north", request=request, timeout=30.0)
    say("answered", headers=answer.headers, content=told(answer.payload))
    say("done")
    sys.stdin.readline()
    cell.stop()


def site(port: str) -> None:
    wire.close_wire(TOPICS)
    cell = connected("north", port)
    DownloadService.initialize(cell)

    def answer(request: Message) -> Message:
        doubled = np.asarray(request.payload["fedward.weights"]) * 2
        return make_reply("ok", error=CANARY, body=message(fedward__update=doubled, more=CANARY))

    def obey(_: Message) -> Message:
        return new_cell_message({"cn__return_code": "ok"}, ok_reply("reply_train.abort", f"aborted {CANARY}"))

    cell.register_request_cb(channel="aux_communication", topic="*", cb=answer)
    cell.register_request_cb(channel="admin", topic="*", cb=obey)
    time.sleep(0.5)
    registration = message(cn="north", site_config={"allow_log_streaming": False, "path": CANARY})
    headers = {"client_name": "north", "client_ip": CANARY, "project_name": "p", "client_type": "regular"}
    update = message(fedward__update=np.ones(LENGTH, np.float32), fedward__weight=10, note=CANARY)
    update.set_header("__task_name__", "fedward_train")
    for channel, topic, content in (
        ("task", "register", registration),
        ("server_command", "submit_update", update),
        ("log_streaming", "log", message(text=CANARY)),
    ):
        request = new_cell_message(dict(headers), content)
        reply = cell.send_request(channel=channel, topic=topic, target="server", request=request, timeout=30.0)
        say("replied", topic=topic, code=reply.get_header("cn__return_code"))
    say("done")
    sys.stdin.readline()
    cell.stop()


if __name__ == "__main__":
    {"server": server, "site": site}[sys.argv[1]](sys.argv[2])
