"""The release gate at a hospital, with real tiny networks: which models pass, what is charged, what leaves."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from fedward.errors import JobRefused, ReleaseRefused
from fedward.evaluation.local_only import train_alone
from fedward.gating import gate
from fedward.hospital import Hospital, RoundTask
from fedward.identity.document import Candidate, JobDocument
from fedward.models.initial import initial_weights
from fedward.privacy.mechanisms import Gaussian
from fedward.release.gate import CandidateFiles, GateStatement
from fedward.settings.job import GateJob, Sites, TrainingJob
from fedward.store.releases import active_release
from hospital_cases import Site, Trained, document_of, make_site, signed
from tiny_federation import classifying, multitasking, training_job

JOB = training_job(rounds=2, minimum=2)
UNTRAINED = initial_weights(JOB)

#: The five held-out patients must be able to say something.
GATE = GateJob(kind="gate", name="gate", margin=0.1, noise_multiplier=0.05, sites=Sites(minimum=1))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = make_site(tmp_path)
    made.edit(lambda text: text.replace("validation = 0.3\ntest = 0.1", "validation = 0.1\ntest = 0.5"))
    made.edit(lambda text: text.replace("[privacy]", "[privacy]\nepsilon = 1000\nmin_noise_multiplier = 0.01"))
    return made


@cache
def well_trained(folder: Path) -> np.ndarray:
    """Weights that find the balls of the hospital in ``folder``; the untrained ones find none."""
    more = {"steps_per_round": 80, "rounds": 1, "learning_rate": 1e-2, "batch_size": 2}
    job = JOB.model_copy(update={"training": JOB.training.model_copy(update=more)})
    return train_alone(Site(folder).open().site, job).weights


def witnessed(hospital: Hospital, weights: np.ndarray, job: TrainingJob = JOB) -> Trained:
    """A training job in which this hospital received ``weights``."""
    document = hospital.accept(signed(document_of(job)))
    rounds = (hospital.train_round(RoundTask(document, 1, weights)),)
    hospital.ledger().close(document.id)
    return Trained(document, rounds, weights)


def asked(hospital: Hospital, trained: Trained, job: GateJob = GATE) -> JobDocument:
    candidate = Candidate(job_id=trained.document.id, weights_sha256=trained.weights_sha256)
    return hospital.accept(signed(document_of(job, candidate=candidate)))


def files_of(trained: Trained) -> CandidateFiles:
    return CandidateFiles(model=trained.model, document=trained.document.content())


def compared(site: Site, running: np.ndarray, new: np.ndarray) -> bool:
    hospital = site.open()
    hospital.install_parts(witnessed(hospital, running).release())
    trained = witnessed(hospital, new)
    return gate(hospital, asked(hospital, trained), files_of(trained))


def test_a_better_model_passes(site: Site) -> None:
    assert compared(site, UNTRAINED, well_trained(site.folder))


def test_a_planted_worse_model_is_blocked(site: Site) -> None:
    assert not compared(site, well_trained(site.folder), UNTRAINED)


def test_the_bit_is_charged_before_it_leaves_and_to_the_held_out_patients_alone(site: Site) -> None:
    hospital = site.open()
    hospital.install_parts(witnessed(hospital, UNTRAINED).release())
    trained = witnessed(hospital, well_trained(site.folder))
    document = asked(hospital, trained)
    gate(hospital, document, files_of(trained))
    lines = [line for line in hospital.ledger().entries().contents if line.get("job") == document.id]
    assert [line["kind"] for line in lines] == ["reserve", "charge", "seal", "sent", "close"]
    entry = hospital.ledger().entries().jobs[document.id]
    assert entry.charged("test") == (Gaussian(0.05, 1),)
    assert set(entry.patients.values()) == {"test"}
    training = hospital.ledger().entries().jobs[trained.document.id]
    assert not set(entry.patients) & set(training.patients), "they trained nothing and chose nothing"


def test_the_hospitals_own_noise_stands_above_what_the_gate_asks_for(site: Site) -> None:
    site.edit(lambda text: text.replace("min_noise_multiplier = 0.01", "min_noise_multiplier = 3.0"))
    hospital = site.open()
    hospital.install_parts(witnessed(hospital, UNTRAINED).release())
    trained = witnessed(hospital, UNTRAINED)
    document = asked(hospital, trained)
    gate(hospital, document, files_of(trained))
    assert hospital.ledger().entries().jobs[document.id].charged("test") == (Gaussian(3.0, 1),)


def test_nothing_is_installed_and_the_gate_runs_once(site: Site) -> None:
    hospital = site.open()
    hospital.install_parts(witnessed(hospital, UNTRAINED).release())
    trained = witnessed(hospital, UNTRAINED)
    document = asked(hospital, trained)
    gate(hospital, document, files_of(trained))
    assert active_release(hospital.database).number == 1
    assert [path.name for path in (site.folder / "state" / "models").iterdir()] == ["ball-1"]
    assert not (site.folder / "state" / "jobs" / document.id).exists()
    with pytest.raises(JobRefused, match="repeated_job"):
        hospital.accept(signed(document))


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("min_patients = 3", "min_patients = 6", "too_few_patients"),
        ("epsilon = 1000", "epsilon = 8", "privacy_spent"),
        ("epsilon = 1000", "epsilon = 1000\ndelta = 0.09", "delta_too_large"),
    ],
)
def test_a_hospital_that_cannot_say_says_so_and_pays_nothing(site: Site, old: str, new: str, code: str) -> None:
    site.edit(lambda text: text.replace(old, new))
    hospital = site.open()
    if code == "too_few_patients":
        # Six patients train here, so that the hospital can take part in the training.
        assert sum(group == "train" for group in groups(hospital).values()) >= 6
    hospital.install_parts(witnessed(hospital, UNTRAINED).release())
    trained = witnessed(hospital, UNTRAINED)
    document = asked(hospital, trained)
    with pytest.raises(JobRefused, match=code):
        gate(hospital, document, files_of(trained))
    assert document.id not in hospital.ledger().entries().jobs


def groups(hospital: Hospital) -> dict[str, str]:
    trained = witnessed(hospital, UNTRAINED)
    return dict(hospital.ledger().entries().jobs[trained.document.id].patients)


def test_a_hospital_without_a_release_of_that_name_has_nothing_to_compare_with(site: Site) -> None:
    hospital = site.open()
    trained = witnessed(hospital, UNTRAINED)
    with pytest.raises(ReleaseRefused, match="no_active_model"):
        gate(hospital, asked(hospital, trained), files_of(trained))


def test_a_model_that_this_hospital_never_received_is_not_judged(site: Site) -> None:
    hospital = site.open()
    hospital.install_parts(witnessed(hospital, UNTRAINED).release())
    other = replace(witnessed(hospital, UNTRAINED), weights=UNTRAINED + np.float32(0.5))
    with pytest.raises(ReleaseRefused, match="not_witnessed"):
        gate(hospital, asked(hospital, other), files_of(other))


def test_only_the_named_model_of_an_accepted_training_is_judged(site: Site) -> None:
    hospital = site.open()
    hospital.install_parts(witnessed(hospital, UNTRAINED).release())
    trained = witnessed(hospital, UNTRAINED)
    swapped = replace(trained, weights=UNTRAINED + np.float32(0.5))
    with pytest.raises(JobRefused, match="model_changed"):
        gate(hospital, asked(hospital, trained), CandidateFiles(swapped.model, trained.document.content()))
    foreign = document_of(JOB)
    with pytest.raises(JobRefused, match="unknown_job"):
        gate(hospital, asked(hospital, trained), CandidateFiles(trained.model, foreign.content()))
    unknown = replace(trained, document=foreign)
    with pytest.raises(JobRefused, match="unknown_job"):
        gate(hospital, asked(hospital, unknown), files_of(unknown))


@pytest.mark.parametrize(("spacing_mm", "passes"), [(2.0, True), (5.0, False)])
def test_each_model_is_scored_on_the_grid_that_it_was_trained_for(site: Site, spacing_mm: float, passes: bool) -> None:
    hospital = site.open()
    weights = well_trained(site.folder)
    hospital.install_parts(witnessed(hospital, weights).release())
    # The same weights on a coarser grid find less of each ball; on one grid for both there would be no difference.
    grid = JOB.input.model_copy(update={"spacing_mm": (spacing_mm,) * 3})
    trained = witnessed(hospital, weights + np.float32(1e-7), JOB.model_copy(update={"input": grid}))
    document = asked(hospital, trained, GATE.model_copy(update={"margin": 0.2, "confidence": 0.5}))
    assert gate(hospital, document, files_of(trained)) == passes


@pytest.mark.parametrize("job", [classifying(JOB), multitasking(JOB)], ids=lambda job: job.task.kind)
def test_a_model_of_another_task_is_compared_with_the_latest_that_is_installed(site: Site, job: TrainingJob) -> None:
    hospital = site.open()
    weights = initial_weights(job)
    hospital.install_parts(witnessed(hospital, weights, job).release())
    trained = witnessed(hospital, weights, job)
    document = asked(hospital, trained, GATE.model_copy(update={"margin": 0.5, "confidence": 0.5}))
    assert gate(hospital, document, files_of(trained))
    assert hospital.ledger().entries().jobs[document.id].charged("test") == (Gaussian(0.05, 1),)


def test_bytes_that_are_no_model_are_refused_and_cost_nothing(site: Site) -> None:
    hospital = site.open()
    trained = witnessed(hospital, UNTRAINED)
    document = asked(hospital, trained)
    with pytest.raises(ReleaseRefused, match="altered_model"):
        gate(hospital, document, CandidateFiles(b"\x80\x04pickle", trained.document.content()))
    assert document.id not in hospital.ledger().entries().jobs


def test_a_release_that_does_another_task_is_not_compared(site: Site) -> None:
    hospital = site.open()
    other = classifying(JOB)
    hospital.install_parts(witnessed(hospital, initial_weights(other), other).release())
    trained = witnessed(hospital, UNTRAINED)
    with pytest.raises(ReleaseRefused, match="other_task"):
        gate(hospital, asked(hospital, trained), files_of(trained))


@pytest.mark.parametrize("told", ["not_shown", "non_inferior"])
def test_no_passport_can_say_what_this_hospital_did_not(site: Site, told: str) -> None:
    hospital = site.open()
    hospital.install_parts(witnessed(hospital, UNTRAINED).release())
    trained = witnessed(hospital, well_trained(site.folder))
    document = asked(hospital, trained)
    assert gate(hospital, document, files_of(trained))
    statement = GateStatement(outcome="passed", job_id=document.id, sites={"north": told})
    parts = trained.release(2, gate=statement)
    if told == "non_inferior":
        hospital.install_parts(parts)
        assert active_release(hospital.database).number == 2
    else:
        with pytest.raises(ReleaseRefused, match="wrong_verdict"):
            hospital.install_parts(parts)


@pytest.mark.parametrize("told", ["non_inferior", "no_active_model", "too_few_patients"])
def test_no_passport_can_turn_this_hospitals_no_into_a_pass(site: Site, told: str) -> None:
    hospital = site.open()
    hospital.install_parts(witnessed(hospital, well_trained(site.folder)).release())
    trained = witnessed(hospital, UNTRAINED)
    document = asked(hospital, trained)
    assert not gate(hospital, document, files_of(trained))
    statement = GateStatement(outcome="passed", job_id=document.id, sites={"north": told})
    with pytest.raises(ReleaseRefused, match="wrong_verdict"):
        hospital.install_parts(trained.release(2, gate=statement))
    honest = GateStatement(outcome="without_gate", job_id=document.id, sites={"north": "not_shown"})
    hospital.install_parts(trained.release(2, gate=honest))


def test_a_passport_that_names_a_gate_which_this_hospital_never_saw_is_not_installed(site: Site) -> None:
    hospital = site.open()
    statement = GateStatement(outcome="passed", job_id="a" * 32, sites={"north": "non_inferior"})
    with pytest.raises(ReleaseRefused, match="wrong_verdict"):
        hospital.install_parts(witnessed(hospital, UNTRAINED).release(gate=statement))


def test_a_release_that_this_hospital_was_not_asked_about_waits_for_a_person(site: Site) -> None:
    hospital = site.open()
    hospital.install_parts(witnessed(hospital, UNTRAINED).release())
    others = GateStatement(outcome="passed", job_id="a" * 32, sites={"east": "non_inferior"})
    hospital.install_parts(witnessed(hospital, UNTRAINED + np.float32(0.1)).release(2, gate=others))
    hospital.install_parts(witnessed(hospital, UNTRAINED + np.float32(0.2)).release(3))
    assert active_release(hospital.database).number == 1


def test_a_release_around_the_gate_waits_for_a_person_where_another_runs(site: Site) -> None:
    hospital = site.open()
    around = GateStatement(outcome="without_gate")
    hospital.install_parts(witnessed(hospital, UNTRAINED).release(1, gate=around))
    assert active_release(hospital.database).number == 1
    hospital.install_parts(witnessed(hospital, UNTRAINED + np.float32(0.1)).release(2, gate=around))
    assert active_release(hospital.database).number == 1
    assert hospital.activate("ball-2") == ("ball", 2)
