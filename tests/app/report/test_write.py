from __future__ import annotations

import json
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from pydicom.dataset import Dataset

from fedward.dicom.volume import Verdict, Volume
from fedward.errors import SourceError, StoreError
from fedward.inference.model import LoadedModel
from fedward.randomness import Secret
from fedward.report.document import Report
from fedward.report.schema import schema_text
from fedward.report.write import folder_name, write_refusal, write_report
from fedward.settings.job import Segmentation
from report_page import Page

CREATED = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
REFUSED = Verdict(
    accepted=False,
    code="missing_slice",
    sentence="one slice is missing between 12 & 13",
    series_instance_uid="1.2.3.4",
    study_instance_uid="1.2.3",
    modality="CT",
    file_count=15,
    files=("a/1.dcm", "a/2.dcm"),
)
WHOLE = {"report.json", "report.html", "segmentation.dcm"}


def write(out: Path, volume: Volume, labels: np.ndarray, model: LoadedModel, find) -> Path:
    inference = find(volume, labels, model.task)
    return write_report(
        out, inference, volume, model=model, site="hospital_north", created=CREATED, randomness=Secret()
    )


def one_lesion(volume: Volume) -> np.ndarray:
    labels = np.zeros(volume.array.shape, np.uint8)
    labels[3:6, 8:16, 20:31] = 1
    return labels


def valid(folder: Path) -> Report:
    text = (folder / "report.json").read_text(encoding="utf-8")
    Draft202012Validator(json.loads(schema_text())).validate(json.loads(text))
    return Report.model_validate_json(text)


def test_a_finding_becomes_three_files_in_the_series_folder(write_series, find, model, tmp_path: Path) -> None:
    volume = write_series()
    folder = write(tmp_path / "out", volume, one_lesion(volume), model, find)
    assert folder == tmp_path / "out" / volume.series_instance_uid
    assert {path.name for path in folder.iterdir()} == WHOLE
    report = valid(folder)
    assert report.outcome == "findings"
    assert report.findings is not None
    assert report.findings.lesions[0].sop_instance_uid in volume.sop_instance_uids
    slice_number = report.findings.lesions[0].slice_number
    assert report.instance_numbers == (100 + slice_number,)
    assert report.model == model.facts


def test_the_page_needs_no_other_file_and_no_network(write_series, find, model, tmp_path: Path) -> None:
    volume = write_series()
    text = (write(tmp_path, volume, one_lesion(volume), model, find) / "report.html").read_text(encoding="utf-8")
    outside = [link for link in Page(text).links if not link.startswith("data:image/png;base64,")]
    assert sorted(outside) == ["report.json", "segmentation.dcm"]
    assert re.search(r"https?:|@import|url\(|<script", text) is None


def test_the_page_says_what_a_reader_must_know(write_series, find, model, tmp_path: Path) -> None:
    volume = write_series()
    page = Page((write(tmp_path, volume, one_lesion(volume), model, find) / "report.html").read_text("utf-8"))
    for words in (
        "Not for clinical use",
        "1 lesion found",
        "PAT-0042",
        "Lung window: centre −600 HU, width 1500 HU",
        "lung_nodule_segmentation, release 7",
        "0123456789abcdef" * 4,
        "hospital_north, hospital_south, hospital_west",
        "release.demo, 2026-03-01 12:00 UTC",
        "verified at this site",
        "Not private",
    ):
        assert words in page.words
    assert page.open == []


def test_words_from_a_file_cannot_become_markup(write_series, find, model, tmp_path: Path) -> None:
    def attack(header: Dataset) -> None:
        header.PatientID = "<script>alert(1)</script>"

    volume = write_series(change=attack)
    text = (write(tmp_path, volume, one_lesion(volume), model, find) / "report.html").read_text(encoding="utf-8")
    assert "<script" not in text
    assert "<script>alert(1)</script>" in Page(text).words
    assert "Thorax <low dose>" in Page(text).words


def test_nothing_found_gets_a_whole_report_that_says_so(write_series, find, model, tmp_path: Path) -> None:
    volume = write_series()
    folder = write(tmp_path, volume, np.zeros(volume.array.shape, np.uint8), model, find)
    assert {path.name for path in folder.iterdir()} == WHOLE
    report = valid(folder)
    assert report.outcome == "no_findings"
    assert report.segmentation is not None
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    assert "No lesion was found" in page.words
    assert "Slice 5 of 10" in page.words


