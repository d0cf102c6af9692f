"""Folders as hospitals have them: everything mixed, some of it broken, some of it not DICOM at all."""

from __future__ import annotations

import os
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import FileDataset

from dicom_series import Written, rewrite, save, write_series
from fedward.dicom.reader import check, scan
from fedward.errors import SourceError


def codes(folder: Path) -> dict[str, str]:
    return {verdict.series_instance_uid: verdict.code for verdict in check(folder)}


def test_patients_studies_and_modalities_side_by_side_come_apart(tmp_path: Path) -> None:
    first = write_series(tmp_path, name="{}".format)
    same_study = write_series(tmp_path, name="p{}".format, modality="PT", study=first.datasets[0])
    other = write_series(
        tmp_path / "other", modality="MR", edit=lambda _, one: setattr(one, "PatientID", "ID-0815-X"), name="{}".format
    )
    scanned = scan(tmp_path)
    keys = {one.verdict.series_instance_uid: one.headers[0].patient_key for one in scanned.series}
    assert keys == {
        first.series_instance_uid: "|ID-4711-X",
        same_study.series_instance_uid: "|ID-4711-X",
        other.series_instance_uid: "|ID-0815-X",
    }
    assert all(one.verdict.accepted for one in scanned.series)


def test_a_series_over_several_folders_is_one(tmp_path: Path) -> None:
    written = write_series(tmp_path / "a", count=6)
    (tmp_path / "b").mkdir()
    for path in written.paths[::2]:
        path.rename(tmp_path / "b" / path.name)
    (series,) = scan(tmp_path).series
    assert series.verdict.shape == (6, 6, 9)


def test_what_is_not_an_image_is_set_aside(tmp_path: Path) -> None:
    written = write_series(tmp_path / "scan")
    (tmp_path / "scan" / "notes.txt").write_text("read me")
    (tmp_path / "scan" / "empty.log").touch()
    (tmp_path / "program").write_bytes(b"\x02\0\0\0" + bytes(500))

    def as_report(dataset: FileDataset) -> None:
        dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.33"
        for keyword in ("Rows", "Columns", "PixelData"):
            del dataset[keyword]

    report = tmp_path / "scan" / "report"
    report.write_bytes(written.paths[0].read_bytes())
    rewrite(report, as_report)
    scanned = scan(tmp_path)
    assert [one.verdict.code for one in scanned.series] == ["accepted"]
    assert [one.class_name for one in scanned.others] == ["Comprehensive SR Storage"]
    assert (scanned.ignored, scanned.broken) == (3, ())


def test_a_dicomdir_is_no_series(tmp_path: Path) -> None:
    written = write_series(tmp_path)
    index = written.datasets[0]
    for keyword in ("Rows", "Columns", "PixelData", "SeriesInstanceUID", "SOPInstanceUID"):
        del index[keyword]
    index.SOPClassUID = "1.2.840.10008.1.3.10"
    save(index, tmp_path / "DICOMDIR")
    scanned = scan(tmp_path)
    assert [one.verdict.code for one in scanned.series] == ["accepted"]
    assert [one.class_name for one in scanned.others] == ["Media Storage Directory Storage"]


def test_a_file_without_preamble_is_read(tmp_path: Path) -> None:
    written = write_series(tmp_path)
    for path in written.paths:
        dataset = pydicom.dcmread(path)
        with path.open("wb") as file:
            pydicom.dcmwrite(file, pydicom.Dataset(dataset), implicit_vr=True, little_endian=True)
    (series,) = scan(tmp_path).series
    assert (series.read().array == written.stored - 24.0).all()


def test_a_series_without_uids_gets_some_that_stay(tmp_path: Path) -> None:
    def nameless(number: int, dataset: FileDataset) -> None:
        dataset.SeriesInstanceUID = dataset.StudyInstanceUID = dataset.PatientID = ""

    write_series(tmp_path / "a", edit=nameless)
    write_series(tmp_path / "b", edit=nameless)
    first, second = scan(tmp_path).series
    assert first.verdict.accepted
    assert second.verdict.accepted
    assert first.verdict.series_instance_uid.startswith("2.25.")
    assert first.verdict.series_instance_uid != second.verdict.series_instance_uid
    assert first.headers[0].patient_key != second.headers[0].patient_key
    assert first.read().study_instance_uid.startswith("2.25.")
    (tmp_path / "a").rename(tmp_path / "moved")
    assert scan(tmp_path / "moved").series[0].verdict.series_instance_uid == first.verdict.series_instance_uid


