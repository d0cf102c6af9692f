"""A classifier of whole images learns from a table of classes, and from no voxel's label."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from fedward.dicom.facts import GroupFacts
from fedward.dicom.volume import Volume
from fedward.errors import SettingsError
from fedward.evaluation.cases import score_cases
from fedward.evaluation.measure import measure_cases
from fedward.evaluation.summary import summarise
from fedward.imaging.cases import SiteData
from fedward.models.initial import initial_weights
from fedward.randomness import Secret
from fedward.settings.job import PrivateTraining, TrainingJob
from fedward.settings.read import parse_settings
from fedward.training.private import train_private
from small_cases import FakeStudy, job_with, site_at, studies_in
from training_cases import RUNTIME, site_data, trained


@dataclass
class Imaged(FakeStudy):
    """A study whose image is bright as a whole or dark; it has no label."""

    has_label: bool = False
    image_class: str = ""
    is_bright: bool = False

    def read(self) -> Volume:
        volume = super().read()
        return replace(volume, array=volume.array + np.float32(500)) if self.is_bright else volume

    def read_label(self, classes: tuple[str, ...], volume: Volume) -> None:
        raise AssertionError("a whole image's class stands in no label")


def job_of(*classes: str) -> TrainingJob:
    job = job_with(rounds=3, steps_per_round=15, batch_size=8, learning_rate=3e-3, patch_size=[24, 24, 24])
    document = job.model_dump(mode="json", exclude={"algorithm"})
    document["task"] = {"kind": "classification", "of": "image", "classes": list(classes), "positive": classes[1]}
    window = {"window": [24, 24, 24], "token": [8, 8, 8]}
    document["network"] = {"name": "vit3d", **window, "hidden": 24, "layers": 2, "heads": 3, "mlp": 32}
    return parse_settings(document, TrainingJob, where="test")


JOB = job_of("dark", "bright")


def imaged(folder: Path, count: int) -> list[Imaged]:
    studies = [Imaged(one.patient_key, one.file) for one in studies_in(folder, count)]
    for number, study in enumerate(studies):
        study.is_bright = number % 2 == 1
        study.image_class = ("dark", "bright")[number % 2]
    return studies


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> SiteData:
    folder = tmp_path_factory.mktemp("site")
    data = site_data(folder, imaged(folder / "dicom", 14), JOB, validation=0.4)
    assert {case.image_class for case in data.validation} == {0, 1}
    return data


def score(weights: np.ndarray, data: SiteData) -> float:
    found = summarise(score_cases(weights, data.validation, JOB, runtime=RUNTIME))
    assert found.cases == found.values == len(data.validation)
    assert found.score is not None
    return found.score


def test_it_learns_to_tell_images_apart_that_it_has_not_seen(data: SiteData) -> None:
    assert score(initial_weights(JOB), data) < 0.85
    weights, _ = trained(data, JOB, rounds=3)
    assert score(weights, data) > 0.95


def test_it_learns_with_privacy_too(data: SiteData) -> None:
    asked = PrivateTraining(sampling_rate=1.0, noise_multiplier=1.0, clip_norm=1.0, expected_patients=8)
    private = JOB.model_copy(update={"privacy": asked})
    options = {"runtime": RUNTIME, "noise_multiplier": 1e-6, "secret": Secret()}
    learned = train_private(initial_weights(JOB), data, private, round_number=1, **options)
    assert score(initial_weights(JOB) + learned.update, data) > score(initial_weights(JOB), data)


def test_a_score_is_one_less_half_the_squared_distance_to_the_truth(data: SiteData) -> None:
    """A network whose every weight is 0 says one half to both: 1 - ((1/2)^2 + (1/2)^2) / 2 is 3/4."""
    assert score(np.zeros_like(initial_weights(JOB)), data) == pytest.approx(0.75)


def test_an_evaluation_counts_each_image_once_with_its_probability(data: SiteData) -> None:
    weights = initial_weights(JOB)
    facts = measure_cases(weights, data.validation, JOB, groups=lambda _: GroupFacts(), runtime=RUNTIME)
    assert [one.positive for one in facts] == [(case.image_class == 1,) for case in data.validation]
    brier = [
        1 - (score - is_positive) ** 2
        for one in facts
        for score, is_positive in zip(one.scores, one.positive, strict=True)
    ]
    assert np.mean(brier) == pytest.approx(score(weights, data))


def test_an_image_without_a_class_is_no_case_and_one_of_another_class_is_named(tmp_path: Path) -> None:
    studies = imaged(tmp_path / "dicom", 6)
    studies[0].image_class = ""
    studies[1].image_class = "torn"
    data = SiteData.prepare(studies, site_at(tmp_path), JOB)
    assert {case.patient_key for case in data.cases} == {"p02", "p03", "p04", "p05"}
    assert data.patients == 4
    assert [(verdict.code, verdict.series_instance_uid) for verdict in data.refused] == [("unknown_class", "1.2.3.p01")]
    assert "torn" in data.refused[0].sentence


def test_a_changed_class_needs_no_new_preparing_and_counts_at_once(tmp_path: Path) -> None:
    studies = imaged(tmp_path / "dicom", 4)
    site = site_at(tmp_path, split={"validation": 0.0, "test": 0.0})
    SiteData.prepare(studies, site, JOB)
    studies[0].image_class = "bright"
    data = SiteData.prepare(studies, site, JOB)
    assert [case.image_class for case in data.training_cases] == [1, 1, 0, 1]
    assert studies[0].reads == ["p00"]


def test_whole_images_may_have_more_than_two_classes_and_places_may_not() -> None:
    assert job_of("a", "b", "c").task.label_classes == ("a", "b", "c")
    document = job_of("a", "b", "c").model_dump(mode="json", exclude={"algorithm"})
    document["task"]["of"] = "place"
    with pytest.raises(SettingsError, match="invalid_settings") as refused:
        parse_settings(document, TrainingJob, where="test")
    assert "task.classes must be two" in refused.value.detail