def test_a_refusal_gets_a_report_with_its_code_and_its_sentence(model, tmp_path: Path) -> None:
    folder = write_refusal(tmp_path, REFUSED, facts=model.facts, site="hospital_north", created=CREATED)
    assert {path.name for path in folder.iterdir()} == {"report.json", "report.html"}
    report = valid(folder)
    assert report.outcome == "refused"
    assert report.refusal is not None
    assert report.refusal.code == "missing_slice"
    assert (report.patient, report.findings, report.segmentation) == (None, None, None)
    words = Page((folder / "report.html").read_text(encoding="utf-8")).words
    assert "One slice is missing between 12 & 13." in words
    assert "missing_slice" in words


def test_a_refusal_before_any_model_is_written_too(tmp_path: Path) -> None:
    folder = write_refusal(tmp_path, REFUSED, facts=None, site="hospital_north", created=CREATED)
    assert valid(folder).model is None


def test_an_accepted_series_is_no_refusal(tmp_path: Path) -> None:
    accepted = Verdict(accepted=True, code="accepted", sentence="", series_instance_uid="1.2")
    with pytest.raises(ValueError, match="not refused"):
        write_refusal(tmp_path, accepted, facts=None, site="hospital_north", created=CREATED)


def test_a_nifti_source_gets_a_report_that_says_why_it_has_no_segmentation(find, model, tmp_path: Path) -> None:
    array = np.random.default_rng(1).normal(0, 1, (6, 20, 24)).astype(np.float32)
    volume = Volume(array, np.eye(4), "CT", "case_7", "2.25.1", "2.25.22")
    labels = np.zeros(array.shape, np.uint8)
    labels[2, 5:12, 5:9] = 1
    folder = write(tmp_path, volume, labels, model, find)
    assert {path.name for path in folder.iterdir()} == {"report.json", "report.html"}
    report = valid(folder)
    assert report.segmentation is None
    assert "NIfTI" in report.segmentation_note
    assert report.instance_numbers == (None,)


def test_headers_that_no_segmentation_can_repeat_still_get_their_findings(
    write_series, find, model, tmp_path: Path
) -> None:
    def forget(header: Dataset) -> None:
        del header.FrameOfReferenceUID

    volume = write_series(change=forget)
    report = valid(write(tmp_path, volume, one_lesion(volume), model, find))
    assert report.segmentation is None
    assert "Frame Of Reference" in report.segmentation_note
    assert report.outcome == "findings"


def test_a_structure_report_speaks_of_structures(write_series, find, model, tmp_path: Path) -> None:
    task = Segmentation(kind="segmentation", classes=("anterior", "posterior"), measure="dice")
    organ = LoadedModel(model.facts, model.network, model.input, task, model.patch_size)
    volume = write_series()
    labels = one_lesion(volume)
    labels[labels > 0] = 2
    folder = write(tmp_path, volume, labels, organ, find)
    assert "1 structure outlined" in Page((folder / "report.html").read_text(encoding="utf-8")).words


def test_a_second_report_replaces_the_first(write_series, find, model, tmp_path: Path) -> None:
    volume = write_series()
    out = tmp_path / "out"
    write(out, volume, one_lesion(volume), model, find)
    folder = write(out, volume, np.zeros(volume.array.shape, np.uint8), model, find)
    assert valid(folder).outcome == "no_findings"
    assert [path.name for path in out.iterdir()] == [volume.series_instance_uid]


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_old_report_and_nothing_half_written(write_series, find, model, tmp_path: Path) -> None:
    volume = write_series()
    out = tmp_path / "out"
    folder = write(out, volume, one_lesion(volume), model, find)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with files_of_at_most(4096), pytest.raises(StoreError, match="no_space"):
        write(out, volume, np.zeros(volume.array.shape, np.uint8), model, find)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert list(out.iterdir()) == [folder]


def test_a_source_that_changed_gets_no_report(write_series, find, model, tmp_path: Path) -> None:
    volume = write_series()
    volume.files[0].write_bytes(b"")
    with pytest.raises(SourceError, match="unreadable_source"):
        write(tmp_path / "out", volume, one_lesion(volume), model, find)
    assert not (tmp_path / "out").exists()


def test_reports_are_for_their_owner_alone(write_series, find, model, tmp_path: Path) -> None:
    volume = write_series()
    folder = write(tmp_path, volume, one_lesion(volume), model, find)
    assert [path.stat().st_mode & 0o077 for path in (folder, *folder.iterdir())] == [0, 0, 0, 0]


@pytest.mark.parametrize("uid", ["", "..", "../../etc", "1.2/3", "/abs", "1..2", "1." * 40, "1.2\n", "a\ud800"])
def test_a_uid_that_is_no_uid_never_becomes_a_path(uid: str) -> None:
    name = folder_name(uid, ("x/1.dcm",))
    assert re.fullmatch(r"unnamed-[0-9a-f]{16}", name)
    assert name != folder_name(uid, ("x/2.dcm",))
