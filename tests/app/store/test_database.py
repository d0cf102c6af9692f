from __future__ import annotations

import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import select, text

from fedward.errors import JobRefused, StoreError
from fedward.store.database import FILE_NAME, Database
from fedward.store.jobs import remember_job
from fedward.store.tables import SCHEMA_VERSION, AcceptedJob, Schema
from trust_cases import NOW


def remember(database: Database, number: int, *, digest: str = "d" * 64) -> None:
    remember_job(database, job_id=f"{number:032x}", kind="train", name="nodule", digest=digest, now=NOW)


def ids(database: Database) -> list[int]:
    with database.transaction() as session:
        return sorted(int(job, 16) for job in session.scalars(select(AcceptedJob.id)))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_was_written_is_there_after_opening_again(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "state")
    remember(database, 7)
    database.close()
    assert ids(Database.open(tmp_path / "state")) == [7]


def test_folder_and_files_are_the_owners_alone(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "state")
    remember(database, 1)
    assert mode(tmp_path / "state") == 0o700
    files = sorted((tmp_path / "state").iterdir())
    assert [mode(path) for path in files] == [0o600] * 3, files


def test_a_folder_that_others_may_read_is_narrowed(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o755)
    Database.open(tmp_path / "state")
    assert mode(tmp_path / "state") == 0o700


def test_a_file_in_the_place_of_the_folder_is_named_by_its_setting(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a letter")
    with pytest.raises(StoreError, match="cannot_write") as caught:
        Database.open(tmp_path / "state")
    assert "state in the site file" in caught.value.detail
    assert str(tmp_path / "state") in caught.value.detail
    assert (tmp_path / "state").read_text() == "a letter"


def test_a_folder_that_cannot_even_be_looked_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot_write"):
        Database.open(tmp_path / ("a" * 300))


@pytest.mark.parametrize(("what", "bits"), [("", 0o720), ("", 0o702), (FILE_NAME, 0o640), (FILE_NAME, 0o604)])
def test_what_others_may_have_changed_is_refused(tmp_path: Path, what: str, bits: int) -> None:
    Database.open(tmp_path / "state").close()
    (tmp_path / "state" / what).chmod(bits)
    with pytest.raises(StoreError, match="unsafe_permissions") as caught:
        Database.open(tmp_path / "state")
    assert "chmod" in caught.value.detail


def test_every_commit_is_flushed_to_the_disk(tmp_path: Path) -> None:
    with Database.open(tmp_path / "state").transaction() as session:
        assert session.scalar(text("PRAGMA journal_mode")) == "wal"
        assert session.scalar(text("PRAGMA synchronous")) == 2
        assert session.scalar(text("PRAGMA foreign_keys")) == 1


def test_a_block_that_fails_leaves_nothing(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "state")

    def fail() -> None:
        with database.transaction() as session:
            session.add(AcceptedJob(id="1" * 32, kind="train", name="a", document_sha256="d" * 64, accepted_at=NOW))
            session.flush()
            raise JobRefused("repeated_job", "")

    with pytest.raises(JobRefused, match="repeated_job"):
        fail()
    assert ids(database) == []


def test_a_later_fedwards_database_is_left_alone(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "state")
    with database.transaction() as session:
        session.execute(text("DROP TABLE activation"))
        session.execute(Schema.__table__.update().values(version=SCHEMA_VERSION + 1))
    database.close()
    with pytest.raises(StoreError, match="newer_schema") as caught:
        Database.open(tmp_path / "state")
    assert f"schema {SCHEMA_VERSION + 1}" in caught.value.detail
    with sqlite3.connect(tmp_path / "state" / FILE_NAME) as connection:
        names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
    connection.close()
    assert "schema" in names
    assert "activation" not in names


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "state" / FILE_NAME).write_bytes(b"not a database" * 1000)
    (tmp_path / "state" / FILE_NAME).chmod(0o600)
    with pytest.raises(StoreError, match="database_failed"):
        Database.open(tmp_path / "state")


def test_a_state_folder_that_is_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(StoreError, match="cannot_write"):
        Database.open(tmp_path / "state")


PRELUDE = """
import resource, sys
from datetime import UTC, datetime
from pathlib import Path
from fedward.errors import JobRefused, StoreError
from fedward.store.database import Database
from fedward.store.jobs import remember_job

def keep(database, number, digest):
    now = datetime.now(UTC)
    remember_job(database, job_id=f"{number:032x}", kind="train", name="a", digest=digest * 64, now=now)
    print(number, flush=True)
"""

#: Keeps one job after the other, says so each time, and says why it stopped.
WRITER = """
if int(sys.argv[2]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    database = Database.open(Path(sys.argv[1]))
    for number in range(100_000):
        keep(database, number, "d")
except StoreError as error:
    print(error, flush=True)
"""

#: Asks for sixty ids and says which it got.
CLAIMER = """
database = Database.open(Path(sys.argv[1]))
for number in range(60):
    try:
        keep(database, number, sys.argv[2])
    except JobRefused:
        continue
"""


def child(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PRELUDE + script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("limit", [1, 60_000])
def test_a_full_disk_is_said_and_loses_nothing_that_was_kept(tmp_path: Path, limit: int) -> None:
    with child(WRITER, tmp_path / "state", limit) as process:
        output = process.communicate(timeout=60)[0].split()
    assert output[-1] == "no_space"
    database = Database.open(tmp_path / "state")
    assert ids(database) == [int(number) for number in output[:-1]]
    remember(database, 10**6)


def test_a_killed_process_keeps_what_it_was_told_is_kept(tmp_path: Path) -> None:
    with child(WRITER, tmp_path / "state", 0) as process:
        assert process.stdout is not None
        said = [int(process.stdout.readline()) for _ in range(20)]
        process.send_signal(signal.SIGKILL)
        said += [int(line) for line in process.stdout.read().splitlines()]
    kept = ids(Database.open(tmp_path / "state"))
    assert kept[: len(said)] == said
    assert len(kept) - len(said) in (0, 1)


def test_two_processes_decide_one_after_the_other(tmp_path: Path) -> None:
    """Both ask for the same ids with other documents: each id goes to one of them and the loser is told."""
    Database.open(tmp_path / "state").close()
    won = []
    for process in [child(CLAIMER, tmp_path / "state", digest) for digest in "ab"]:
        with process:
            won.append({int(number) for number in process.communicate(timeout=60)[0].split()})
    assert won[0] | won[1] == set(range(60))
    assert not won[0] & won[1]
