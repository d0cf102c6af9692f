"""Removing one patient's files from a hospital's sources."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from pydicom import dcmread

from fedward.dicom.image_classes import forget_rows
from fedward.dicom.nifti_source import patient_of_file, patient_of_stem
from fedward.dicom.quiet import BROKEN_FILE_ERRORS, quiet_pydicom
from fedward.dicom.studies import existing_folder
from fedward.dicom.values import derived_uid, patient_key, text
from fedward.files import explained_writes
from fedward.settings.site import DicomSource, NiftiSource

_TAGS = ["IssuerOfPatientID", "PatientID", "SeriesInstanceUID"]

IsPatient = Callable[[str], bool]


def forget_in_source(source: DicomSource | NiftiSource, is_patient: IsPatient) -> tuple[int, frozenset[str]]:
    """Delete every file of a patient (images, labels, other objects), and its rows in the table of images' classes.

    Args:
        source: One of the site's.
        is_patient: Whether a patient key is this patient's.

    Returns:
        How many files were deleted, and the UIDs of the series that they were of.

    Raises:
        SourceError: ``missing_source``, or ``unreadable_source``: the table; then nothing is deleted.
        StoreError: a file cannot be deleted.
    """
    found = _of_dicom(source, is_patient) if isinstance(source, DicomSource) else _of_nifti(source, is_patient)
    files = dict(found)
    if isinstance(source, DicomSource) and source.mask_path is not None:
        masks = (source.mask_path / f"{uid}.nii.gz" for uid in set(files.values()))
        files.update({mask: "" for mask in masks if mask.is_file()})
    series = frozenset(uid for uid in files.values() if uid)
    # Rows before files: who is interrupted finds the rest again by the files.
    if isinstance(source, DicomSource):
        forget_rows(source.image_classes, lambda image: image in series)
    else:
        forget_rows(source.image_classes, lambda image: is_patient(patient_of_stem(image, source)))
    for path in files:
        with explained_writes(path):
            path.unlink()
    return len(files), series


def _of_dicom(source: DicomSource, is_patient: IsPatient) -> Iterator[tuple[Path, str]]:
    for path in sorted(existing_folder(source.path).rglob("*")):
        if not path.is_file():
            continue
        try:
            with quiet_pydicom():
                dataset = dcmread(path, stop_before_pixels=True, force=True, specific_tags=_TAGS)
                key, series = patient_key(dataset), text(dataset, "SeriesInstanceUID")
        except BROKEN_FILE_ERRORS:
            continue  # it names nobody
        if key and is_patient(key):
            yield path, series


def _of_nifti(source: NiftiSource, is_patient: IsPatient) -> Iterator[tuple[Path, str]]:
    for path in sorted(existing_folder(source.images).iterdir()):
        if path.name.endswith(source.image_suffix) and is_patient(patient_of_file(path, source)):
            yield path, derived_uid("series", path.name)
            stem = path.name.removesuffix(source.image_suffix)
            label = source.labels / f"{stem}{source.label_suffix}" if source.labels else None
            if label is not None and label.is_file():
                yield label, ""
