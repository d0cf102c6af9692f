"""The privacy ledger: nothing leaves that was not charged, nothing is charged twice, nothing is forgotten."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import shutil
import sqlite3
from datetime import UTC, datetime, timedelta
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from fedward.errors import FedwardError, JobRefused, StoreError
from fedward.privacy.head import HEAD, KEY, Head
from fedward.privacy.ledger import JobId, Ledger, Terms
from fedward.privacy.mechanisms import Gaussian, Spend, Unprotected
from fedward.privacy.plan import TRAIN, VALIDATION
from fedward.store.database import FILE_NAME, Database

TERMS = Terms(epsilon=8.0, delta=1e-5, order=4)
FULL = TERMS.budget
PATIENTS = ("ann", "bob", "cid", "dan")


NOW = datetime(2026, 3, 1, tzinfo=UTC)


def spend(cost: float, validation: float = 0.0) -> Spend:
    """A Gaussian mechanism's divergence at order 4 is 2 over its noise multiplier squared."""

    def mechanisms(of_group: float) -> tuple[Gaussian | Unprotected, ...]:
        if math.isinf(of_group):
            return (Unprotected(),)
        return (Gaussian(math.sqrt(2 / of_group), 1),) if of_group else ()

    return {TRAIN: mechanisms(cost), VALIDATION: mechanisms(validation)}


def ledger_in(state: Path, terms: Terms = TERMS, now: datetime = NOW) -> Ledger:
    return Ledger.open(Database.open(state), state=state, terms=terms, clock=lambda: now)


def reserve(
    ledger: Ledger,
    job: str = "job",
    cost: float = FULL / 2,
    patients: tuple[str, ...] = PATIENTS,
    cohort: int = 2,
    **options: bool,
) -> frozenset[str]:
    return ledger.reserve(
        JobId(job, "lungs", f"document of {job}", NOW + timedelta(hours=1)),
        patients=dict.fromkeys(patients, TRAIN),
        plan=spend(cost),
        smallest_cohort={TRAIN: cohort},
        **options,
    )


def charge(
    ledger: Ledger, job: str = "job", number: int = 1, model: str = "model", cost: float = FULL / 8
) -> str | None:
    return ledger.charge(job, number, model_sha256=model, spend=spend(cost)).update_sha256


def held(ledger: Ledger) -> dict[str, float]:
    """What every patient of any job cannot spend elsewhere, as a share of the budget."""
    entries = ledger.entries()
    patients = sorted({patient for job in entries.jobs.values() for patient in job.patients})
    return {patient: round(entries.held(patient) / FULL, 9) for patient in patients}


def lines_of(ledger: Ledger) -> int:
    return len(ledger.entries().contents)


def refused(code: str) -> pytest.RaisesExc[FedwardError]:
    return pytest.raises(FedwardError, match=f"^{code}$")


def test_a_job_reserves_its_whole_plan_for_everybody_and_frees_what_it_did_not_use(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path)
    assert reserve(ledger) == set(PATIENTS)
    charge(ledger)
    assert held(ledger) == dict.fromkeys(PATIENTS, 1 / 2)
    ledger.close("job")
    ledger.close("job")
    assert held(ledger) == dict.fromkeys(PATIENTS, 1 / 8)


def test_who_cannot_afford_the_plan_is_left_out_of_the_whole_job(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path)
    reserve(ledger, "early", cost=0.75 * FULL, patients=("ann", "bob"))
    assert reserve(ledger, "late") == {"cid", "dan"}


def test_below_the_smallest_cohort_the_job_is_refused_and_nothing_is_reserved(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path)
    reserve(ledger, "early", cost=FULL, patients=("ann", "bob", "cid"))
    with refused("privacy_spent"):
        reserve(ledger, "late")
    with refused("too_few_patients"):
        reserve(ledger, "tiny", patients=("dan",))
    assert "dan" not in held(ledger)


def test_the_last_drop_of_the_budget_can_be_spent_and_no_more(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path)
    for number in range(3):
        reserve(ledger, f"job{number}", cost=FULL / 3)
    with refused("privacy_spent"):
        reserve(ledger, "one more", cost=FULL * 1e-6)


