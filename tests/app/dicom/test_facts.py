"""The groups of a series: bands that its headers fall in, and nothing of the patient beyond them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from fedward.dicom.facts import GroupFacts, age_band, group_facts, slice_band
from fedward.dicom.studies import StudyCase
from fedward.dicom.volume import Verdict

VERDICT = Verdict(
    accepted=True,
    code="accepted",
    sentence="",
    series_instance_uid="1.2.3",
    manufacturer="Siemens",
    spacing_mm=(2.5, 0.7, 0.7),
)


def study(*files: Path, verdict: Verdict = VERDICT) -> StudyCase:
    return StudyCase("key", verdict, True, files, lambda: np.zeros(0), lambda *_: None)  # type: ignore[arg-type,return-value]


def write(path: Path, **values: str) -> Path:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    for name, value in values.items():
        setattr(dataset, name, value)
    dataset.save_as(path)
    return path


def test_a_dicom_series_has_all_four(tmp_path: Path) -> None:
    file = write(tmp_path / "one.dcm", PatientSex="F", PatientAge="063Y", PatientName="A^B", PatientID="7")
    assert group_facts(study(file)) == GroupFacts("female", "60 to 74", "Siemens", "above 1.5 to 3 mm")


def test_what_is_not_said_is_unknown(tmp_path: Path) -> None:
    assert group_facts(
        study(write(tmp_path / "one.dcm"), verdict=replace(VERDICT, manufacturer="", spacing_mm=None))
    ) == (GroupFacts())


def test_a_file_that_is_not_dicom_says_nothing_of_the_patient(tmp_path: Path) -> None:
    file = tmp_path / "one.nii.gz"
    file.write_bytes(b"not dicom")
    assert group_facts(study(file)) == GroupFacts(maker="Siemens", slices="above 1.5 to 3 mm")


@pytest.mark.parametrize(
    ("age", "band"),
    [
        ("039Y", "under 40"),
        ("040Y", "40 to 59"),
        ("074Y", "60 to 74"),
        ("075Y", "75 and older"),
        ("018M", "under 40"),
        ("63", "unknown"),
    ],
)
def test_ages_fall_in_bands(age: str, band: str) -> None:
    assert age_band(age) == band


@pytest.mark.parametrize(
    ("distance", "band"),
    [(0.6, "up to 1.5 mm"), (1.5, "up to 1.5 mm"), (3.0, "above 1.5 to 3 mm"), (5.0, "above 3 mm")],
)
def test_distances_fall_in_bands(distance: float, band: str) -> None:
    assert slice_band(distance) == band
