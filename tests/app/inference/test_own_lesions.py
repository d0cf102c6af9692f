from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from fedward.dicom.source import open_source
from fedward.dicom.studies import StudyCase
from fedward.dicom.volume import Label, Volume
from fedward.errors import StoreError
from fedward.inference.model import LoadedModel
from fedward.inference.own_lesions import MEASUREMENTS, calibration_of, measured_lesions, study_own_lesions
from fedward.inference.own_record import OwnRecord, read_own_record, write_own_record
from fedward.models.runtime import Runtime
from fedward.settings.read import parse_settings
from fedward.settings.site import SiteSettings
from fedward.settings.tasks import Classification, MultiTask
from graded_cases import (
    GRADES,
    BrightBall,
    BrightIsMalignant,
    BrightMiddle,
    bright_detector,
    grading_model,
    write_graded_archive,
)

NOW = datetime(2026, 5, 6, tzinfo=UTC)
PATIENTS = 56
TASK = MultiTask(kind="multitask", classes=("benign", "malignant"))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One label in seven says the other grade than what the ball looks like."""
    folder = tmp_path_factory.mktemp("own")
    write_graded_archive(folder, patients=PATIENTS, mislabelled=frozenset(range(0, PATIENTS, 7)))
    return folder


def site_of(
    folder: Path, state: Path, *, validation: float = 0.8, classes: dict[str, int] | None = None
) -> SiteSettings:
    state.mkdir(mode=0o700, exist_ok=True)
    (state / "split.key").write_bytes(bytes(32))
    source = {
        "kind": "nifti",
        "images": str(folder / "images"),
        "labels": str(folder / "labels"),
        "modality": "CT",
        "classes": classes or {"benign": 1, "malignant": 2},
    }
    document = {
        "name": "north",
        "organisation": "north",
        "state": str(state),
        "data": [source],
        "split": {"validation": validation, "test": 0.1},
    }
    return parse_settings(document, SiteSettings, where="test")


def studies_of(site: SiteSettings) -> tuple[StudyCase, ...]:
    return open_source(site.data[0]).studies()


def study(model: LoadedModel, site: SiteSettings, studies: tuple[StudyCase, ...] | None = None) -> OwnRecord:
    chosen = studies_of(site) if studies is None else studies
    return study_own_lesions(model, chosen, site, runtime=Runtime(), now=NOW)


@pytest.fixture(scope="module")
def record(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> OwnRecord:
    return study(grading_model(BrightIsMalignant()), site_of(archive, tmp_path_factory.mktemp("record") / "state"))


def test_a_network_that_is_too_sure_is_calibrated_on_the_lesions_that_it_finds_itself(record: OwnRecord) -> None:
    assert 35 <= record.judged < PATIENTS, "each validation patient's one ball, and no other patient's"
    assert record.calibration is not None
    assert record.calibration.lesions == record.judged
    assert record.calibration.temperature > 1.5
    assert record.calibration.error_after < record.calibration.error_before


def test_it_says_which_measurements_go_with_the_labelled_class(record: OwnRecord) -> None:
    association = record.association
    assert association is not None
    assert (association.positive, association.lesions, association.patients) == ("malignant", PATIENTS, PATIENTS)
    assert association.positives == PATIENTS // 2
    assert 0.6 < association.auc < 0.95, "size and brightness tell the ball, but not the wrong labels"
    assert {each.name for each in association.measurements} == set(MEASUREMENTS)
    assert [each.fall for each in association.measurements] == sorted(
        (each.fall for each in association.measurements), reverse=True
    )


def test_a_classification_of_whole_images_is_calibrated_on_the_sites_table(archive: Path, tmp_path: Path) -> None:
    """The table says what the ball looks like, but of one patient in seven."""
    site = site_of(archive, tmp_path / "state")
    task = Classification(kind="classification", of="image", classes=("benign", "malignant"), positive="malignant")
    judge = replace(grading_model(BrightBall(), task), patch_size=(24, 24, 24))
    table = tuple(
        replace(one, has_label=False, image_class="malignant" if (index % 2) ^ (index % 7 == 0) else "benign")
        for index, one in enumerate(studies_of(site))
    )
    record = study(judge, site, table)
    assert 35 <= record.judged < PATIENTS
    assert record.calibration is not None
    assert record.calibration.temperature > 1.5
    assert record.calibration.error_after < record.calibration.error_before
    assert record.association is None, "no lesion is labelled"
    unknown = tuple(replace(one, image_class="cyst") for one in table)
    assert study(judge, site, unknown).judged == 0


def test_few_lesions_settle_neither(archive: Path, tmp_path: Path) -> None:
    site = site_of(archive, tmp_path / "state")
    record = study(grading_model(BrightIsMalignant()), site, studies_of(site)[:12])
    assert 0 < record.judged <= 12
    assert (record.calibration, record.association) == (None, None)


def test_series_of_another_modality_or_without_a_label_are_left_alone(archive: Path, tmp_path: Path) -> None:
    site = site_of(archive, tmp_path / "state")
    bare = tuple(replace(one, has_label=False) for one in studies_of(site))
    assert study(grading_model(BrightIsMalignant()), site, bare).judged == 0
    other = grading_model(BrightIsMalignant())
    other = replace(other, input=other.input.model_copy(update={"modality": "MR"}))
    assert study(other, site).judged == 0


def test_a_classification_is_calibrated_on_what_its_detector_finds_here(archive: Path, tmp_path: Path) -> None:
    """The label knows the malignant balls alone: the detector's others are what is no nodule."""
    site = site_of(archive, tmp_path / "state", classes={"nodule": 2})
    task = Classification(kind="classification", classes=("elsewhere", "nodule"), positive="nodule")
    judge = replace(grading_model(BrightMiddle(), task), detector=bright_detector())
    everything = tuple(replace(one, has_label=True, read_label=_or_empty(one)) for one in studies_of(site))
    record = study(judge, site, everything)
    assert record.detector_sha256 == "cd" * 32
    assert record.judged >= 35
    assert record.calibration is not None
    assert record.calibration.error_after < record.calibration.error_before
    assert record.association is None, "labels of one kind of lesion tell nothing apart"