def test_after_a_job_without_privacy_a_patient_takes_part_only_where_the_hospital_says_so(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path)
    reserve(ledger, "bare", cost=math.inf, patients=("ann", "bob"))
    charge(ledger, "bare", cost=math.inf)
    ledger.close("bare")
    assert [patient for patient in PATIENTS if ledger.entries().is_unprotected(patient)] == ["ann", "bob"]
    assert reserve(ledger_in(tmp_path), "private") == {"cid", "dan"}
    assert reserve(ledger, "beside", cost=FULL / 2, after_unprotected=True) == set(PATIENTS)
    with refused("privacy_spent"):
        reserve(ledger, "beyond", cost=0.6 * FULL, after_unprotected=True, cohort=3)


def test_a_job_without_privacy_that_charged_no_round_has_cost_nothing(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path)
    reserve(ledger, "bare", cost=math.inf)
    ledger.close("bare")
    assert reserve(ledger, "private", cost=FULL) == set(PATIENTS)


def test_a_patient_pays_for_the_mechanisms_of_its_own_group_alone(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path)
    ledger.reserve(
        JobId("job", "lungs", "document", NOW + timedelta(hours=1)),
        patients={"ann": TRAIN, "bob": VALIDATION},
        plan=spend(FULL / 2, validation=FULL / 4),
        smallest_cohort={TRAIN: 1},
    )
    ledger.charge("job", 1, model_sha256="model", spend=spend(FULL / 4, validation=FULL / 8))
    ledger.close("job")
    assert held(ledger) == {"ann": 1 / 4, "bob": 1 / 8}


def test_a_job_whose_document_has_expired_holds_nothing_back(tmp_path: Path) -> None:
    reserve(ledger_in(tmp_path), "forgotten", cost=FULL)
    with refused("privacy_spent"):
        reserve(ledger_in(tmp_path), "next", cost=FULL)
    later = ledger_in(tmp_path, now=NOW + timedelta(hours=2))
    assert reserve(later, "next", cost=FULL) == set(PATIENTS)
    with refused("unknown_job"):
        charge(later, "forgotten")


def test_a_pseudonym_is_the_same_for_ever_and_needs_the_sites_own_key(tmp_path: Path) -> None:
    first, other = ledger_in(tmp_path / "one"), ledger_in(tmp_path / "two")
    assert first.pseudonym("|ANN") == ledger_in(tmp_path / "one").pseudonym("|ANN")
    assert len({first.pseudonym("|ANN"), first.pseudonym("|BOB"), other.pseudonym("|ANN")}) == 3
    assert "ANN" not in first.pseudonym("|ANN")


def test_a_head_that_others_have_seen_and_the_site_has_not_is_a_roll_back(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path)
    early = ledger.head()
    reserve(ledger)
    ledger.check_seen(early)
    late = ledger.head()
    ledger.check_seen(late)
    for seen in (Head(late.length + 1, late.keyed_hash), Head(late.length, early.keyed_hash)):
        with refused("ledger_rolled_back"):
            ledger.check_seen(seen)


def test_a_round_asked_twice_is_charged_once_and_gives_the_sealed_update(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path)
    reserve(ledger)
    assert charge(ledger) is None
    assert charge(ledger) is None, "it died before the seal: it trains again in the place of the first attempt"
    ledger.seal("job", 1, update_sha256="update")
    assert charge(ledger) == "update"
    ledger.mark_sent("job", 1)
    ledger.mark_sent("job", 1)
    ledger.close("job")
    assert held(ledger) == dict.fromkeys(PATIENTS, 1 / 8)


def test_another_model_for_a_charged_round_is_refused(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path)
    reserve(ledger)
    charge(ledger)
    with refused("model_changed"):
        charge(ledger, model="another")


def test_a_second_update_for_one_charge_is_refused(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path)
    reserve(ledger)
    charge(ledger)
    ledger.seal("job", 1, update_sha256="update")
    ledger.seal("job", 1, update_sha256="update")
    with refused("update_changed"):
        ledger.seal("job", 1, update_sha256="another")


def test_rounds_never_cost_more_than_was_reserved(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path)
    reserve(ledger)
    for number in range(1, 5):
        charge(ledger, number=number)
    with refused("budget_spent"):
        charge(ledger, number=5)


def test_what_was_not_reserved_charged_or_sealed_goes_no_further(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path)
    with refused("unknown_job"):
        charge(ledger)
    reserve(ledger)
    with refused("unknown_job"):
        ledger.seal("job", 1, update_sha256="update")
    charge(ledger)
    with refused("unknown_job"):
        ledger.mark_sent("job", 1)
    ledger.close("job")
    with refused("unknown_job"):
        charge(ledger, number=2)
    with refused("repeated_job"):
        reserve(ledger)


