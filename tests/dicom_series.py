"""Small series written as real DICOM files, for the tests of the reader and of what stands on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CLASSES = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
}
AXIAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
CORONAL = ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0))
SAGITTAL = ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0))
Directions = tuple[Sequence[float], Sequence[float]]
Edit = Callable[[int, FileDataset], object]


@dataclass(frozen=True)
class Place:
    """Where a series lies: the first voxel, the directions along a row and along a column, and the voxel's size."""

    origin_mm: tuple[float, float, float] = (-11.0, 23.0, -400.0)
    directions: Directions = AXIAL
    spacing_mm: tuple[float, float, float] = (2.5, 0.8, 0.7)

    @property
    def affine(self) -> NDArray[np.float64]:
        """From ``(slice, row, column)`` to LPS mm, by the definition in PS3.3 C.7.6.2.1.1."""
        row, column = (np.array(one, dtype=float) for one in self.directions)
        affine = np.eye(4)
        affine[:3, 0] = np.cross(row, column) * self.spacing_mm[0]
        affine[:3, 1] = column * self.spacing_mm[1]
        affine[:3, 2] = row * self.spacing_mm[2]
        affine[:3, 3] = self.origin_mm
        return affine


@dataclass(frozen=True)
class Written:
    """What was written: stored values ``(slice, row, column)``, place, and one file a slice in slice order."""

    stored: NDArray[np.int16]
    place: Place
    paths: tuple[Path, ...]
    series_instance_uid: str

    @property
    def datasets(self) -> list[FileDataset]:
        """The files, read back."""
        return [pydicom.dcmread(path) for path in self.paths]


def write_series(
    folder: Path,
    *,
    count: int = 5,
    size: tuple[int, int] = (6, 9),
    modality: str = "CT",
    place: Place | None = None,
    edit: Edit | None = None,
    name: Callable[[int], str] = "IM{:04}.dcm".format,
    study: Dataset | None = None,
    seed: int = 0,
) -> Written:
    """Write ``count`` slices; ``edit(number, dataset)`` changes a slice before it is written.

    Slices share the study, patient and frame of reference of ``study`` where it is given.
    """
    place = place or Place()
    stored = np.random.default_rng(seed).integers(-1000, 2000, size=(count, *size)).astype(np.int16)
    common = _common(modality, place, size)
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID"):
        if study is not None:
            setattr(common, keyword, study.get(keyword))
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(count):
        dataset = _slice(common, place, number)
        dataset.PixelData = stored[number].tobytes()
        if edit:
            edit(number, dataset)
        paths.append(folder / name(number))
        save(dataset, paths[-1])
    return Written(stored, place, tuple(paths), common.SeriesInstanceUID)


def save(dataset: FileDataset, path: Path) -> None:
    """Write a data set as a file in its own transfer syntax, whatever its values say."""
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID") or generate_uid()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID") or "1.2.3"
    dataset.save_as(path, enforce_file_format=True)


def rewrite(path: Path, edit: Callable[[FileDataset], object]) -> None:
    """Change one file."""
    dataset = pydicom.dcmread(path)
    edit(dataset)
    save(dataset, path)


def _common(modality: str, place: Place, size: tuple[int, int]) -> Dataset:
    row, column = place.directions
    common = Dataset()
    common.SOPClassUID = CLASSES[modality]
    common.Modality = modality
    common.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    common.Manufacturer = "GE MEDICAL SYSTEMS"
    common.ManufacturerModelName = "Model"
    common.PatientID = "ID-4711-X"
    common.PatientName = "Nobody^At^All"
    common.StudyInstanceUID = generate_uid()
    common.SeriesInstanceUID = generate_uid()
    common.FrameOfReferenceUID = generate_uid()
    common.StudyDate, common.StudyTime, common.PatientBirthDate, common.PatientSex = "20200101", "120000", "", ""
    common.StudyID, common.AccessionNumber, common.ReferringPhysicianName, common.SeriesNumber = "1", "", "", 1
    common.ImageOrientationPatient = [float(value) for value in (*row, *column)]
    common.PixelSpacing = [place.spacing_mm[1], place.spacing_mm[2]]
    common.SliceThickness = 9.0
    common.Rows, common.Columns = size
    common.SamplesPerPixel, common.PhotometricInterpretation = 1, "MONOCHROME2"
    common.BitsAllocated, common.BitsStored, common.HighBit, common.PixelRepresentation = 16, 16, 15, 1
    if modality != "MR":
        common.RescaleSlope, common.RescaleIntercept = 1, -24
    return common


def _slice(common: Dataset, place: Place, number: int) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.update(common)
    dataset.SOPInstanceUID = generate_uid()
    dataset.InstanceNumber = number + 1
    dataset.ImagePositionPatient = [round(float(v), 9) for v in (place.affine @ [number, 0, 0, 1])[:3]]
    return dataset
