"""Each accepted series as NIfTI in patient space, its label beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fedward.dicom.labels import read_object
from fedward.dicom.matching import labels_of, orphans
from fedward.dicom.nifti import write_nifti
from fedward.dicom.reader import Scan, ScannedSeries, scan
from fedward.dicom.volume import Verdict, Volume
from fedward.errors import LabelRefused, SeriesRefused

#: What a label file of one byte a voxel can number.
MOST_SEGMENTS = 255


@dataclass(frozen=True)
class ConvertedSeries:
    """What became of one series.

    Attributes:
        image: The image's file, None where the series was refused.
        label: The label's file, None where there is none or it was refused.
        refusals: Of the series or of its label.
    """

    image: Path | None
    label: Path | None
    refusals: tuple[Verdict, ...] = ()


def convert(root: Path, out: Path, *, progress: Callable[[int, int], None] | None = None) -> list[ConvertedSeries]:
    """Write ``SERIESUID.nii.gz`` and ``SERIESUID_label.nii.gz`` for each accepted series below ``root``.

    A label's segments or regions take the values 1, 2, ... in the order of their numbers.

    Raises:
        SourceError: nothing there is DICOM.
        StoreError: the disk cannot take a file; nothing half-written is left.
    """
    scanned = scan(root)
    converted = []
    for number, series in enumerate(scanned.series, start=1):
        converted.append(_convert(series, scanned, out))
        if progress:
            progress(number, len(scanned.series))
    lost = (*scanned.broken_verdicts, *orphans(scanned))
    return [*converted, *(ConvertedSeries(None, None, (verdict,)) for verdict in lost)]


def _convert(series: ScannedSeries, scanned: Scan, out: Path) -> ConvertedSeries:
    if not series.verdict.accepted:
        return ConvertedSeries(None, None, (series.verdict,))
    try:
        volume = series.read()
    except SeriesRefused as error:
        return ConvertedSeries(None, None, (_refused(series, error),))
    image = out / f"{volume.series_instance_uid}.nii.gz"
    write_nifti(image, volume.array, volume.affine)
    try:
        label = _convert_label(series, scanned, volume, out)
    except LabelRefused as error:
        return ConvertedSeries(image, None, (_refused(series, error),))
    return ConvertedSeries(image, label)


def _convert_label(series: ScannedSeries, scanned: Scan, volume: Volume, out: Path) -> Path | None:
    candidates = labels_of(series, scanned)
    if not candidates:
        return None
    if len(candidates) > 1:
        names = ", ".join(str(label.path) for label in candidates)
        raise LabelRefused("several_labels", f"{names} all label this series; keep the one that is the truth")
    label = candidates[0]
    values = {number: value for value, (number, _) in enumerate(label.segments, start=1)}
    if len(values) > MOST_SEGMENTS:
        raise LabelRefused("unsupported_label", f"{label.path}: more than {MOST_SEGMENTS} segments")
    array = np.zeros(volume.array.shape, dtype=np.uint8)
    read_object(series.root, label, volume, values, onto=array)
    path = out / f"{volume.series_instance_uid}_label.nii.gz"
    write_nifti(path, array, volume.affine)
    return path


def _refused(series: ScannedSeries, error: SeriesRefused | LabelRefused) -> Verdict:
    return replace(series.verdict, accepted=False, code=error.code, sentence=error.detail)
