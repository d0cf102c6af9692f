"""``fedward audit`` as the hospital's engineer types it."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fedward.store.audit import HEAD
from fedward_flare.cli import app
from hospital_cases import Site, document_of, make_site, signed
from tiny_federation import training_job

JOB = training_job(minimum=2)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = make_site(tmp_path)
    hospital = site.open()
    document = hospital.accept(signed(document_of(JOB)))
    hospital.audit.note("sent", message="fedward_train", bytes=4096, job=document.id)
    hospital.audit.note("sent", message="fedward_train", bytes=4096, job=document.id)
    hospital.database.close()
    return site


def run(site: Site, *words: str) -> Result:
    return CliRunner().invoke(app, ["audit", *words, "--site", str(site.site_file)])


def test_a_job_its_messages_and_the_site_file_are_shown(site: Site) -> None:
    lines = json.loads(run(site, "show", "--json").stdout)
    assert [line["kind"] for line in lines] == ["policy", "job", "sent", "sent"]
    assert lines[1]["job_kind"] == "train"
    assert "fedward_train" in run(site, "show").stdout


def test_a_whole_audit_is_said_to_be_whole_and_another_is_refused(site: Site) -> None:
    done = run(site, "verify")
    assert (done.exit_code, done.stdout) == (0, "the audit is whole: 4 lines\n")
    state = site.open().site.state
    with sqlite3.connect(state / "site.db") as connection:
        connection.execute("DELETE FROM audit_entry WHERE sequence = 4")
    connection.close()
    assert run(site, "verify").exit_code == 1
    (state / HEAD).unlink()
    assert run(site, "verify").exit_code == 1


def test_an_export_holds_the_lines(site: Site, tmp_path: Path) -> None:
    assert run(site, "export", str(tmp_path / "audit.jsonl")).exit_code == 0
    exported = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert exported == json.loads(run(site, "show", "--json").stdout)


def test_a_path_that_looks_like_markup_is_a_path(site: Site, tmp_path: Path) -> None:
    done = run(site, "export", str(tmp_path / "[bold]" / "[" / "]"))
    assert done.exit_code == 0
    assert (tmp_path / "[bold]" / "[" / "]").is_file()
    assert "[bold]" in done.stdout.replace("\n", "")


def test_a_month_at_the_end_of_the_calendar_is_wrong_usage(site: Site) -> None:
    assert run(site, "left", "--month", "9999-12").exit_code == 2


def test_what_left_in_a_month_is_one_command(site: Site) -> None:
    first = json.loads(run(site, "show", "--json").stdout)[0]["at"][:7]
    found = json.loads(run(site, "left", "--month", first, "--json").stdout)
    assert found == {"fedward_train": {"messages": 2, "bytes": 8192}}
    assert json.loads(run(site, "left", "--month", "2001-01", "--json").stdout) == {}
    assert json.loads(run(site, "left", "--json").stdout) == {}, "the last month, not this one"
