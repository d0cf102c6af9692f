"""Reports of classifications and of the multi-task model, from the images to the files and back."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import highdicom
import numpy as np
import pytest
from jsonschema import Draft202012Validator

from dicom_series import Place, write_series
from fedward.dicom.source import open_source
from fedward.inference.model import LoadedModel
from fedward.inference.own_record import Association, Calibration, Measurement, OwnRecord
from fedward.inference.predict import infer_volume
from fedward.models.runtime import Runtime
from fedward.randomness import Secret
from fedward.report.document import Report
from fedward.report.schema import schema_text
from fedward.report.write import write_report
from fedward.settings.site import DicomSource
from fedward.settings.tasks import Classification
from graded_cases import BrightIsMalignant, BrightMiddle, bright_detector, grading_model, write_graded_series
from report_page import Page

NOW = datetime(2026, 5, 6, tzinfo=UTC)
KINDS = Classification(kind="classification", classes=("dull", "bright"), positive="bright", operating_point=0.4)
OWN = OwnRecord(
    model_sha256="ab" * 32,
    detector_sha256=None,
    made=NOW,
    judged=64,
    calibration=Calibration(temperature=4.0, lesions=64, error_before=0.2, error_after=0.05),
    association=Association(
        positive="malignant",
        auc=0.81,
        lesions=90,
        positives=40,
        patients=60,
        measurements=(
            Measurement(name="long_axis_mm", fall=0.212, deviation=0.03),
            Measurement(name="mean_intensity", fall=-0.004, deviation=0.01),
        ),
    ),
)


class Written:
    """A report's folder, read back."""

    def __init__(self, model: LoadedModel, source: Path, out: Path) -> None:
        self.volume = open_source(DicomSource(kind="dicom", path=source)).studies()[0].read()
        found = infer_volume(model, self.volume, runtime=Runtime(), randomness=Secret())
        self.lesion_map = found.lesion_map
        self.folder = write_report(out, found, self.volume, model=model, site="north", created=NOW, randomness=Secret())
        text = (self.folder / "report.json").read_text(encoding="utf-8")
        Draft202012Validator(json.loads(schema_text())).validate(json.loads(text))
        self.report = Report.model_validate_json(text)
        page = Page((self.folder / "report.html").read_text(encoding="utf-8"))
        assert page.open == []
        self.words = page.words

    def segments(self) -> tuple[highdicom.seg.Segmentation, np.ndarray]:
        """The DICOM SEG and its numbers on the source's slices."""
        document = highdicom.seg.segread(self.folder / "segmentation.dcm")
        pixels = document.get_pixels_by_source_instance(
            source_sop_instance_uids=list(self.volume.sop_instance_uids),
            combine_segments=True,
            assert_missing_frames_are_empty=True,
        )
        return document, pixels


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graded")
    write_graded_series(folder, {"benign": (8, 12, 28), "malignant": (14, 27, 12)})
    return folder


def test_a_multi_task_report_gives_each_lesion_its_malignancy_and_diameter(series: Path, tmp_path: Path) -> None:
    written = Written(grading_model(BrightIsMalignant()), series, tmp_path)
    report = written.report
    assert (report.outcome, report.findings.task, report.lesion_model) == ("findings", "multitask", None)
    large, small = report.findings.lesions
    assert (large.assessment.called, small.assessment.called) == ("malignant", "benign")
    assert large.assessment.diameter_mm == pytest.approx(8.2, abs=0.4)
    for words in (
        "2 lesions found, 1 called malignant",
        "A lesion is called malignant from a probability of 0.5 on.",
        "Called Probability of benign Probability of malignant Diameter, estimated",
        f"1 malignant < 0.001 > 0.999 {large.assessment.diameter_mm:.1f}",
        "not calibrated",
        "A call is not a diagnosis.",
        "The estimated diameter is what the network says",
        f"lesion 1: {large.long_axis_mm:.1f} × {large.short_axis_mm:.1f} mm, malignant "
        f"{large.assessment.positive_probability:.2f}",
    ):
        assert words in written.words


