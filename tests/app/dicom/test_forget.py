"""A patient's files are found by what stands in them, whatever they are called and wherever they lie."""

from __future__ import annotations

from pathlib import Path

from pydicom.dataset import FileDataset

from dicom_series import save, write_series
from fedward.dicom.forget import forget_in_source
from fedward.dicom.values import key_of
from fedward.settings.site import DicomSource


def of_patient(patient_id: str, issuer: str = "") -> object:
    def edit(_: int, dataset: FileDataset) -> None:
        dataset.PatientID = patient_id
        if issuer:
            dataset.IssuerOfPatientID = issuer

    return edit


def test_images_labels_and_masks_of_one_patient_go_and_nothing_else(tmp_path: Path) -> None:
    archive, masks = tmp_path / "archive", tmp_path / "masks"
    gone = write_series(archive / "a", edit=of_patient("id-1 "), seed=1)
    kept = write_series(archive / "b", edit=of_patient("ID-2"), seed=2)
    other = gone.datasets[0]
    other.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    other.PatientID = "ID-1"
    save(other, archive / "report.dcm")
    (archive / "notes.txt").write_text("ID-1")
    masks.mkdir()
    for written in (gone, kept):
        (masks / f"{written.series_instance_uid}.nii.gz").write_bytes(b"mask")
    source = DicomSource(kind="dicom", path=archive, mask_path=masks)
    count, series = forget_in_source(source, lambda key: key == key_of("", "Id-1"))
    assert (count, series) == (len(gone.paths) + 2, {gone.series_instance_uid})
    assert not any(path.exists() for path in gone.paths)
    assert all(path.exists() for path in (*kept.paths, archive / "notes.txt"))
    assert [path.name for path in masks.iterdir()] == [f"{kept.series_instance_uid}.nii.gz"]


def test_the_same_id_of_another_issuer_is_another_patient(tmp_path: Path) -> None:
    ours = write_series(tmp_path / "a", edit=of_patient("7", "north"))
    theirs = write_series(tmp_path / "b", edit=of_patient("7", "east"))
    forget_in_source(DicomSource(kind="dicom", path=tmp_path), lambda key: key == key_of("NORTH", "7"))
    assert not any(path.exists() for path in ours.paths)
    assert all(path.exists() for path in theirs.paths)
