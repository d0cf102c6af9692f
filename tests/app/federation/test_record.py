from __future__ import annotations

import pytest
from pydantic import ValidationError

from fedward.federation.best import Best
from fedward.federation.record import JobRecord, RoundRecord, SiteOutcome
from fedward.identity.document import new_job_document
from trust_cases import NOW, PROJECT, inference_job, training_job

SITES = ("east", "north", "south")


def begun() -> JobRecord:
    return JobRecord.begin(new_job_document(training_job(), project=PROJECT, sites=SITES, now=NOW))


def with_rounds(count: int) -> JobRecord:
    record = begun()
    for number in range(1, count + 1):
        record = record.with_round(RoundRecord(number=number, seconds=0.5, weights={"east": 10, "north": 20}))
    return record


def test_a_job_begins_as_its_document_says() -> None:
    record = begun()
    assert (record.name, record.kind, record.asked, record.planned_rounds) == ("lung_nodule", "train", SITES, 3)
    assert (record.status, record.rounds, record.best_round) == ("running", (), None)


def test_a_job_of_one_task_plans_no_rounds() -> None:
    record = JobRecord.begin(new_job_document(inference_job(), project=PROJECT, sites=SITES, now=NOW))
    record = record.with_sites({"east": SiteOutcome(code="done", counts={"accepted": 10})})
    assert record.planned_rounds == 0
    assert record.sites["east"].counts == {"accepted": 10}


def test_validation_belongs_to_the_round_that_the_model_ended() -> None:
    metrics = {"east": {"validation_score": 0.7}}
    record = with_rounds(3).with_validation(2, score=0.7, false_positives=0.5, metrics=metrics)
    assert [entry.score for entry in record.rounds] == [None, 0.7, None]
    assert record.rounds[1].metrics == metrics
    assert record.rounds[1].false_positives == 0.5


def test_the_json_gives_the_record_back() -> None:
    record = with_rounds(2).with_best(Best(round_number=2, score=0.75), "a" * 64).end("completed", None)
    read = JobRecord.model_validate_json(record.model_dump_json())
    assert read == record
    assert (read.best_round, read.best_score, read.weights_sha256) == (2, 0.75, "a" * 64)


def test_an_ended_job_says_why() -> None:
    record = with_rounds(1).end("failed", "too_few_sites")
    assert (record.status, record.code, len(record.rounds)) == ("failed", "too_few_sites", 1)


@pytest.mark.parametrize(
    "more", [{"status": "done"}, {"format": "fedward-record/2"}, {"best_score": float("nan")}, {"patients": 3}]
)
def test_another_record_is_refused(more: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(more))):
        JobRecord.model_validate({**begun().model_dump(), **more})