def test_one_patient_has_one_key_however_the_id_is_written(tmp_path: Path) -> None:
    for number, (patient, issuer) in enumerate([("ab 12", "X"), (" AB  12 ", "x"), ("ＡＢ 12", "X"), ("AB 012", "X")]):

        def name(_: int, dataset: FileDataset, patient: str = patient, issuer: str = issuer) -> None:
            dataset.SpecificCharacterSet = "ISO_IR 192"
            dataset.PatientID, dataset.IssuerOfPatientID = patient, issuer

        write_series(tmp_path / str(number), edit=name)
    keys = [one.headers[0].patient_key for one in scan(tmp_path).series]
    assert keys == ["X|AB 12", "X|AB 12", "X|AB 12", "X|AB 012"]


@pytest.mark.parametrize("content", [b"", b"\0" * 50, b"garbage" * 1000], ids=["empty", "short", "garbage"])
@pytest.mark.parametrize("which", [2, 4], ids=["in the middle", "at the end"])
def test_a_slice_that_became_garbage_is_missed(tmp_path: Path, content: bytes, which: int) -> None:
    written = write_series(tmp_path / "a")
    other = write_series(tmp_path / "b")
    written.paths[which].write_bytes(content)
    assert codes(tmp_path) == {written.series_instance_uid: "unreadable", other.series_instance_uid: "accepted"}


def test_a_broken_file_among_several_series_is_told_on_its_own(tmp_path: Path) -> None:
    first, second = (write_series(tmp_path, name=(f"{letter}" + "{}").format) for letter in "ab")
    (tmp_path / "a9").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 40)
    assert codes(tmp_path) == {
        first.series_instance_uid: "accepted",
        second.series_instance_uid: "accepted",
        "": "unreadable",
    }


def test_an_empty_folder_and_a_missing_one_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="empty_source"):
        scan(tmp_path)
    (tmp_path / "readme").write_text("nothing here")
    with pytest.raises(SourceError, match="empty_source") as caught:
        scan(tmp_path)
    assert "1 files" in caught.value.detail
    with pytest.raises(SourceError, match="missing_source"):
        scan(tmp_path / "nowhere")


def forbid(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Make one folder unlistable; a test that runs as root cannot do so by permissions."""
    listing = os.scandir

    def scandir(path: str) -> object:
        if Path(path) == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return listing(path)

    monkeypatch.setattr(os, "scandir", scandir)


def test_a_root_that_cannot_be_listed_is_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid(monkeypatch, tmp_path)
    with pytest.raises(SourceError, match="unreadable_source"):
        scan(tmp_path)


def test_a_folder_that_cannot_be_listed_costs_itself_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = write_series(tmp_path / "a")
    write_series(tmp_path / "locked")
    forbid(monkeypatch, tmp_path / "locked")
    scanned = scan(tmp_path)
    assert [one.verdict.series_instance_uid for one in scanned.series] == [written.series_instance_uid]
    (verdict,) = scanned.broken_verdicts
    assert verdict.sentence == "locked: the folder cannot be listed: permission denied"


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = write_series(tmp_path)
    opening = Path.open

    def locked(self: Path, *args: object, **kwargs: object) -> object:
        if self == written.paths[0]:
            raise PermissionError(13, "Permission denied", str(self))
        return opening(self, *args, **kwargs)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", locked)
    (verdict,) = check(tmp_path)
    assert (verdict.code, verdict.sentence) == ("unreadable", "IM0000.dcm: permission denied")


def test_links_that_lead_nowhere_or_in_circles_do_no_harm(tmp_path: Path) -> None:
    write_series(tmp_path / "a")
    (tmp_path / "a" / "nowhere").symlink_to(tmp_path / "gone")
    (tmp_path / "a" / "circle").symlink_to(tmp_path)
    assert [verdict.code for verdict in check(tmp_path)] == ["accepted"]


def test_one_file_may_be_named_instead_of_a_folder(tmp_path: Path) -> None:
    written: Written = write_series(tmp_path)
    (verdict,) = check(written.paths[0])
    assert (verdict.code, verdict.files) == ("not_a_volume", ("IM0000.dcm",))


def test_progress_counts_every_file(tmp_path: Path) -> None:
    write_series(tmp_path)
    seen: list[tuple[int, int]] = []
    scan(tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(number, 5) for number in range(1, 6)]
