"""Networks of every task from training to the report of a DICOM series, by the hospital's own commands."""

from __future__ import annotations

import shutil
from pathlib import Path

import highdicom
import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from fedward.report.document import Report
from fedward.report.words import probability
from fedward.settings.job import TrainingJob
from fedward_flare.cli import app
from graded_cases import GRADES, write_graded_archive, write_graded_series
from hospital_cases import Site, make_site, train_at
from report_page import Page
from tiny_federation import classifying, multitasking, training_job

run = CliRunner()


def graded_job(job: TrainingJob, *, name: str, learning_rate: float, steps: int) -> TrainingJob:
    """Enough steps to find a ball, few enough for a test."""
    changes = {"batch_size": 4, "learning_rate": learning_rate, "steps_per_round": steps, "warmup_steps": 5}
    training = job.training.model_copy(update={**changes, "positive_share": 0.7})
    return TrainingJob.model_validate(job.model_copy(update={"name": name, "training": training}).model_dump())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A hospital with graded balls that holds a release of each task; what it installs becomes the running model."""
    folder = tmp_path_factory.mktemp("graded")
    made = make_site(folder)
    for kind in ("images", "labels"):
        shutil.rmtree(folder / kind)
    write_graded_archive(folder, patients=24)
    made.edit(lambda text: text.replace("nodule = 1, other = 2", "benign = 1, malignant = 2"))
    small = training_job(rounds=2, minimum=2)
    balls = small.task.model_copy(update={"classes": tuple(GRADES)})
    grades = multitasking(small, tuple(GRADES))
    task = grades.task.model_copy(update={"minimum_lesion_mm": 6.0, "minimum_probability": 0.55})
    judge = classifying(small)
    kinds = judge.task.model_copy(update={"classes": ("elsewhere", "malignant"), "positive": "malignant"})
    hospital = made.open()
    for job in (
        graded_job(small.model_copy(update={"task": balls}), name="balls", learning_rate=2e-2, steps=30),
        graded_job(judge.model_copy(update={"task": kinds}), name="judge", learning_rate=3e-3, steps=20),
        graded_job(grades.model_copy(update={"task": task}), name="grades", learning_rate=1e-2, steps=45),
    ):
        hospital.install_parts(train_at(hospital, job).release())
    return made


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    folder = tmp_path_factory.mktemp("series")
    _, truth = write_graded_series(folder, {"benign": (8, 12, 28), "malignant": (14, 27, 12)})
    return folder, truth


def fedward(site: Site, *words: object) -> Result:
    return run.invoke(app, [*map(str, words), "--site", str(site.site_file)])


def read_back(out: Path) -> tuple[Report, str, np.ndarray]:
    """Give the one report below ``out``: its data, its page's text, and its segments' numbers by slice."""
    (file,) = out.rglob("report.json")
    report = Report.model_validate_json(file.read_text(encoding="utf-8"))
    document = highdicom.seg.segread(file.parent / "segmentation.dcm")
    uids = [source[2] for source in document.get_source_image_uids()]
    pixels = document.get_pixels_by_source_instance(uids, combine_segments=True, assert_missing_frames_are_empty=True)
    return report, Page((file.parent / "report.html").read_text(encoding="utf-8")).words, pixels


def test_a_multi_task_release_reports_each_lesion_of_a_dicom_series(
    site: Site, series: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    folder, truth = series
    done = fedward(site, "infer", folder, "--model", "grades-1", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    report, page, pixels = read_back(tmp_path / "out")
    assert (report.findings.task, report.model.name) == ("multitask", "grades")
    lesions = report.findings.lesions
    assert 1 <= len(lesions) <= 4
    assert report.segmentation.segments == len(lesions)
    marked = pixels.sum(axis=0) if pixels.ndim == 4 else pixels
    assert 2 * ((marked > 0) & (truth > 0)).sum() / ((marked > 0).sum() + (truth > 0).sum()) > 0.5
    assert f"{len(lesions)} lesion" in page
    for lesion in lesions:
        assert lesion.assessment.diameter_mm is not None
        assert probability(lesion.assessment.positive_probability) in page


def test_a_classification_judges_what_the_segmentation_named_on_the_command_line_finds(
    site: Site, series: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    folder, _ = series
    command = ("infer", folder, "--model", "judge-1", "--lesions-from", "balls-1", "--out", tmp_path / "out")
    done = fedward(site, *command)
    assert done.exit_code == 0, done.output
    report, page, _ = read_back(tmp_path / "out")
    assert (report.findings.task, report.lesion_model.name) == ("classification", "balls")
    assert report.findings.lesions
    assert "The model that found the lesions" in page
    for lesion in report.findings.lesions:
        assert [each.class_name for each in lesion.assessment.probabilities] == ["elsewhere", "malignant"]


def test_what_cannot_find_lesions_for_a_classification_is_refused_by_name(
    site: Site, series: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    folder, _ = series
    for model, detector, why in (
        ("judge-1", "grades-1", "lesions come from a segmentation"),
        ("grades-1", "balls-1", "judges no lesions"),
    ):
        command = ("infer", folder, "--model", model, "--lesions-from", detector, "--out", tmp_path / "out")
        refused = fedward(site, *command)
        assert refused.exit_code == 1
        assert "no_lesion_source" in refused.output
        assert why in refused.output
    alone = fedward(site, "infer", folder, "--model", "judge-1", "--out", tmp_path / "out")
    assert alone.exit_code == 1
    assert "no_lesion_source" in alone.output
    assert not (tmp_path / "out").exists()


def test_a_release_is_calibrated_by_a_command_and_one_that_judges_nothing_is_not(site: Site) -> None:
    done = fedward(site, "model", "calibrate", "grades-1", "--json")
    assert done.exit_code == 0, done.output
    assert (site.folder / "state" / "own" / "grades-1.json").is_file()
    refused = fedward(site, "model", "calibrate", "balls-1")
    assert refused.exit_code == 1
    assert "nothing_to_calibrate" in refused.output
    assert site.open().audit.lines()[-1].facts["done"] == "calibrated"
