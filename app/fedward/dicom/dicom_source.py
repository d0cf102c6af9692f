"""A hospital's DICOM archive as series with labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fedward.dicom.image_classes import read_image_classes, rows_without_image
from fedward.dicom.labels import may_label, read_label, read_mask
from fedward.dicom.matching import labels_of, orphans
from fedward.dicom.reader import Scan, ScannedSeries, scan
from fedward.dicom.studies import Source, StudyCase, existing_folder
from fedward.dicom.volume import Label, Volume
from fedward.settings.site import DicomSource


def open_dicom(source: DicomSource) -> Source:
    """Look through a DICOM archive; headers alone are read.

    Raises:
        SourceError: ``missing_source``, ``empty_source`` or ``unreadable_source``.
    """
    if source.mask_path is not None:
        existing_folder(source.mask_path)
    classes = read_image_classes(source.image_classes)
    scanned = scan(source.path)
    cases = [_case(series, scanned, source, classes) for series in scanned.series if series.verdict.accepted]
    refused = [series.verdict for series in scanned.series if not series.verdict.accepted]
    series_uids = [series.verdict.series_instance_uid for series in scanned.series]
    unmatched = (*orphans(scanned), *rows_without_image(source.image_classes, classes, series_uids))
    return Source(tuple(cases), (*refused, *scanned.broken_verdicts), unmatched)


def _case(series: ScannedSeries, scanned: Scan, source: DicomSource, classes: Mapping[str, str]) -> StudyCase:
    mask = _mask_of(series, source)
    candidates = [label for label in labels_of(series, scanned) if may_label(label, source.classes)]
    root = series.root

    def read(classes: tuple[str, ...], volume: Volume) -> Label | None:
        if mask is not None:
            return read_mask(mask, volume, values=_mask_values(source, classes), classes=classes)
        return read_label(root, candidates, volume, classes=classes, patterns=source.classes)

    files = [root / header.path for header in series.headers]
    files += [mask] if mask is not None else [root / label.path for label in candidates]
    return StudyCase(
        patient_key=series.headers[0].patient_key,
        verdict=series.verdict,
        has_label=mask is not None or bool(candidates),
        files=tuple(files),
        read=series.read,
        read_label=read,
        image_class=classes.get(series.verdict.series_instance_uid, ""),
    )


def _mask_of(series: ScannedSeries, source: DicomSource) -> Path | None:
    """Give the series' NIfTI mask. Where the hospital laid one down it stands before any SEG or RTSTRUCT."""
    if source.mask_path is None:
        return None
    path = source.mask_path / f"{series.verdict.series_instance_uid}.nii.gz"
    return path if path.is_file() else None


def _mask_values(source: DicomSource, classes: tuple[str, ...]) -> dict[int, int]:
    """Give a mask's values to the job's: value k is the k-th class of the site file, of the job where it names none."""
    named = tuple(source.classes) or classes
    return {number: classes.index(name) + 1 for number, name in enumerate(named, start=1) if name in classes}
