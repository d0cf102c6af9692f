"""The source images' headers: whose they are, and what the DICOM SEG must repeat of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset

from fedward.dicom.bounded import BoundedReader
from fedward.dicom.quiet import BROKEN_FILE_ERRORS, quiet_pydicom
from fedward.dicom.values import WrongValue, integer, text
from fedward.dicom.volume import Volume
from fedward.errors import SourceError
from fedward.report.document import Patient, Series, Study


def read_headers(volume: Volume) -> tuple[Dataset, ...]:
    """Read the header of every slice, in slice order and without pixels; none for a NIfTI source.

    Raises:
        SourceError: a file has gone or holds another image than when the volume was read.
    """
    if not volume.sop_instance_uids:
        return ()
    pairs = zip(volume.files, volume.sop_instance_uids, strict=True)
    return tuple(_read_header(path, sop_instance_uid) for path, sop_instance_uid in pairs)


def _read_header(path: Path, sop_instance_uid: str) -> Dataset:
    try:
        with BoundedReader(path) as file, quiet_pydicom():
            header = dcmread(file, stop_before_pixels=True, force=True)
            found = text(header, "SOPInstanceUID")
    except BROKEN_FILE_ERRORS as error:
        raise SourceError("unreadable_source", f"{path.name} can no longer be read") from error
    if found != sop_instance_uid:
        raise SourceError("unreadable_source", f"{path.name} is no longer the image that was read")
    return header


def patient_of(volume: Volume, headers: Sequence[Dataset]) -> Patient:
    """Give the patient as the source names them."""
    return Patient(id=_text(headers[0], "PatientID") if headers else volume.patient_key)


def study_of(volume: Volume, headers: Sequence[Dataset]) -> Study:
    """Give the study as the source describes it."""
    if not headers:
        return Study(instance_uid=volume.study_instance_uid)
    return Study(
        instance_uid=volume.study_instance_uid,
        date=_date(_text(headers[0], "StudyDate")),
        description=_text(headers[0], "StudyDescription"),
        accession_number=_text(headers[0], "AccessionNumber"),
    )


def series_of(volume: Volume, headers: Sequence[Dataset]) -> Series:
    """Give the series as the source describes it, with the volume's own shape and spacing."""
    slices, rows, columns = volume.array.shape
    return Series(
        instance_uid=volume.series_instance_uid,
        source="DICOM" if headers else "NIfTI",
        modality=volume.modality,
        number=_whole_number(headers[0], "SeriesNumber") if headers else None,
        description=_text(headers[0], "SeriesDescription") if headers else "",
        manufacturer=volume.manufacturer,
        model_name=volume.model_name,
        shape=(slices, rows, columns),
        spacing_mm=volume.spacing_mm,
        files=len(volume.files),
    )


def instance_number(headers: Sequence[Dataset], slice_number: int) -> int | None:
    """Give the Instance Number of slice ``slice_number`` (from 1), by which a viewer shows it."""
    return _whole_number(headers[slice_number - 1], "InstanceNumber") if headers else None


def _text(header: Dataset, keyword: str) -> str:
    """Give an attribute as text, empty where it cannot be read: words about an image do not decide anything."""
    try:
        with quiet_pydicom():
            return text(header, keyword)
    except BROKEN_FILE_ERRORS:
        return ""


def _whole_number(header: Dataset, keyword: str) -> int | None:
    """Give an attribute as a whole number, None where it is absent or is none."""
    try:
        with quiet_pydicom():
            return integer(header, keyword, 0) if text(header, keyword) else None
    except (WrongValue, *BROKEN_FILE_ERRORS):
        return None


def _date(value: str) -> str:
    """Write a DICOM date (YYYYMMDD) with hyphens; leave another form as it stands."""
    return f"{value[:4]}-{value[4:6]}-{value[6:]}" if len(value) == 8 and value.isdigit() else value
