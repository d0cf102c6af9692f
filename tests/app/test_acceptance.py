"""Whether a hospital lets a job in: a person's word where the site file asks for it, on one document, until it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fedward.acceptance import decide_on
from fedward.errors import JobRefused
from fedward.hospital import Hospital
from fedward.identity.document import JobDocument
from fedward.store.approvals import MAX_WAITING, ask, queued_jobs
from fedward_flare.cli import app
from hospital_cases import document_of, make_site, signed, signer
from tiny_federation import training_job
from trust_cases import DAY, NOW, inference_job

JOB = training_job(minimum=2)
ASKED = 'min_sites = 2\nneeds_approval = ["train"]'


@pytest.fixture
def hospital(tmp_path: Path) -> Hospital:
    site = make_site(tmp_path)
    site.edit(lambda text: text.replace("min_sites = 2", ASKED))
    return site.open()


def refusal(hospital: Hospital, document: JobDocument) -> str:
    with pytest.raises(JobRefused, match=r"^[a-z_]+$") as caught:
        hospital.accept(signed(document))
    return caught.value.code


def approvals(hospital: Hospital) -> list[tuple[str, str]]:
    lines = [line.facts for line in hospital.audit.lines() if line.kind == "approval"]
    return [(str(facts["done"]), str(facts["document"])) for facts in lines]


def test_a_job_waits_until_a_person_says_yes_and_then_runs_as_often_as_it_is_resumed(hospital: Hospital) -> None:
    document = document_of(JOB)
    assert refusal(hospital, document) == refusal(hospital, document) == "awaiting_approval"
    decide_on(document.digest, "approved", audit=hospital.audit, now=NOW)
    assert hospital.accept(signed(document)) == hospital.accept(signed(document)) == document
    assert approvals(hospital) == [("asked", document.digest), ("approved", document.digest)]


def test_a_job_that_a_person_rejects_stays_out(hospital: Hospital) -> None:
    document = document_of(JOB)
    refusal(hospital, document)
    decide_on(document.digest[:12], "rejected", audit=hospital.audit, now=NOW)
    assert refusal(hospital, document) == "not_approved"
    assert approvals(hospital)[-1] == ("rejected", document.digest)


def test_an_approval_is_for_one_document_and_no_other_job_of_the_same_words(hospital: Hospital) -> None:
    document, again = document_of(JOB), document_of(JOB)
    refusal(hospital, document)
    decide_on(document.digest, "approved", audit=hospital.audit, now=NOW)
    assert refusal(hospital, again) == "awaiting_approval"
    shorter = JobDocument.model_validate({**document.model_dump(), "expires": NOW + DAY / 2})
    assert refusal(hospital, shorter) == "awaiting_approval"


def test_an_approval_ends_with_the_job(hospital: Hospital) -> None:
    document = document_of(JOB)
    refusal(hospital, document)
    with pytest.raises(JobRefused, match="expired_job"):
        decide_on(document.digest, "approved", audit=hospital.audit, now=NOW + 2 * DAY)
    decide_on(document.digest, "approved", audit=hospital.audit, now=NOW)
    hospital.clock = lambda: NOW + 2 * DAY
    assert refusal(hospital, document) == "expired_job"


def test_what_goes_beyond_the_bounds_or_is_of_another_kind_asks_nobody(hospital: Hospital) -> None:
    beyond = JOB.model_copy(update={"exchange": JOB.exchange.model_copy(update={"max_update_norm": 1e6})})
    assert refusal(hospital, document_of(beyond)) == "norm_bound_too_large"
    assert hospital.accept(signed(document_of(inference_job())))
    assert queued_jobs(hospital.database) == ()


def test_a_job_that_waits_has_not_been_taken(hospital: Hospital) -> None:
    """It neither counts as one of the week nor keeps its id from being used."""
    document = document_of(JOB)
    refusal(hospital, document)
    assert [line.kind for line in hospital.audit.lines()] == ["approval"]
    decide_on(document.digest, "approved", audit=hospital.audit, now=NOW)
    assert hospital.accept(signed(document)) == document


def test_no_coordinator_fills_the_queue_without_end(hospital: Hospital) -> None:
    for _ in range(MAX_WAITING):
        ask(hospital.database, document_of(JOB), signer=signer(), now=NOW)
    assert refusal(hospital, document_of(JOB)) == "too_many_jobs"
    hospital.clock = lambda: NOW + 2 * DAY
    late = document_of(JOB)
    fresh = JobDocument.model_validate({**late.model_dump(), "created": NOW + DAY, "expires": NOW + 2 * DAY})
    hospital.clock = lambda: NOW + 1.5 * DAY
    assert refusal(hospital, fresh) == "awaiting_approval", "those that have ended wait no longer"


@pytest.mark.parametrize("digest", ["", "a", "0" * 64])
def test_a_hash_that_names_no_job_or_several_decides_nothing(digest: str, hospital: Hospital) -> None:
    refusal(hospital, document_of(JOB))
    with pytest.raises(JobRefused, match="unknown_job"):
        decide_on(digest, "approved", audit=hospital.audit, now=NOW)
    assert [job.decision for job in queued_jobs(hospital.database)] == [None]


def test_a_running_job_ends_with_its_end_date_and_with_a_persons_no(hospital: Hospital) -> None:
    document = document_of(JOB)
    job = signed(document)
    refusal(hospital, document)
    decide_on(document.digest, "approved", audit=hospital.audit, now=NOW)
    hospital.accept(job)
    hospital.check_signer(job)
    decide_on(document.digest, "rejected", audit=hospital.audit, now=NOW)
    with pytest.raises(JobRefused, match="not_approved"):
        hospital.check_signer(job)
    decide_on(document.digest, "approved", audit=hospital.audit, now=NOW)
    hospital.clock = lambda: document.expires + DAY / 24
    with pytest.raises(JobRefused, match="expired_job"):
        hospital.check_signer(job)


def run(folder: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["site", *words, "--site", str(folder / "site.toml")])


def test_a_person_decides_on_the_console(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    site.edit(lambda text: text.replace("min_sites = 2", ASKED))
    document = document_of(JOB)
    hospital = site.open()
    refusal(hospital, document)
    hospital.database.close()
    (listed,) = json.loads(run(tmp_path, "jobs", "--json").stdout)
    assert (listed["hash"], listed["state"]) == (document.digest, "waiting")
    assert listed["document"]["job"]["training"]["rounds"] == JOB.training.rounds
    assert "waiting" in run(tmp_path, "jobs").stdout
    assert run(tmp_path, "approve", "beef").exit_code == 1
    assert document.digest in run(tmp_path, "approve", document.digest[:10]).stdout
    assert json.loads(run(tmp_path, "jobs", "--json").stdout)[0]["state"] == "approved"
    assert run(tmp_path, "reject", document.digest[:10]).exit_code == 0
    assert refusal(site.open(), document) == "not_approved"
