from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from fedward.dicom.volume import Volume
from fedward.errors import SourceError
from fedward.report.document import Patient, Study
from fedward.report.source import instance_number, patient_of, read_headers, series_of, study_of


def test_a_report_shows_whose_study_it_is(write_series) -> None:
    volume = write_series()
    headers = read_headers(volume)
    assert patient_of(volume, headers) == Patient(id="PAT-0042")
    assert study_of(volume, headers) == Study(
        instance_uid=volume.study_instance_uid,
        date="2026-01-02",
        description="Thorax <low dose>",
        accession_number="ACC-7",
    )
    series = series_of(volume, headers)
    assert (series.number, series.shape, series.source) == (4, (10, 32, 40), "DICOM")
    assert instance_number(headers, 3) == 103


def test_headers_without_the_optional_words_leave_them_empty(write_series) -> None:
    def strip(header: Dataset) -> None:
        del header.StudyDate, header.StudyDescription, header.SeriesNumber, header.InstanceNumber

    volume = write_series(change=strip)
    headers = read_headers(volume)
    assert study_of(volume, headers).date == ""
    assert series_of(volume, headers).number is None
    assert instance_number(headers, 1) is None


def test_a_nifti_source_has_no_headers() -> None:
    volume = Volume(np.zeros((2, 3, 4), np.float32), np.eye(4), "MR", "hippocampus_001", "2.25.1", "2.25.2")
    assert read_headers(volume) == ()
    assert patient_of(volume, ()).id == "hippocampus_001"
    assert series_of(volume, ()).source == "NIfTI"
    assert instance_number((), 1) is None


def test_a_file_that_has_gone_is_refused(write_series) -> None:
    volume = write_series()
    volume.files[3].unlink()
    with pytest.raises(SourceError, match="unreadable_source"):
        read_headers(volume)


def test_a_file_that_holds_another_image_is_refused(write_series) -> None:
    volume = write_series()
    contents = [path.read_bytes() for path in volume.files[:2]]
    for path, content in zip(volume.files[:2], reversed(contents), strict=True):
        Path(path).write_bytes(content)
    with pytest.raises(SourceError, match="unreadable_source"):
        read_headers(volume)