def test_promises_are_not_changed_later(tmp_path: Path) -> None:
    ledger_in(tmp_path)
    with refused("ledger_terms"):
        ledger_in(tmp_path, Terms(epsilon=20.0, delta=1e-5, order=4))


def test_terms_that_leave_nothing_open_no_ledger(tmp_path: Path) -> None:
    with refused("ledger_terms"):
        ledger_in(tmp_path, Terms(epsilon=0.5, delta=1e-5, order=4))
    assert lines_of(ledger_in(tmp_path)) == 1


@pytest.mark.parametrize(
    "statement",
    [
        """UPDATE ledger_entry SET content = replace(content, '"cid"', '"eve"') WHERE sequence = 2""",
        "DELETE FROM ledger_entry WHERE sequence = 2",
        "UPDATE ledger_entry SET sequence = 9 WHERE sequence = 3",
    ],
    ids=["changed", "removed", "moved"],
)
def test_a_line_that_was_touched_is_found(tmp_path: Path, statement: str) -> None:
    ledger = ledger_in(tmp_path)
    reserve(ledger)
    charge(ledger)
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        assert connection.execute(statement).rowcount == 1
    connection.close()
    with refused("broken_ledger"):
        charge(ledger, number=2)


def test_lines_cut_off_the_end_are_found(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path)
    reserve(ledger)
    charge(ledger)
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        connection.execute("DELETE FROM ledger_entry WHERE sequence = 3")
    connection.close()
    with refused("ledger_rolled_back"):
        charge(ledger)


def test_a_restored_older_database_is_found(tmp_path: Path) -> None:
    state, backup = tmp_path / "state", tmp_path / "backup"
    database = Database.open(state)
    ledger = Ledger.open(database, state=state, terms=TERMS, clock=lambda: NOW)
    reserve(ledger)
    database.close()
    shutil.copytree(state, backup)
    charge(ledger)
    database.close()
    for path in state.glob(f"{FILE_NAME}*"):
        path.unlink()
    for path in backup.glob(f"{FILE_NAME}*"):
        shutil.copy2(path, state)
    with refused("ledger_rolled_back"):
        ledger_in(state)


@pytest.mark.parametrize("lost", [HEAD, KEY])
def test_a_lost_head_or_key_is_no_way_around(tmp_path: Path, lost: str) -> None:
    reserve(ledger_in(tmp_path))
    (tmp_path / lost).unlink()
    with refused("ledger_rolled_back"):
        ledger_in(tmp_path)


def test_a_forged_head_is_found(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path)
    reserve(ledger)
    head = json.loads((tmp_path / HEAD).read_text())
    (tmp_path / HEAD).write_text(json.dumps(head | {"length": 1}))
    with refused("ledger_rolled_back"):
        ledger.entries()


def test_head_and_key_are_the_owners_alone(tmp_path: Path) -> None:
    ledger_in(tmp_path)
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in (HEAD, KEY)} == {0o600}


def _reserve_at_once(state: Path, job: str, barrier: Barrier) -> None:
    ledger = ledger_in(state)
    barrier.wait(30)
    try:
        reserve(ledger, job, cost=0.6 * FULL)
    except JobRefused:
        os._exit(3)
    os._exit(0)


def test_of_two_jobs_at_the_edge_of_the_cap_exactly_one_passes(tmp_path: Path) -> None:
    ledger_in(tmp_path)
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)
    processes = [context.Process(target=_reserve_at_once, args=(tmp_path, job, barrier)) for job in ("one", "two")]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert sorted(process.exitcode for process in processes) == [0, 3]
    assert held(ledger_in(tmp_path)) == dict.fromkeys(PATIENTS, 0.6)


def test_a_process_that_died_between_the_commit_and_the_head_loses_nothing(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path)
    before = (tmp_path / HEAD).read_bytes()
    reserve(ledger)
    (tmp_path / HEAD).write_bytes(before)
    charge(ledger_in(tmp_path))
    assert lines_of(ledger_in(tmp_path)) == 3


def test_a_full_disk_charges_nothing_half(tmp_path: Path) -> None:
    """Nothing is committed unless all of it is, and the head follows the database, never the other way round."""
    ledger = ledger_in(tmp_path)
    reserve(ledger)
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        connection.execute("CREATE TRIGGER full BEFORE INSERT ON ledger_entry BEGIN SELECT RAISE(ABORT, 'full'); END")
    connection.close()
    with pytest.raises(StoreError):
        charge(ledger)
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        connection.execute("DROP TRIGGER full")
    connection.close()
    assert charge(ledger) is None
    assert lines_of(ledger) == 3