def _or_empty(one: StudyCase) -> Callable[[tuple[str, ...], Volume], Label]:
    """Read a label; where it names no nodule give one without a voxel."""

    def read(classes: tuple[str, ...], volume: Volume) -> Label:
        return one.read_label(classes, volume) or Label(np.zeros(volume.array.shape, np.uint8), classes)

    return read


def test_a_lesion_is_measured_on_its_labelled_outline(archive: Path, tmp_path: Path) -> None:
    for one in studies_of(site_of(archive, tmp_path / "state"))[1:3]:
        volume = one.read()
        label = one.read_label(TASK.label_classes, volume)
        ((values, is_malignant),) = measured_lesions(label, volume, TASK)
        named = dict(zip(MEASUREMENTS, values, strict=True))
        radius_mm, height = GRADES["malignant" if is_malignant else "benign"]
        assert named["volume_mm3"] == pytest.approx(4 / 3 * np.pi * radius_mm**3, rel=0.15)
        assert named["long_axis_mm"] == pytest.approx(2 * radius_mm, rel=0.15)
        assert named["axes_ratio"] > 0.8
        assert named["mean_intensity"] == pytest.approx(height, abs=15)
        assert named["intensity_deviation"] == pytest.approx(30, rel=0.4)


def test_a_model_that_only_outlines_has_nothing_to_calibrate(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="judges nothing"):
        study(bright_detector(), site_of(archive, tmp_path / "state"))


def test_a_temperature_needs_twenty_lesions_and_five_of_each_kind() -> None:
    logits = [np.array([0.0, 3.0 if index % 3 else -3.0]) for index in range(40)]
    truth = [bool(index % 2) for index in range(40)]
    assert calibration_of(logits, truth, TASK) is not None
    assert calibration_of(logits[:19], truth[:19], TASK) is None
    assert calibration_of(logits, [index < 4 for index in range(40)], TASK) is None


RECORD = OwnRecord(model_sha256="ab" * 32, detector_sha256=None, made=NOW, judged=3, calibration=None, association=None)


def test_a_record_is_read_for_the_models_that_it_is_about_alone(tmp_path: Path) -> None:
    def read(model: str = "ab" * 32, detector: str | None = None) -> OwnRecord | None:
        return read_own_record(tmp_path, name="grades", number=1, model_sha256=model, detector_sha256=detector)

    assert read() is None
    path = write_own_record(RECORD, state=tmp_path, name="grades", number=1)
    assert path.stat().st_mode & 0o077 == 0
    assert read() == RECORD
    assert read("cd" * 32) is None, "another model of that name and number"
    assert read(detector="cd" * 32) is None, "another detector finds other lesions"
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(StoreError, match="cannot_read"):
        read()
