"""A hospital's data sources as studies with labels: DICOM archives and NIfTI folders behind one interface."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fedward.dicom.labels import labels_of, orphans, read_label, read_mask, whole_values
from fedward.dicom.nifti import read_nifti
from fedward.dicom.placement import place
from fedward.dicom.reader import ACCEPTED, Scan, ScannedSeries, scan
from fedward.dicom.volume import Label, Verdict, Volume
from fedward.errors import LabelRefused, SourceError
from fedward.settings.site import DicomSource, NiftiSource


@dataclass(frozen=True, eq=False)
class StudyCase:
    """One accepted series, not yet decoded, and its label if it has one.

    Attributes:
        patient_key: Issuer and normalised id.
        verdict: What the reader decided.
        has_label: Whether a label refers to it.
        files: All files that image and label are read from.
        read: Decodes the image; raises SeriesRefused or SourceError.
        read_label: Gives the label of the asked classes on the volume's grid, None where it has none of them; raises
            LabelRefused.
    """

    patient_key: str
    verdict: Verdict
    has_label: bool
    files: tuple[Path, ...]
    read: Callable[[], Volume]
    read_label: Callable[[tuple[str, ...], Volume], Label | None]

    @property
    def series_instance_uid(self) -> str:
        """The series."""
        return self.verdict.series_instance_uid

    @property
    def study_instance_uid(self) -> str:
        """Its study."""
        return self.verdict.study_instance_uid

    @property
    def modality(self) -> str:
        """CT, MR or PT."""
        return self.verdict.modality


@dataclass(frozen=True, eq=False)
class Source:
    """What a source holds.

    Attributes:
        refused: Series that the reader refused.
        unmatched: Labels that refer to no series of the source.
    """

    cases: tuple[StudyCase, ...]
    refused: tuple[Verdict, ...] = ()
    unmatched: tuple[Verdict, ...] = field(default=())

    def studies(self) -> tuple[StudyCase, ...]:
        """Give the accepted series."""
        return self.cases


def open_source(source: DicomSource | NiftiSource, *, state: Path | None = None) -> Source:  # noqa: ARG001
    """Look through a source; headers alone are read.

    Raises:
        SourceError: ``missing_source``, ``empty_source`` or ``unreadable_source``.
    """
    return _open_dicom(source) if isinstance(source, DicomSource) else _open_nifti(source)


def _open_dicom(source: DicomSource) -> Source:
    scanned = scan(source.path)
    cases = [_dicom_case(series, scanned, source) for series in scanned.series if series.verdict.accepted]
    refused = [series.verdict for series in scanned.series if not series.verdict.accepted]
    return Source(tuple(cases), (*refused, *scanned.broken_verdicts), unmatched_verdicts(scanned))


def unmatched_verdicts(scanned: Scan) -> tuple[Verdict, ...]:
    """Refuse each label object that refers to no series of its scan."""
    return tuple(
        Verdict(
            accepted=False,
            code="unknown_reference",
            sentence=f"{label.path}: the images that this {label.kind} was drawn on are not here",
            series_instance_uid="",
            study_instance_uid=label.study_instance_uid,
            modality=label.kind,
            file_count=1,
            files=(str(label.path),),
        )
        for label in orphans(scanned)
    )


def _dicom_case(series: ScannedSeries, scanned: Scan, source: DicomSource) -> StudyCase:
    candidates = labels_of(series, scanned)
    mask = _mask_of(series, source)
    root = series.root

    def read(classes: tuple[str, ...], volume: Volume) -> Label | None:
        if mask is not None:
            return read_mask(mask, volume, classes=classes)
        return read_label(root, candidates, volume, classes=classes, patterns=source.classes)

    files = [root / header.path for header in series.headers] + [root / label.path for label in candidates]
    return StudyCase(
        patient_key=series.headers[0].patient_key,
        verdict=series.verdict,
        has_label=bool(candidates) or mask is not None,
        files=tuple([*files, mask] if mask else files),
        read=series.read,
        read_label=read,
    )


def _mask_of(series: ScannedSeries, source: DicomSource) -> Path | None:
    if source.mask_path is None:
        return None
    path = source.mask_path / f"{series.verdict.series_instance_uid}.nii.gz"
    return path if path.is_file() else None


def _open_nifti(source: NiftiSource) -> Source:
    if not source.images.is_dir():
        raise SourceError("missing_source", f"there is no folder {source.images}")
    suffix = source.image_suffix
    images = sorted(path for path in source.images.iterdir() if path.name.endswith(suffix) and path.is_file())
    if not images:
        raise SourceError("empty_source", f"no file below {source.images} ends in {suffix}")
    return Source(tuple(_nifti_case(path, source) for path in images))


def _nifti_case(image: Path, source: NiftiSource) -> StudyCase:
    stem = image.name.removesuffix(source.image_suffix)
    label = source.labels / f"{stem}{source.label_suffix}" if source.labels else None
    has_label = label is not None and label.is_file()
    patient = stem.split(source.patient_separator)[0] if source.patient_separator else stem
    verdict = Verdict(
        accepted=True,
        code=ACCEPTED,
        sentence="",
        series_instance_uid=_derived_uid("series", image.name),
        study_instance_uid=_derived_uid("study", image.name),
        modality=source.modality,
        file_count=1,
        files=(image.name,),
    )

    def read() -> Volume:
        array, affine = read_nifti(image)
        return Volume(
            array=array.astype(np.float32),
            affine=affine,
            modality=source.modality,
            patient_key=patient,
            study_instance_uid=verdict.study_instance_uid,
            series_instance_uid=verdict.series_instance_uid,
            files=(image,),
        )

    def read_label_file(classes: tuple[str, ...], volume: Volume) -> Label | None:
        return _nifti_label(label, volume, classes=classes, values=source.classes) if label and has_label else None

    return StudyCase(
        patient_key=patient,
        verdict=verdict,
        has_label=has_label,
        files=(image, label) if label and has_label else (image,),
        read=read,
        read_label=read_label_file,
    )


def _nifti_label(path: Path, volume: Volume, *, classes: tuple[str, ...], values: Mapping[str, int]) -> Label | None:
    asked = {values[name]: number for number, name in enumerate(classes, start=1) if name in values}
    if not asked:
        return None
    try:
        array, affine = read_nifti(path)
    except SourceError as error:
        raise LabelRefused("unreadable_label", error.detail) from error
    stored = whole_values(array, path.name)
    table = np.zeros(256, dtype=np.uint8)
    for value, number in asked.items():
        table[value] = number
    slices, rows, columns = volume.array.shape
    placed = place(table[stored], affine, target_affine=volume.affine, target_shape=(slices, rows, columns))
    return Label(placed, classes)


def _derived_uid(kind: str, name: str) -> str:
    """Give a UID below 2.25 (PS3.5 B.2) that the same file always gets."""
    digest = hashlib.sha256(f"{kind}\0{name}".encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"
