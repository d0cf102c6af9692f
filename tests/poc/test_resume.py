"""A server that is killed in the middle of a job goes on from the last committed round."""

from __future__ import annotations

import contextlib
import gc
import json
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from fedward.federation.record import JobRecord
from fedward.hospital import Hospital
from fedward_flare import poc, processes
from fedward_flare.checkpoint import FOLDER, Checkpoint
from fedward_flare.releases import kept_job
from fedward_flare.session import Session
from fedward_flare.workdir import Workdir, claimed
from tiny_federation import Federation, federation_of, training_job, write_hospital

pytestmark = pytest.mark.federation
THREE = ("north", "east", "south")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Workdir]:
    with claimed(tmp_path / "work") as workdir:
        for name in THREE:
            write_hospital(workdir.hospital(name), name)
        yield workdir


def committed_rounds(workdir: Workdir, job_id: str) -> int:
    committed = Checkpoint(workdir.root / "server" / FOLDER / job_id).read()
    return committed.number if committed else 0


def kill_server(workdir: Workdir) -> None:
    """End the server and its job's process at once, as a power cut does."""
    for process in processes.running(workdir.state().mark):
        with contextlib.suppress(psutil.Error):
            if "nvflare.private.fed.app.server" in " ".join(process.cmdline()):
                process.kill()


def finish(session: Session, workdir: Workdir, job_id: str) -> JobRecord:
    session.submit(kept_job(job_id[:8], workdir))
    return session.watch(job_id, timeout_s=200).record


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_a_killed_server_resumes_to_the_same_number_of_rounds_and_charges_nobody_twice(
    folder: Workdir, tmp_path: Path
) -> None:
    settings = federation_of(tmp_path, THREE)
    with poc.running(settings, folder) as session:
        job_id = Federation(folder, session).submit(training_job(steps=60, rounds=4, mode="secure-sum"))
        deadline = time.monotonic() + 150
        while committed_rounds(folder, job_id) < 1:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        kill_server(folder)
    gc.collect()  # NVFLARE's session leaks its socket to a server that is gone
    before = committed_rounds(folder, job_id)
    assert 1 <= before < 4
    with poc.running(settings, folder) as session:
        record = finish(session, folder, job_id)
    assert record.status == "completed"
    assert [entry.number for entry in record.rounds] == [1, 2, 3, 4]
    assert all(sorted(entry.weights) == sorted(THREE) for entry in record.rounds)
    assert not (folder.root / "server" / FOLDER / job_id).exists()
    for name in THREE:
        lines = Hospital.open(folder.site_file(name)).ledger().entries().contents
        rounds = [line["round"] for line in lines if line["kind"] == "charge"]
        assert rounds == [1, 2, 3, 4, 5], json.dumps(lines, indent=1)
