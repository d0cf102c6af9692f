"""A private job at a hospital: what it charges, what leaves, and when the hospital says no."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from fedward.errors import JobRefused, StoreError
from fedward.federation.algorithms import Control
from fedward.federation.averaging import apply_update
from fedward.hospital import Evaluated, Hospital, RoundTask, TrainedRound
from fedward.identity.document import JobDocument
from fedward.imaging.traits import trait_keys
from fedward.models.initial import initial_weights
from fedward.privacy.head import Head
from fedward.privacy.plan import Plan
from fedward.settings.algorithms import Scaffold
from fedward.settings.job import PrivateTraining, TrainingJob
from fedward.site_own import OwnNumbers
from fedward.store.database import FILE_NAME
from fedward.store.vault import Vault
from fedward.training.optimiser import local_distance
from hospital_cases import Site, document_of, make_site, signed
from tiny_federation import classifying, multitasking, training_job


def private_job(**changes: object) -> TrainingJob:
    asked = {
        "sampling_rate": 0.5,
        "noise_multiplier": 4.0,
        "clip_norm": 1.0,
        "expected_patients": 4,
        "metric_noise_multiplier": 4.0,
        "metric_releases": 1,
        **changes,
    }
    return training_job(rounds=2, minimum=2).model_copy(update={"privacy": PrivateTraining(**asked)})


JOB = private_job()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = make_site(tmp_path)
    made.edit(lambda text: text.replace("allow_non_private = true", "allow_non_private = false"))
    return made


def begin(site: Site, job: TrainingJob = JOB) -> tuple[Hospital, JobDocument]:
    hospital = site.open()
    return hospital, hospital.accept(signed(document_of(job)))


def do(
    hospital: Hospital, document: JobDocument, job: TrainingJob = JOB, seen: Head | None = None
) -> tuple[list[TrainedRound], Evaluated]:
    weights, rounds = initial_weights(job), []
    for number in (1, 2):
        rounds.append(hospital.train_round(RoundTask(document, number, weights, seen)))
        weights = apply_update(weights, rounds[-1].update)
    return rounds, hospital.evaluate(RoundTask(document, 3, weights, seen))


def kinds(hospital: Hospital) -> list[str]:
    return [line["kind"] for line in hospital.ledger().entries().contents]


@pytest.mark.parametrize("job", [classifying(JOB), multitasking(JOB)], ids=lambda job: job.task.kind)
def test_another_tasks_private_job_is_charged_and_noised_like_any_other(site: Site, job: TrainingJob) -> None:
    hospital, document = begin(site, job)
    rounds, closing = do(hospital, document, job)
    assert kinds(hospital) == ["open", "reserve", *["charge", "seal", "sent"] * 3, "close"]
    assert set(closing.metrics) == {"validation_total", "validation_patients"}
    assert [answer.spent for answer in rounds] == [Plan(job, hospital.site.privacy).spent_after(n) for n in (1, 2)]


def test_every_answer_was_charged_sealed_and_noted_and_says_what_it_cost(site: Site) -> None:
    hospital, document = begin(site)
    rounds, closing = do(hospital, document)
    assert kinds(hospital) == ["open", "reserve", *["charge", "seal", "sent"] * 3, "close"]
    spent = [answer.spent.epsilon for answer in (*rounds, closing) if answer.spent]
    plan = Plan(JOB, hospital.site.privacy)
    assert spent == [plan.spent_after(number).epsilon for number in (1, 2, 3)]  # type: ignore[union-attr]
    assert 0 < spent[0] < spent[1] <= spent[2]
    assert closing.head == hospital.ledger().head()


def test_what_the_ledger_keeps_names_no_patient(site: Site) -> None:
    hospital, document = begin(site)
    do(hospital, document)
    text = json.dumps(hospital.ledger().entries().contents)
    assert "north0" not in text
    assert len(hospital.ledger().entries().jobs[document.id].patients) >= 8


def test_only_noised_totals_of_the_planned_releases_leave(site: Site) -> None:
    hospital, document = begin(site)
    rounds, closing = do(hospital, document)
    assert [set(answer.metrics) for answer in rounds] == [set(), set()]
    assert set(closing.metrics) == {"validation_total", "validation_patients"}
    assert closing.metrics["validation_patients"] != round(closing.metrics["validation_patients"])


def test_below_the_smallest_cohort_no_validation_totals_leave_nor_are_they_charged(site: Site) -> None:
    site.edit(lambda text: text.replace("min_patients = 3", "min_patients = 6"))
    hospital, document = begin(site)
    _, closing = do(hospital, document)
    assert closing.metrics == {}
    costs = [line["costs"] for line in hospital.ledger().entries().contents if line["kind"] == "charge"]
    assert [cost["validation"] for cost in costs] == [0, 0, 0]


def test_two_runs_of_one_job_seed_differ(site: Site) -> None:
    updates = []
    for _ in range(2):
        hospital, document = begin(site)
        updates.append(hospital.train_round(RoundTask(document, 1, initial_weights(JOB))).update)
    assert not np.array_equal(*updates)


def test_a_repeated_request_gets_the_sealed_update_and_another_model_nothing(site: Site) -> None:
    hospital, document = begin(site)
    task = RoundTask(document, 1, initial_weights(JOB))
    first = hospital.train_round(task)
    again = site.open()
    again.accept(signed(document))
    np.testing.assert_array_equal(again.train_round(task).update, first.update)
    with pytest.raises(JobRefused, match="model_changed"):
        again.train_round(RoundTask(document, 1, task.weights + 1))
    assert kinds(again).count("charge") == 1


def test_a_job_that_the_cap_cannot_bear_is_refused_and_costs_nothing(site: Site) -> None:
    hospital, document = begin(site, private_job(noise_multiplier=0.5))
    with pytest.raises(JobRefused, match="privacy_spent"):
        hospital.train_round(RoundTask(document, 1, initial_weights(JOB)))
    assert kinds(hospital) == ["open"]


def test_jobs_add_up_until_the_cap_says_no(site: Site) -> None:
    ledger = site.open().ledger()
    cost = ledger.terms.costs(Plan(JOB, site.open().site.privacy).whole())["train"]
    affordable = int(ledger.terms.budget / cost)
    assert affordable >= 2
    for _ in range(affordable):
        do(*begin(site))
    with pytest.raises(JobRefused, match="privacy_spent"):
        do(*begin(site))
    entries = ledger.entries()
    patients = {patient for job in entries.jobs.values() for patient in job.patients}
    assert max(entries.held(patient) for patient in patients) <= ledger.terms.budget


def test_the_site_adds_noise_where_a_job_asks_for_too_little(site: Site) -> None:
    site.edit(lambda text: text.replace("[privacy]", "[privacy]\nmin_noise_multiplier = 6.0"))
    caps = site.open().site.privacy
    assert (Plan(JOB, caps).noise_multiplier, Plan(JOB, caps).metric_noise_multiplier) == (6.0, 6.0)
    assert Plan(private_job(noise_multiplier=9.0), caps).noise_multiplier == 9.0


def test_a_delta_too_large_for_the_patients_is_refused(site: Site) -> None:
    site.edit(lambda text: text.replace("[privacy]", "[privacy]\ndelta = 0.05"))
    hospital, document = begin(site)
    with pytest.raises(JobRefused, match="delta_too_large"):
        hospital.train_round(RoundTask(document, 1, initial_weights(JOB)))


def test_after_training_without_privacy_the_patients_are_left_out(site: Site) -> None:
    site.edit(lambda text: text.replace("allow_non_private = false", "allow_non_private = true"))
    open_job = training_job(rounds=2, minimum=2)
    do(*begin(site, open_job), job=open_job)
    hospital, document = begin(site)
    do(hospital, document)
    site.edit(lambda text: text.replace("allow_non_private = true", "allow_non_private = false"))
    with pytest.raises(JobRefused, match="privacy_spent"):
        do(*begin(site))


def test_merged_ids_are_one_patient(site: Site) -> None:
    hospital, document = begin(site)
    do(hospital, document)
    apart = len(hospital.ledger().entries().jobs[document.id].patients)
    names = sorted(path.name.removesuffix(".nii.gz") for path in (site.folder / "images").iterdir())
    merged = ", ".join(f'"{name}" = "{names[0]}"' for name in names[1:4])
    site.edit(lambda text: text.replace("[privacy]", f"[privacy]\nmerged_ids = {{ {merged} }}"))
    hospital, document = begin(site)
    do(hospital, document)
    assert len(hospital.ledger().entries().jobs[document.id].patients) < apart


def test_a_restored_older_database_is_found_and_nothing_is_trained(site: Site) -> None:
    state = site.folder / "state"
    hospital, document = begin(site)
    hospital.train_round(RoundTask(document, 1, initial_weights(JOB)))
    hospital.database.close()
    backup = {path.name: path.read_bytes() for path in state.glob("*") if path.is_file()}
    hospital, document = begin(site)
    seen = do(hospital, document)[1].head
    hospital.database.close()
    for path in state.glob(f"{FILE_NAME}*"):
        path.unlink()
    (state / FILE_NAME).write_bytes(backup[FILE_NAME])
    (state / FILE_NAME).chmod(0o600)
    with pytest.raises(StoreError, match="audit_rolled_back"):
        begin(site)
    (state / "audit.head").write_bytes(backup["audit.head"])
    with pytest.raises(StoreError, match="ledger_rolled_back"):
        do(*begin(site))
    # Whoever puts the head back as well is found by what the server has seen.
    (state / "ledger.head").write_bytes(backup["ledger.head"])
    hospital, document = begin(site)
    with pytest.raises(StoreError, match="ledger_rolled_back"):
        do(hospital, document, seen=seen)
    shutil.rmtree(state / "jobs")


def ranging(**changes: object) -> TrainingJob:
    return private_job(range_noise_multiplier=4.0, **changes)


def test_what_the_training_images_are_like_leaves_once_noised_and_charged_to_who_trains(site: Site) -> None:
    job = ranging()
    hospital, document = begin(site, job)
    rounds, closing = do(hospital, document, job)
    assert set(rounds[0].metrics) == set(trait_keys(job.input))
    assert not set(trait_keys(job.input)) & ({*rounds[1].metrics} | {*closing.metrics})
    # Noise of deviation 4 x sqrt(5) on each of some 70 counts of at most a dozen patients.
    values = np.array(list(rounds[0].metrics.values()))
    assert 5 < values.std() < 14
    assert not np.isclose(values, np.rint(values), atol=1e-6).all()
    lines = hospital.ledger().entries().contents
    charged = [line["spend"]["train"] for line in lines if line["kind"] == "charge"]
    once = {"kind": "gaussian", "noise_multiplier": 4.0, "releases": 1}
    assert [once in spend for spend in charged] == [True, False, False]
    plain_plan, plan = Plan(JOB, hospital.site.privacy), Plan(job, hospital.site.privacy)
    terms = hospital.ledger().terms
    more = terms.costs(plan.whole())["train"] - terms.costs(plain_plan.whole())["train"]
    assert more == pytest.approx(terms.order / (2 * 4.0**2)), "the divergence of one Gaussian release (Mironov 2017)"
    assert rounds[0].spent.epsilon > plain_plan.spent_after(1).epsilon  # type: ignore[union-attr]


def test_a_hospitals_least_noise_holds_for_the_counts_of_its_images_too(site: Site) -> None:
    site.edit(lambda text: text.replace("[privacy]", "[privacy]\nmin_noise_multiplier = 6.0"))
    hospital, _ = begin(site)
    assert Plan(ranging(), hospital.site.privacy).range_noise_multiplier == 6.0


def test_the_counts_are_one_of_the_releases_that_a_hospital_bounds(site: Site) -> None:
    site.edit(lambda text: text.replace("[privacy]", "[privacy]\nmax_metric_releases = 1"))
    begin(site)
    with pytest.raises(JobRefused, match="too_many_metric_releases"):
        begin(site, ranging())
    begin(site, ranging(metric_releases=0))


def test_scaffold_costs_a_patient_nothing_more_and_the_control_is_made_of_what_left(site: Site) -> None:
    descent = JOB.training.model_copy(update={"optimiser": "sgd", "learning_rate": 0.1})
    job = JOB.model_copy(update={"algorithm": Scaffold(name="scaffold"), "training": descent})
    hospital, document = begin(site, job)
    weights = initial_weights(job)
    zero = np.zeros_like(weights)
    first = hospital.train_round(RoundTask(document, 1, weights, control=Control(zero)))
    assert isinstance(first.update, np.ndarray)
    own = OwnNumbers(hospital.site.state / "jobs" / document.id, Vault.open(hospital.site.sealing_key)).after(1)
    np.testing.assert_allclose(own, -first.update / local_distance(1, descent), rtol=1e-4, atol=1e-6)
    second = hospital.train_round(RoundTask(document, 2, weights, control=Control(own, {"north": 1})))
    averaging, _ = do(*begin(site), JOB)
    assert [one.spent for one in (first, second)] == [one.spent for one in averaging]
