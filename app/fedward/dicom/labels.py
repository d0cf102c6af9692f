"""The label of a series: which object it is, which of its segments count, and its voxels on the image's grid."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedward.dicom.nifti import read_nifti
from fedward.dicom.objects import LabelObject
from fedward.dicom.placement import place
from fedward.dicom.reader import Scan, ScannedSeries
from fedward.dicom.segmentation import segment_masks
from fedward.dicom.structure_set import region_masks
from fedward.dicom.volume import Label, Volume
from fedward.errors import LabelRefused, SourceError

#: A class's name to the shell patterns of the segment labels or ROI names that mean it.
ClassPatterns = Mapping[str, Sequence[str]]


def labels_of(series: ScannedSeries, scan: Scan) -> tuple[LabelObject, ...]:
    """Give the label objects that refer to a series, by its UID or by an image of it."""
    instances = {header.sop_instance_uid for header in series.headers}
    uid = series.verdict.series_instance_uid
    return tuple(
        label for label in scan.labels if uid in label.referenced_series or instances & label.referenced_instances
    )


def orphans(scan: Scan) -> tuple[LabelObject, ...]:
    """Give the label objects that refer to no series here."""
    referred = {label.path for series in scan.series for label in labels_of(series, scan)}
    return tuple(label for label in scan.labels if label.path not in referred)


def segments_by_class(label: LabelObject, patterns: ClassPatterns) -> dict[int, str]:
    """Give the class of each segment whose name fits one of the patterns, any case.

    Raises:
        LabelRefused: ``unknown_class``: a name fits two classes.
    """
    found: dict[int, str] = {}
    for number, name in label.segments:
        fitting = [c for c, texts in patterns.items() if any(_fits(name, pattern) for pattern in texts)]
        if len(fitting) > 1:
            raise LabelRefused("unknown_class", f"{label.path}: segment {number} fits the classes {', '.join(fitting)}")
        if fitting:
            found[number] = fitting[0]
    return found


def read_object(root: Path, label: LabelObject, volume: Volume, values: Mapping[int, int]) -> NDArray[np.uint8]:
    """Give a label object's voxels on the volume's grid.

    Args:
        root: The data root.
        label: A SEG or RTSTRUCT.
        volume: Its image.
        values: Segment or ROI number to the value that its voxels take; others are left out.

    Returns:
        Shape of the volume, uint8.

    Raises:
        LabelRefused: it does not fit its image, or two classes overlap.
    """
    if label.fault:
        raise LabelRefused("unreadable_label", f"{label.path}: {label.fault}")
    path = root / label.path
    masks = segment_masks(path, volume) if label.kind == "SEG" else region_masks(path, volume, set(values))
    array = np.zeros(volume.array.shape, dtype=np.uint8)
    try:
        for number, mask, k in masks:
            value = values.get(number)
            if value is None:
                continue
            if ((array[k] != 0) & (array[k] != value) & mask).any():
                raise LabelRefused("overlapping_classes", "voxels belong to two classes at once")
            array[k][mask] = value
    except LabelRefused as error:
        raise LabelRefused(error.code, f"{label.path}: {error.detail}") from error
    return array


def read_label(
    root: Path, candidates: Sequence[LabelObject], volume: Volume, *, classes: Sequence[str], patterns: ClassPatterns
) -> Label | None:
    """Give the label of a volume with the asked classes; None where no candidate has one of them.

    Raises:
        LabelRefused: ``several_labels`` when two objects hold the asked classes, and what :func:`read_object` refuses.
    """
    asked = {name: tuple(patterns.get(name, ())) for name in classes}
    fitting = [(label, found) for label in candidates if (found := segments_by_class(label, asked))]
    if not fitting:
        return None
    if len(fitting) > 1:
        names = ", ".join(str(label.path) for label, _ in fitting)
        raise LabelRefused("several_labels", f"{names} all label this series; keep the one that is the truth")
    label, found = fitting[0]
    values = {number: list(classes).index(name) + 1 for number, name in found.items()}
    return Label(read_object(root, label, volume, values), tuple(classes))


def read_mask(path: Path, volume: Volume, *, classes: Sequence[str]) -> Label:
    """Give a NIfTI mask as a volume's label: value k is the k-th class.

    Raises:
        LabelRefused: ``unreadable_label``, ``unknown_class`` or ``wrong_geometry``.
    """
    try:
        array, affine = read_nifti(path)
    except SourceError as error:
        raise LabelRefused("unreadable_label", error.detail) from error
    values = whole_values(array, path.name)
    if values.max(initial=0) > len(classes):
        raise LabelRefused("unknown_class", f"{path.name}: value {values.max()} is none of the {len(classes)} classes")
    placed = place(values, affine, target_affine=volume.affine, target_shape=_shape(volume))
    return Label(placed, tuple(classes))


def whole_values(array: NDArray[np.generic], name: str) -> NDArray[np.uint8]:
    """Give a mask's values as whole numbers from 0 to 255.

    Raises:
        LabelRefused: ``fractional_label``.
    """
    values = array.astype(np.uint8)
    if not np.array_equal(values, array):
        raise LabelRefused("fractional_label", f"{name}: a mask holds whole numbers from 0 to 255")
    return values


def _fits(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name.strip().lower(), pattern.lower())


def _shape(volume: Volume) -> tuple[int, int, int]:
    slices, rows, columns = volume.array.shape
    return slices, rows, columns
