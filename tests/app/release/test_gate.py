"""What the sites' bits and silences mean for a model."""

from __future__ import annotations

import pytest

from fedward.federation.record import JobRecord, SiteOutcome
from fedward.identity.document import Candidate, new_job_document
from fedward.release.gate import gate_statement, passes
from fedward.settings.job import GateJob, Sites
from trust_cases import NOW, PROJECT

GATE = GateJob(kind="gate", name="gate", margin=0.05, sites=Sites(minimum=1))
CANDIDATE = Candidate(job_id="d" * 32, weights_sha256="b" * 64)
DOCUMENT = new_job_document(GATE, project=PROJECT, sites=("east", "north"), now=NOW, candidate=CANDIDATE)


def ended(**codes: str) -> JobRecord:
    outcomes = {site: SiteOutcome(code=code) for site, code in codes.items()}
    return JobRecord.begin(DOCUMENT).with_sites(outcomes).end("completed", None)


@pytest.mark.parametrize(
    ("codes", "by_default", "where_silence_passes"),
    [
        (("non_inferior", "non_inferior"), True, True),
        (("non_inferior", "not_shown"), False, False),
        (("non_inferior", "no_active_model"), True, True),
        (("no_active_model", "no_active_model"), True, True),
        (("non_inferior", "too_few_patients"), False, True),
        (("non_inferior", "privacy_spent"), False, True),
        (("too_few_patients", "privacy_spent"), False, False),
        (("no_active_model", "too_few_patients"), False, False),
        (("non_inferior", "deadline_missed"), False, False),
        (("non_inferior", "kind_not_allowed"), False, False),
        (("non_inferior", "not_witnessed"), False, False),
        (("non_inferior", "other_task"), False, False),
        (("non_inferior", "internal_error"), False, False),
        (("done", "done"), False, False),
    ],
)
def test_a_model_passes_only_where_nobody_is_against_it_and_one_that_compared_is_for_it(
    codes: tuple[str, str], by_default: bool, where_silence_passes: bool
) -> None:
    sites = dict(zip(("east", "north"), codes, strict=True))
    assert passes(sites, cannot_say="block") == by_default
    assert passes(sites, cannot_say="pass") == where_silence_passes


def test_the_statement_is_what_was_asked_and_what_each_site_said() -> None:
    made = gate_statement(DOCUMENT, ended(east="non_inferior", north="non_inferior"), attempts=2)
    assert (made.outcome, made.job_id, made.margin, made.attempts) == ("passed", DOCUMENT.id, 0.05, 2)
    assert made.sites == {"east": "non_inferior", "north": "non_inferior"}


def test_a_site_that_the_server_leaves_out_was_silent_and_a_stranger_does_not_count() -> None:
    made = gate_statement(DOCUMENT, ended(east="non_inferior", stranger="non_inferior"), attempts=1)
    assert (made.outcome, made.sites) == ("without_gate", {"east": "non_inferior", "north": "deadline_missed"})


@pytest.mark.parametrize("change", [{"status": "failed"}, {"id": "0" * 32}], ids=["failed", "another gate's"])
def test_the_record_of_another_gate_or_of_one_that_failed_lets_nothing_pass(change: dict[str, str]) -> None:
    record = ended(east="non_inferior", north="non_inferior").model_copy(update=change)
    assert gate_statement(DOCUMENT, record, attempts=1).outcome == "without_gate"
