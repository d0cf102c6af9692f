"""One file → what it is: read up to its pixels, never beyond."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from pydicom.dataset import Dataset, FileDataset
from pydicom.filereader import dcmread
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)

from fedward.dicom.bounded import BoundedReader
from fedward.dicom.classes import LABEL_CLASSES, class_name, is_image
from fedward.dicom.objects import BrokenFile, FoundObject, ImageHeader, LabelObject, NotDicom, OtherObject
from fedward.dicom.quiet import BROKEN_FILE_ERRORS, quiet_pydicom
from fedward.dicom.references import label_object
from fedward.dicom.stored_pixels import PixelElement, pixel_element
from fedward.dicom.values import WrongValue, integer, number, numbers, patient_key, text, texts

_TAGS = [
    "SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "ImageType", "Modality", "Manufacturer",
    "ManufacturerModelName", "PatientID", "IssuerOfPatientID", "GantryDetectorTilt", "StudyInstanceUID",
    "SeriesInstanceUID", "FrameOfReferenceUID", "ImagePositionPatient", "ImageOrientationPatient", "SamplesPerPixel",
    "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns", "PixelSpacing", "BitsAllocated", "BitsStored",
    "HighBit", "RescaleIntercept", "RescaleSlope", "ModalityLUTSequence", "Units",
]  # fmt: skip
_PREAMBLE = 128


def parse_file(path: Path, root: Path) -> FoundObject:
    """Read ``path`` up to its pixels and say what it is; nothing that a file holds makes this raise."""
    relative = PurePosixPath(path.relative_to(root).as_posix())
    try:
        with BoundedReader(path) as file, quiet_pydicom():
            start = file.read(_PREAMBLE + 4)
            has_prefix = start[_PREAMBLE:] == b"DICM"
            if not has_prefix and not _is_bare_data_set(start):
                return NotDicom(relative)
            file.seek(0)
            found = _parse(file, path, relative)
    except BROKEN_FILE_ERRORS as error:
        return BrokenFile(relative, _reason(error))
    # Without the prefix only a whole header proves that this is DICOM and not a file that happens to begin like it.
    return NotDicom(relative) if isinstance(found, BrokenFile) and not has_prefix else found


def _is_bare_data_set(start: bytes) -> bool:
    """Tell whether a file without preamble begins with an element of group 0002 or 0008, as old archives write it."""
    group, element = start[:2], start[2:4]
    is_first = group in {b"\x02\0", b"\x08\0"} and element in {b"\0\0", b"\x01\0", b"\x05\0", b"\x08\0", b"\x16\0"}
    return is_first and len(start) == _PREAMBLE + 4


def _parse(file: BinaryIO, path: Path, relative: PurePosixPath) -> FoundObject:
    dataset = dcmread(file, stop_before_pixels=True, force=True, specific_tags=list(_TAGS))
    sop_class = _sop_class(dataset)
    series = text(dataset, "SeriesInstanceUID")
    if not sop_class or (sop_class != MediaStorageDirectoryStorage and not _says_who_it_is(dataset)):
        return BrokenFile(relative, "it ends, or turns to nonsense, before it says what it is", series)
    if sop_class in LABEL_CLASSES:
        return _label(path, relative, sop_class)
    if not is_image(sop_class, has_rows="Rows" in dataset):
        return OtherObject(relative, class_name(sop_class))
    pixels = _pixels_after(file, dataset)
    if pixels.fault and (not series or "Rows" not in dataset):
        return BrokenFile(relative, pixels.fault, series)
    return _image(dataset, relative, sop_class, pixels=pixels)


def _says_who_it_is(dataset: Dataset) -> bool:
    return bool(text(dataset, "SeriesInstanceUID") or text(dataset, "Rows") or text(dataset, "SOPInstanceUID"))


def _sop_class(dataset: FileDataset) -> str:
    """Give the SOP class of the data set; the file meta information's where it is absent, or cut in its middle."""
    own, repeated = text(dataset, "SOPClassUID"), _meta(dataset, "MediaStorageSOPClassUID")
    return repeated if repeated and class_name(own) == own else own


