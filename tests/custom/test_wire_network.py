"""The firewall for words in NVFLARE's own network: two processes, a site and a server, on this machine."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from support import ROOT
from wire_words import CANARY, LENGTH


def start(role: str, port: int) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), *sys.path])}
    return subprocess.Popen(
        [sys.executable, str(ROOT / "tests" / "wire_peers.py"), role, str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )


def lines_until(process: subprocess.Popen[str], end: str) -> Iterator[dict[str, Any]]:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("{"):
            read = json.loads(line)
            if read["kind"] == end:
                return
            yield read
    raise AssertionError(f"the process ended before it said {end}")


@pytest.fixture(scope="module")
def said() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Give what the server received, and what the site was told about what it sent."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = start("server", port)
    site: subprocess.Popen[str] | None = None
    try:
        list(lines_until(server, "ready"))
        site = start("site", port)
        replies = list(lines_until(site, "done"))
        assert server.stdin is not None
        print("go", file=server.stdin, flush=True)
        return list(lines_until(server, "done")), replies
    finally:
        for process in (site, server):
            if process is not None:
                process.kill()
                process.communicate()


def test_no_word_arrives(said: tuple[list[dict[str, Any]], list[dict[str, Any]]]) -> None:
    received, replies = said
    assert CANARY not in json.dumps(received)
    assert {reply["topic"]: reply["code"] for reply in replies} == {
        "register": "ok",
        "submit_update": "ok",
        "log": "comm_error",
    }


def test_everything_else_arrives(said: tuple[list[dict[str, Any]], list[dict[str, Any]]]) -> None:
    registered, submitted, voted, aborted = (line["content"] for line in said[0])
    assert registered == {"__headers__": {}, "cn": "north", "site_config": {"allow_log_streaming": False}}
    assert submitted == {
        "__headers__": {"__task_name__": "fedward_train"}, "fedward.update": LENGTH, "fedward.weight": 10
    }  # fmt: skip
    assert voted == {"__headers__": {}, "fedward.update": 2 * LENGTH}
    assert aborted == {"topic": "reply_train.abort", "body": "ok", "headers": {"_rtnCode": "_ok"}}
    assert said[0][2]["headers"]["cn__error"] == "withheld"
