"""The site database and its ledger in a real PostgreSQL server, started for these tests alone."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from sqlalchemy import text

from fedward.errors import JobRefused, StoreError
from fedward.privacy.ledger import JobId, Ledger, Terms
from fedward.privacy.mechanisms import Gaussian
from fedward.privacy.plan import TRAIN
from fedward.store.database import Database
from fedward.store.jobs import remember_job
from trust_cases import NOW

TERMS = Terms(epsilon=8.0, delta=1e-5, order=4)
ENDS = datetime(2100, 1, 1, tzinfo=UTC)
#: PostgreSQL refuses to run as root; this is everywhere nobody's user id.
NOBODY = 65534


def as_nobody() -> None:
    if os.geteuid() == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if not shutil.which("initdb") or not shutil.which("postgres"):
        pytest.skip("PostgreSQL's server (initdb, postgres) is not installed here")
    folder = Path("/tmp") / f"fedward-postgresql-{os.getpid()}"
    folder.mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
    data = folder / "data"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    try:
        make = ["initdb", "--username=fedward", "--auth=trust", "--no-sync", str(data)]
        subprocess.run(make, check=True, capture_output=True, preexec_fn=as_nobody)
        run = ["postgres", "-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", str(folder)]
        with subprocess.Popen(run, stderr=subprocess.DEVNULL, preexec_fn=as_nobody) as process:
            try:
                wait_for(port)
                yield f"postgresql+pg8000://fedward@127.0.0.1:{port}/postgres"
            finally:
                process.terminate()
                process.wait(30)
    finally:
        shutil.rmtree(folder)


def wait_for(port: int) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                time.sleep(0.5)
                return
        time.sleep(0.05)
    raise AssertionError("PostgreSQL did not start")


@pytest.fixture
def url(server: str) -> Iterator[str]:
    """An empty database."""
    yield server
    database = Database.open(Path("/tmp") / f"fedward-state-{os.getpid()}", server)
    with database.transaction() as session:
        session.execute(text("DROP SCHEMA public CASCADE"))
        session.execute(text("CREATE SCHEMA public"))
    shutil.rmtree(Path("/tmp") / f"fedward-state-{os.getpid()}")


def ledger_in(state: Path, url: str) -> Ledger:
    return Ledger.open(Database.open(state, url), state=state, terms=TERMS)


def reserve(ledger: Ledger, job: str, share: float) -> frozenset[str]:
    plan = {TRAIN: (Gaussian((2 / (share * TERMS.budget)) ** 0.5, 1),)}
    return ledger.reserve(
        JobId(job, "lungs", f"document of {job}", ENDS),
        patients=dict.fromkeys(("ann", "bob"), TRAIN),
        plan=plan,
        smallest_cohort={TRAIN: 2},
    )


def test_jobs_and_the_ledger_are_kept_and_found_again(tmp_path: Path, url: str) -> None:
    database = Database.open(tmp_path, url)
    remember_job(database, job_id="a" * 32, kind="train", name="lungs", digest="d" * 64, now=NOW)
    assert reserve(ledger_in(tmp_path, url), "job", 0.5) == {"ann", "bob"}
    entries = ledger_in(tmp_path, url).entries()
    assert entries.held("ann") == pytest.approx(0.5 * TERMS.budget)
    with pytest.raises(JobRefused, match="repeated_job"):
        remember_job(database, job_id="a" * 32, kind="train", name="lungs", digest="e" * 64, now=NOW)
    assert not (tmp_path / "site.db").exists()


def test_a_commit_waits_for_the_disk_and_transactions_are_serialisable(tmp_path: Path, url: str) -> None:
    with Database.open(tmp_path, url).transaction() as session:
        assert session.execute(text("SHOW synchronous_commit")).scalar() == "on"
        assert session.execute(text("SHOW transaction_isolation")).scalar() == "serializable"


def test_a_line_that_was_touched_is_found(tmp_path: Path, url: str) -> None:
    ledger = ledger_in(tmp_path, url)
    reserve(ledger, "job", 0.5)
    with Database.open(tmp_path, url).transaction() as session:
        session.execute(text("DELETE FROM ledger_entry WHERE sequence = 2"))
    with pytest.raises(StoreError, match="ledger_rolled_back"):
        ledger.entries()


def _reserve_at_once(state: Path, url: str, job: str, barrier: Barrier) -> None:
    ledger = ledger_in(state, url)
    barrier.wait(30)
    try:
        reserve(ledger, job, 0.6)
    except JobRefused:
        os._exit(3)
    os._exit(0)


def test_of_two_jobs_at_the_edge_of_the_cap_exactly_one_passes(tmp_path: Path, url: str) -> None:
    ledger_in(tmp_path, url)
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)
    processes = [context.Process(target=_reserve_at_once, args=(tmp_path, url, job, barrier)) for job in ("one", "two")]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert sorted(process.exitcode for process in processes) == [0, 3]


def test_a_server_that_is_not_there_is_named_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="database_failed") as caught:
        Database.open(tmp_path, "postgresql+pg8000://fedward:secret@127.0.0.1:1/none")
    assert "secret" not in caught.value.detail