def _pixels_after(file: BinaryIO, dataset: FileDataset) -> PixelElement:
    """Look at the pixels where the header ended; a deflated file shows no positions, so decoding must tell."""
    if _meta(dataset, "TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        return PixelElement()
    implicit, little = dataset.original_encoding
    size = os.fstat(file.fileno()).st_size
    expected = _expected_pixel_bytes(dataset)
    return pixel_element(file, size=size, expected=expected, big_endian=not little, implicit=bool(implicit))


def _transfer_syntax(dataset: FileDataset) -> str:
    """Give the file's transfer syntax; a bare data set without file meta information is what it was read as."""
    named = _meta(dataset, "TransferSyntaxUID")
    if named:
        return named
    implicit, little = dataset.original_encoding
    if not little:
        return str(ExplicitVRBigEndian)
    return str(ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian)


def _meta(dataset: FileDataset, keyword: str) -> str:
    return text(dataset.file_meta, keyword) if hasattr(dataset, "file_meta") else ""


def _label(path: Path, relative: PurePosixPath, sop_class: str) -> LabelObject:
    kind = LABEL_CLASSES[sop_class]
    try:
        with BoundedReader(path) as file:
            return label_object(dcmread(file, stop_before_pixels=True, force=True), relative, kind)
    except BROKEN_FILE_ERRORS as error:
        return LabelObject(relative, kind, "", "", fault=_reason(error))


def _expected_pixel_bytes(dataset: Dataset) -> int:
    """Give the bytes that native pixels of this header take, 0 where the header does not say."""
    try:
        parts = [integer(dataset, name, 0) for name in ("Rows", "Columns", "BitsAllocated")]
        parts += [integer(dataset, name, 1) for name in ("SamplesPerPixel", "NumberOfFrames")]
    except WrongValue:
        return 0
    rows, columns, bits, samples, frames = parts
    return rows * columns * bits * samples * frames // 8


def _image(dataset: FileDataset, relative: PurePosixPath, sop_class: str, *, pixels: PixelElement) -> ImageHeader:
    identity = _identity(dataset, relative, sop_class)
    try:
        return ImageHeader(**identity, **_geometry(dataset), **_pixel_format(dataset, pixels))
    except BROKEN_FILE_ERRORS as error:
        return ImageHeader(**identity, fault=pixels.fault or _reason(error))


def _identity(dataset: FileDataset, relative: PurePosixPath, sop_class: str) -> dict[str, Any]:
    return {
        "path": relative,
        "sop_class_uid": sop_class,
        "sop_instance_uid": text(dataset, "SOPInstanceUID") or _meta(dataset, "MediaStorageSOPInstanceUID"),
        "series_instance_uid": text(dataset, "SeriesInstanceUID"),
        "study_instance_uid": text(dataset, "StudyInstanceUID"),
        "patient_key": patient_key(dataset),
        "modality": text(dataset, "Modality"),
        "manufacturer": text(dataset, "Manufacturer"),
        "model_name": text(dataset, "ManufacturerModelName"),
        "frame_of_reference_uid": text(dataset, "FrameOfReferenceUID"),
        "image_type": texts(dataset, "ImageType"),
        "transfer_syntax_uid": _transfer_syntax(dataset),
        "units": text(dataset, "Units"),
    }


def _geometry(dataset: FileDataset) -> dict[str, Any]:
    return {
        "rows": integer(dataset, "Rows", 0),
        "columns": integer(dataset, "Columns", 0),
        "frames": integer(dataset, "NumberOfFrames", 1),
        "position_mm": numbers(dataset, "ImagePositionPatient", 3),
        "orientation": numbers(dataset, "ImageOrientationPatient", 6),
        "pixel_spacing_mm": numbers(dataset, "PixelSpacing", 2),
        "gantry_tilt_degrees": number(dataset, "GantryDetectorTilt") or 0.0,
    }


def _pixel_format(dataset: FileDataset, pixels: PixelElement) -> dict[str, Any]:
    return {
        "samples": integer(dataset, "SamplesPerPixel", 1),
        "photometric": text(dataset, "PhotometricInterpretation"),
        "bits_allocated": integer(dataset, "BitsAllocated", 0),
        "bits_stored": integer(dataset, "BitsStored", 0),
        "high_bit": integer(dataset, "HighBit", 0),
        "slope": number(dataset, "RescaleSlope"),
        "intercept": number(dataset, "RescaleIntercept"),
        "has_lookup_table": "ModalityLUTSequence" in dataset,
        "has_integer_pixels": pixels.is_integer,
        "fault": pixels.fault,
    }


def _reason(error: Exception) -> str:
    """Say in short what is wrong with a file, in words that cannot hold a value of the patient's."""
    if isinstance(error, WrongValue):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return f"it cannot be read ({type(error).__name__})"