def test_its_segmentation_is_of_lesions_whatever_they_are_called(series: Path, tmp_path: Path) -> None:
    written = Written(grading_model(BrightIsMalignant()), series, tmp_path)
    document, pixels = written.segments()
    np.testing.assert_array_equal(pixels, written.lesion_map)
    assert [segment.segment_label for segment in document.SegmentSequence] == ["lesion 1", "lesion 2"]


def test_no_lesion_of_any_grade_is_an_explicit_empty_segment(tmp_path: Path) -> None:
    write_graded_series(tmp_path / "images", {})
    written = Written(grading_model(BrightIsMalignant()), tmp_path / "images", tmp_path / "out")
    assert written.report.outcome == "no_findings"
    document, pixels = written.segments()
    assert document.SegmentSequence[0].segment_label == "lesion: none found"
    assert not pixels.any()
    assert "No lesion was found" in written.words
    assert "Assessment" not in written.words


def test_a_classification_names_both_models_and_the_segmentation_its_detector(series: Path, tmp_path: Path) -> None:
    model = replace(grading_model(BrightMiddle(), KINDS), detector=bright_detector())
    written = Written(model, series, tmp_path)
    report = written.report
    assert (report.model.name, report.lesion_model.name, report.findings.task) == (
        "grades",
        "detector",
        "classification",
    )
    assert [lesion.assessment.called for lesion in report.findings.lesions] == ["bright", "dull"]
    assert [lesion.class_name for lesion in report.findings.lesions] == ["nodule", "nodule"]
    assert "2 lesions found, 1 called bright" in written.words
    assert "The model that found the lesions" in written.words
    assert "detector, release 1" in written.words
    assert "Diameter, estimated" not in written.words
    assert "Lung window" in written.words, "the detector's class says what is looked at"
    document, pixels = written.segments()
    np.testing.assert_array_equal(pixels, written.lesion_map)
    algorithms = {segment.SegmentAlgorithmName for segment in document.SegmentSequence}
    assert algorithms == {"detector"}


@pytest.mark.parametrize(("value", "called"), [(250, "bright"), (-800, "dull")])
def test_an_image_judged_as_a_whole_has_its_probabilities_and_no_segmentation(
    value: int, called: str, tmp_path: Path
) -> None:
    def fill(_: int, slice_) -> None:
        slice_.PixelData = np.full((14, 12), value + 24, "<i2").tobytes()

    write_series(tmp_path / "images", count=10, size=(14, 12), place=Place(spacing_mm=(2, 2, 2)), edit=fill)
    whole = KINDS.model_copy(update={"of": "image"})
    written = Written(grading_model(BrightMiddle(), whole), tmp_path / "images", tmp_path / "out")
    assert (written.report.findings.kind, written.report.segmentation) == ("image", None)
    assert written.report.outcome == ("findings" if called == "bright" else "no_findings")
    assert not (written.folder / "segmentation.dcm").exists()
    assert f"The image is called {called}" in written.words
    assert "It is called bright from a probability of 0.4 on." in written.words
    assert f"Called Probability of dull Probability of bright {called}" in written.words
    assert "judges the image as a whole and outlines nothing" in written.words
    assert "Example slices" in written.words
    assert "it saw its middle alone" not in written.words
    narrow = replace(grading_model(BrightMiddle(), whole), patch_size=(16, 8, 16))
    assert "it saw its middle alone" in Written(narrow, tmp_path / "images", tmp_path / "narrow").words


def test_what_the_hospital_found_out_itself_stands_in_its_reports(series: Path, tmp_path: Path) -> None:
    bare = Written(grading_model(BrightIsMalignant()), series, tmp_path / "bare")
    own = Written(replace(grading_model(BrightIsMalignant()), own=OWN), series, tmp_path / "own")
    before, after = (one.report.findings.lesions[0].assessment for one in (bare, own))
    assert before.positive_probability > after.positive_probability > 0.5
    assert after.calibrated_on == 64
    assert own.report.association == OWN.association
    for words in (
        "calibrated on 64 lesions of this hospital's own patients",
        "On 90 labelled lesions of 60 patients of this hospital, 40 of them malignant",
        "Long axis 0.212 ± 0.030 Mean intensity −0.004 ± 0.010",
        "it is no cause",
    ):
        assert words in own.words
        assert words not in bare.words
