"""The audit: nothing that was written in it is changed, moved or removed without being found."""

from __future__ import annotations

import json
import shutil
import sqlite3
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fedward.errors import StoreError
from fedward.store.audit import HEAD, KEY, Audit, Sent, what_left
from fedward.store.database import FILE_NAME, Database
from trust_cases import NOW


@pytest.fixture
def audit(tmp_path: Path) -> Audit:
    state = tmp_path / "state"
    audit = Audit(Database.open(state), state, lambda: NOW)
    for number in range(5):
        audit.note("sent", message="update", bytes=100 + number)
    return audit


def change(audit: Audit, *statements: str) -> None:
    audit.database.close()
    with sqlite3.connect(audit.state / FILE_NAME) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def test_what_was_written_is_read(audit: Audit) -> None:
    lines = audit.lines()
    assert [line.facts for line in lines] == [{"bytes": 100 + n, "message": "update"} for n in range(5)]
    assert {(line.at, line.kind) for line in lines} == {(NOW.replace(microsecond=0), "sent")}


TAMPERING = {
    "a line changed": ("UPDATE audit_entry SET content = replace(content, '102', '1') WHERE sequence = 3",),
    "the last line changed": ("UPDATE audit_entry SET content = replace(content, '104', '1') WHERE sequence = 5",),
    "a line removed": ("DELETE FROM audit_entry WHERE sequence = 2",),
    "the first line removed": ("DELETE FROM audit_entry WHERE sequence = 1",),
    "a line removed and the others moved up": (
        "DELETE FROM audit_entry WHERE sequence = 2",
        "UPDATE audit_entry SET sequence = -sequence WHERE sequence > 2",
        "UPDATE audit_entry SET sequence = -sequence - 1 WHERE sequence < 0",
    ),
    "two lines exchanged": (
        "UPDATE audit_entry SET sequence = 99 WHERE sequence = 2",
        "UPDATE audit_entry SET sequence = 2 WHERE sequence = 3",
        "UPDATE audit_entry SET sequence = 3 WHERE sequence = 99",
    ),
    "a line added": ("INSERT INTO audit_entry SELECT 6, content, digest FROM audit_entry WHERE sequence = 5",),
}


@pytest.mark.parametrize("name", TAMPERING)
def test_tampering_removal_and_reordering_are_found(name: str, audit: Audit) -> None:
    change(audit, *TAMPERING[name])
    with pytest.raises(StoreError, match="broken_audit"):
        audit.lines()


@pytest.mark.parametrize("kept", [0, 1, 4])
def test_a_truncated_audit_is_found_and_not_written_on(kept: int, audit: Audit) -> None:
    change(audit, f"DELETE FROM audit_entry WHERE sequence > {kept}")
    for attempt in (audit.lines, lambda: audit.note("refusal", what="x", code="y")):
        with pytest.raises(StoreError, match="audit_rolled_back"):
            attempt()


@pytest.mark.parametrize("name", [HEAD, KEY])
def test_an_audit_without_its_head_or_key_is_not_believed(name: str, audit: Audit) -> None:
    (audit.state / name).unlink()
    with pytest.raises(StoreError, match="audit_rolled_back"):
        audit.lines()


def test_an_older_copy_of_the_database_is_found(audit: Audit, tmp_path: Path) -> None:
    audit.database.close()
    with sqlite3.connect(audit.state / FILE_NAME) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    copy = tmp_path / "copy"
    shutil.copy(audit.state / FILE_NAME, copy)
    audit.note("refusal", what="sys.shell", code="topic_not_allowed")
    audit.database.close()
    shutil.copy(copy, audit.state / FILE_NAME)
    with pytest.raises(StoreError, match="audit_rolled_back"):
        audit.lines()


def test_a_process_that_died_before_it_moved_the_head_loses_nothing(audit: Audit) -> None:
    before = (audit.state / HEAD).read_bytes()
    audit.note("refusal", what="x", code="y")
    (audit.state / HEAD).write_bytes(before)
    assert len(audit.lines()) == 6
    audit.note("refusal", what="x", code="y")
    assert len(audit.lines()) == 7


def test_lines_of_several_writers_make_one_chain(audit: Audit) -> None:
    def write(number: int) -> None:
        other = Audit(Database.open(audit.state), audit.state)
        for _ in range(5):
            other.note("sent", message=f"m{number}", bytes=1)
        other.database.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert len(audit.lines()) == 25


def test_no_foreign_text_enters(audit: Audit) -> None:
    audit.note("refusal", what="Müller^Anna 1970", code="a\nb")
    audit.note("refusal", what="/archive/ct/1.dcm", code="x" * 200)
    assert [line.facts for line in audit.lines()[-2:]] == [{"code": "other", "what": "other"}] * 2


def test_a_policy_is_noted_when_it_changes_and_not_otherwise(audit: Audit) -> None:
    for digest in ("a", "a", "b", "b", "a"):
        audit.note_policy(digest * 64)
    assert [line.facts["site_file"][0] for line in audit.lines() if line.kind == "policy"] == ["a", "b", "a"]


def test_what_left_is_added_up_by_kind_of_message_within_the_time(tmp_path: Path) -> None:
    moments = [datetime(2031, 4, 30, 23, 59, tzinfo=UTC) + timedelta(minutes=n) for n in range(3)]
    moments.append(datetime(2031, 6, 1, tzinfo=UTC))
    clock = iter(moments)
    audit = Audit(Database.open(tmp_path / "state"), tmp_path / "state", lambda: next(clock))
    for message, size in (("a", 1), ("a", 10), ("b", 100), ("b", 1000)):
        audit.note("sent", message=message, bytes=size)
    start, end = datetime(2031, 5, 1, tzinfo=UTC), datetime(2031, 6, 1, tzinfo=UTC)
    assert what_left(audit.lines(), start=start, end=end) == {"a": Sent(1, 10), "b": Sent(1, 100)}


def test_head_and_key_are_the_owners_alone(audit: Audit) -> None:
    assert {stat.S_IMODE((audit.state / name).stat().st_mode) for name in (HEAD, KEY)} == {0o600}
    assert json.loads((audit.state / HEAD).read_text())["length"] == 5
