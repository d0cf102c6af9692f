"""Starting and stopping: what is refused before anything runs, and that nothing is left."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fedward.errors import FederationError
from fedward_flare import poc, processes
from fedward_flare.workdir import Workdir, claimed
from tiny_federation import federation_of

PROGRAM = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from tiny_federation import federation_of
from fedward_flare import poc
from fedward_flare.workdir import claimed
with claimed(Path({root!r})) as workdir:
    with poc.running(federation_of(Path({sources!r}), ("north",)), workdir):
        print("up", flush=True)
        time.sleep(60)
"""


def test_a_port_in_use_is_named_and_nothing_is_started(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        federation = federation_of(tmp_path, ("north",), port=port)
        with claimed(tmp_path / "work") as workdir:
            with pytest.raises(FederationError, match="port_in_use") as caught:
                poc.up(federation, workdir)
            assert str(port) in caught.value.detail
            assert not workdir.kits.exists()


def test_a_folder_of_another_project_is_refused(tmp_path: Path) -> None:
    with claimed(tmp_path / "work") as workdir:
        workdir.write_state(workdir.state().model_copy(update={"project": "another", "hospitals": ("a", "b")}))
        with pytest.raises(FederationError, match="workdir_not_ours") as caught:
            poc.up(federation_of(tmp_path, ("north",)), workdir)
    assert "another" in caught.value.detail


def test_a_federation_that_does_not_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(FederationError, match="not_running"):
        poc.status(Workdir(tmp_path))
    with claimed(tmp_path / "work") as workdir:
        assert not poc.status(workdir).is_running
        poc.down(workdir)


@pytest.mark.federation
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["interrupt", "terminate"])
def test_nothing_is_left_running_when_the_program_is_stopped(number: int, tmp_path: Path) -> None:
    names = {"tests": str(Path(__file__).parents[1]), "root": str(tmp_path / "work"), "sources": str(tmp_path)}
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(**names)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert program.stdout is not None
        assert program.stdout.readline() == "up\n"
        mark = Workdir(tmp_path / "work").state().mark
        assert len(processes.running(mark)) >= 2
        os.kill(program.pid, number)
        program.wait(timeout=60)
        assert processes.running(mark) == []
    finally:
        program.kill()
        program.wait()
        program.stdout.close()
    with claimed(tmp_path / "work"):
        pass


@pytest.mark.federation
def test_a_restart_keeps_keys_and_site_files_and_survives_a_crash_of_the_program(tmp_path: Path) -> None:
    federation = federation_of(tmp_path, ("north",))
    with claimed(tmp_path / "work") as workdir:
        poc.up(federation, workdir)
    status = poc.status(workdir)
    assert status.is_running
    assert status.connected == ("north",)
    key = (workdir.kit("north") / "startup" / "client.key").read_bytes()
    site_file = workdir.site_file("north")
    site_file.write_text(site_file.read_text() + "\n# the hospital's own line\n")
    with pytest.raises(FederationError, match="workdir_in_use"), claimed(workdir.root):
        pass
    poc.down(workdir)
    assert processes.running(workdir.state().mark) == []
    with claimed(workdir.root):
        poc.up(federation, workdir)
        try:
            assert (workdir.kit("north") / "startup" / "client.key").read_bytes() == key
            assert "the hospital's own line" in site_file.read_text()
        finally:
            started_s = time.monotonic()
            poc.down(workdir)
    assert time.monotonic() - started_s < 30
