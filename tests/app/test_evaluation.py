"""An evaluation at one hospital, from the signed job to its own page and to what leaves."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from evaluation_cases import (
    TRAINERS,
    evaluation_job,
    evaluation_of,
    forget_who_trained,
    install,
    put_weights,
    release_of,
    with_held_out,
)
from fedward import site_evaluation
from fedward.errors import JobRefused, ReleaseRefused, Stopped
from fedward.evaluation.kept_alone import keep_alone, kept_models
from fedward.evaluation.sheet import sheet_of
from fedward.hospital import Hospital
from fedward.identity.document import JobDocument
from fedward.imaging.splits import assign, read_split_key
from fedward.models.initial import initial_weights
from fedward.privacy.accounting import epsilon
from fedward.privacy.mechanisms import Gaussian, Unprotected
from fedward.release.passport import parse_passport
from fedward.settings.job import EvaluatedTask, TrainingJob
from fedward.site_counts import ONLY_ROUND
from fedward.site_evaluation import PAGES
from fedward_flare.cli import app
from hospital_cases import Site, make_site, signed
from tiny_federation import classifying, multitasking, training_job

JOB = training_job(rounds=2, minimum=2)
JOB_FILE = """
kind = "train"
name = "ball"
sites = { minimum = 2 }
input = { modality = "CT", spacing_mm = [2, 2, 2], intensity = { kind = "window", low = -1000, high = 400 } }
task = { kind = "segmentation", classes = ["nodule"], measure = "lesion_dice" }
network = { name = "unet3d", channels = [4, 8] }
exchange = { mode = "plain", max_update_norm = 1000.0 }
training = { rounds = 4, steps_per_round = 15, batch_size = 4, patch_size = [16, 16, 16], learning_rate = 1e-2 }
"""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return with_held_out(make_site(tmp_path))


def opened(site: Site, job: TrainingJob = JOB, task: EvaluatedTask = "lesions") -> tuple[Hospital, JobDocument]:
    hospital, parts = site.open(), release_of(job)
    install(hospital, parts, weights_sha256=parse_passport(parts.passport).weights_sha256)
    return hospital, hospital.accept(signed(evaluation_of(evaluation_job(task), parts)))


def page_folder(site: Site) -> Path:
    (folder,) = (site.folder / "state" / PAGES).iterdir()
    return folder


def test_what_leaves_is_noised_charged_and_nothing_but_the_sheet(site: Site) -> None:
    hospital, document = opened(site)
    counted = hospital.evaluate_release(document)
    sheet = sheet_of("lesions")
    assert isinstance(counted.noised, np.ndarray)
    assert counted.noised.shape == (sheet.size,)
    assert counted.rows == {}
    assert counted.noise_multiplier == 2.0
    assert counted.spent.epsilon == pytest.approx(epsilon((Gaussian(2.0, 1),), 1e-5), abs=1e-4)
    (job,) = hospital.ledger().entries().jobs.values()
    assert (job.plan, job.is_open) == ({"test": (Gaussian(2.0, 1),)}, False)
    assert len(job.patients) >= 3
    assert job.rounds[1].is_sent
    exact = json.loads((page_folder(site) / "evaluation.json").read_text())["counts"]["release"]["histograms"]
    noise = counted.noised - np.concatenate([exact[block.name] for block in sheet.blocks])
    assert (noise == 0).mean() < 0.05, "no count leaves without noise"
    assert 0.5 < noise.std() / (2.0 * sheet.bound) < 1.6


def test_the_same_job_is_answered_once(site: Site) -> None:
    hospital, document = opened(site)
    hospital.evaluate_release(document)
    with pytest.raises(JobRefused, match="repeated_job"):
        hospital.accept(signed(document))


def test_the_hospitals_own_page_is_whole_needs_no_other_file_and_is_its_owners_alone(site: Site) -> None:
    hospital, document = opened(site)
    keep_alone(hospital.site.state, JOB, initial_weights(JOB), patient_keys=TRAINERS)
    hospital.evaluate_release(document)
    folder = page_folder(site)
    page, numbers = (folder / name for name in ("evaluation.html", "evaluation.json"))
    for path in (folder, page, numbers):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    text, found = page.read_text(), json.loads(numbers.read_text())
    assert set(re.findall(r'(?:src|href)="([^:"]+):', text)) == {"data"}
    assert "<script" not in text
    assert set(found["models"]) == {"release", "local"}
    ours, own = (found["models"][name]["means"]["dice"]["value"] for name in ("release", "local"))
    assert ours == own
    assert set(found["groups"]) == {"sex", "age", "maker", "slices"}
    assert found["groups"]["slices"][0]["name"] == "above 1.5 to 3 mm"
    for word in ("FROC", "Reliability", "Dice", "By sex", "What left this hospital"):
        assert word in text


def test_a_hospital_that_shares_its_row_gives_exact_counts_and_its_ledger_says_so(tmp_path: Path) -> None:
    site = with_held_out(make_site(tmp_path), shares=True)
    hospital, document = opened(site)
    keep_alone(hospital.site.state, JOB, initial_weights(JOB), patient_keys=TRAINERS)
    counted = hospital.evaluate_release(document)
    assert set(counted.rows) == {"release", "local"}
    ours, own = (sheet_of("lesions").parts(counted.rows[name]) for name in ("release", "local"))
    for block in set(ours) - {"seconds"}:
        np.testing.assert_array_equal(ours[block], own[block])
    assert (
        counted.rows["release"][0]
        == json.loads((page_folder(site) / "evaluation.json").read_text())["models"]["release"]["patients"]
    )
    (job,) = hospital.ledger().entries().jobs.values()
    assert job.plan == {"test": (Unprotected(),), "train": (Unprotected(),)}
    assert job.rounds[ONLY_ROUND].spend == job.plan
    trained = {name for name, group in job.patients.items() if group == "train"}
    assert trained == {hospital.ledger().pseudonym(key) for key in TRAINERS}


@pytest.mark.parametrize("known", [True, False])
def test_the_row_of_an_own_model_of_few_or_unknown_patients_stays_and_the_release_is_told(
    tmp_path: Path, known: bool
) -> None:
    site = with_held_out(make_site(tmp_path), shares=True)
    hospital, document = opened(site)
    kept = keep_alone(hospital.site.state, JOB, initial_weights(JOB), patient_keys=TRAINERS[: 2 if known else 4])
    if not known:
        forget_who_trained(kept)
    counted = hospital.evaluate_release(document)
    assert set(counted.rows) == {"release"}
    found = json.loads((page_folder(site) / "evaluation.json").read_text())
    assert set(found["models"]) == {"release", "local"}, "it is the hospital's own page"
    (job,) = hospital.ledger().entries().jobs.values()
    assert job.plan == {"test": (Unprotected(),)}


def test_the_row_of_an_own_model_that_was_trained_again_since_the_job_began_stays(tmp_path: Path) -> None:
    site = with_held_out(make_site(tmp_path), shares=True)
    hospital, document = opened(site)
    keep_alone(hospital.site.state, JOB, initial_weights(JOB), patient_keys=TRAINERS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(site_evaluation, "measure_cases", stopped)
        with pytest.raises(Stopped, match="aborted"):
            hospital.evaluate_release(document)
    keep_alone(hospital.site.state, JOB, initial_weights(JOB), patient_keys=(*TRAINERS, "new"))
    resumed = site.open()
    assert set(resumed.evaluate_release(document).rows) == {"release"}


def stopped(*_: object, **__: object) -> None:
    raise Stopped("aborted", "of a test")


def test_a_patient_who_trained_the_own_model_is_charged_for_it_and_not_counted(tmp_path: Path) -> None:
    site = with_held_out(make_site(tmp_path), shares=True)
    hospital, document = opened(site)
    everybody = [path.name.removesuffix(".nii.gz") for path in (site.folder / "images").iterdir()]
    key = read_split_key(hospital.site.state)
    held_out = sorted(name for name in everybody if assign(name, key=key, split=hospital.site.split) == "test")
    trainers = (held_out[0], *TRAINERS)
    keep_alone(hospital.site.state, JOB, initial_weights(JOB), patient_keys=trainers)
    counted = hospital.evaluate_release(document)
    assert counted.rows["release"][0] == len(held_out) - 1
    (job,) = hospital.ledger().entries().jobs.values()
    assert {job.patients[hospital.ledger().pseudonym(name)] for name in trainers} == {"train"}


@pytest.mark.parametrize("number", [np.nan, np.inf, 3e38])
@pytest.mark.parametrize(
    ("job", "task"),
    [(JOB, "lesions"), (classifying(JOB), "classification"), (multitasking(JOB, ("nodule",)), "multitask")],
)
def test_an_own_model_that_has_diverged_stops_nothing(
    tmp_path: Path, job: TrainingJob, task: EvaluatedTask, number: float
) -> None:
    site = with_held_out(make_site(tmp_path), shares=True)
    hospital, document = opened(site, job, task)
    weights = initial_weights(job)
    put_weights(keep_alone(hospital.site.state, job, weights, patient_keys=TRAINERS), np.full_like(weights, number))
    counted = hospital.evaluate_release(document)
    assert set(counted.rows) == {"release", "local"}
    assert "release" in json.loads((page_folder(site) / "evaluation.json").read_text())["models"]


def test_a_hospital_trains_a_model_of_its_own_to_hold_the_release_against(site: Site) -> None:
    hospital, document = opened(site)
    job = site.folder / "job.toml"
    job.write_text(JOB_FILE)
    command = ["model", "train-alone", str(job), "--site", str(site.site_file)]
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 0, shown.output
    ledger, images = hospital.ledger(), (site.folder / "images").iterdir()
    (trained,) = kept_models(hospital.site.state).values()
    assert trained
    assert trained < {ledger.pseudonym(path.name.removesuffix(".nii.gz")) for path in images}
    hospital.evaluate_release(document)
    models = json.loads((page_folder(site) / "evaluation.json").read_text())["models"]
    assert set(models) == {"release", "local"}
    assert models["local"]["means"]["dice"] != models["release"]["means"]["dice"]


def test_only_a_training_is_done_alone_and_the_kind_that_was_found_is_named(site: Site) -> None:
    job = site.folder / "job.toml"
    job.write_text('kind = "infer"\nname = "look"\nsites = { minimum = 1, deadline_s = 60 }\n')
    shown = CliRunner().invoke(app, ["model", "train-alone", str(job), "--site", str(site.site_file)])
    assert shown.exit_code == 1
    assert "expected a train job, found one of kind infer" in " ".join(shown.output.split())
    assert "fault" not in shown.output


def test_sharing_needs_the_leave_to_go_without_privacy(tmp_path: Path) -> None:
    site = with_held_out(make_site(tmp_path), shares=True)
    site.edit(lambda text: text.replace("allow_non_private = true", "allow_non_private = false"))
    hospital, document = opened(site)
    assert hospital.evaluate_release(document).rows == {}


def test_below_the_smallest_cohort_nothing_is_counted(site: Site) -> None:
    site.edit(lambda text: text.replace("min_patients = 3", "min_patients = 11"))
    hospital, document = opened(site)
    with pytest.raises(JobRefused, match="too_few_patients"):
        hospital.evaluate_release(document)
    assert not (site.folder / "state" / PAGES).exists()


@pytest.mark.parametrize(
    ("job", "task"), [(classifying(JOB), "classification"), (multitasking(JOB, ("nodule",)), "multitask")]
)
def test_other_tasks_are_evaluated_too(site: Site, job: TrainingJob, task: EvaluatedTask) -> None:
    hospital, document = opened(site, job, task)
    counted = hospital.evaluate_release(document)
    assert isinstance(counted.noised, np.ndarray)
    assert counted.noised.shape == (sheet_of(task).size,)
    found = json.loads((page_folder(site) / "evaluation.json").read_text())["models"]["release"]
    assert found["classified"]["true_positives"] + found["classified"]["false_negatives"] > 0
    assert found["calibrated"]["ece"]["value"] >= 0


def test_whole_images_are_evaluated_by_the_hospitals_table(site: Site) -> None:
    table = "".join(f"north{number:02d},{('dark', 'bright')[number % 2]}\n" for number in range(12))
    (site.folder / "classes.csv").write_text(f"image,class\n{table}")
    site.edit(lambda text: text.replace('images = "images"', 'images = "images"\nimage_classes = "classes.csv"'))
    placed = classifying(JOB)
    task = placed.task.model_copy(update={"of": "image", "classes": ("dark", "bright"), "positive": "bright"})
    hospital, document = opened(site, placed.model_copy(update={"task": task}), "classification")
    hospital.evaluate_release(document)
    found = json.loads((page_folder(site) / "evaluation.json").read_text())["models"]["release"]
    matrix = [found["classified"][name] for name in ("true_positives", "false_negatives")]
    others = [found["classified"][name] for name in ("false_positives", "true_negatives")]
    assert sum(matrix) + sum(others) == found["scans"] == found["patients"]
    assert sum(matrix) > 0
    assert sum(others) > 0


def test_a_release_that_is_not_installed_or_is_another_is_not_evaluated(site: Site) -> None:
    hospital = site.open()
    parts, other = release_of(JOB), release_of(JOB, initial_weights(JOB) + np.float32(1))
    document = hospital.accept(signed(evaluation_of(evaluation_job(), parts)))
    with pytest.raises(ReleaseRefused, match="not_installed"):
        hospital.evaluate_release(document)
    install(hospital, other, weights_sha256=parse_passport(other.passport).weights_sha256)
    with pytest.raises(JobRefused, match="model_changed"):
        hospital.evaluate_release(document)
    wrong = hospital.accept(signed(evaluation_of(evaluation_job("structures"), other)))
    with pytest.raises(JobRefused, match="other_task"):
        hospital.evaluate_release(wrong)
