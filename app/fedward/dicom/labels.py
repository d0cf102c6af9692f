"""The label of a series: which objects hold it, which of their segments count, and their voxels on the image's grid."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedward.dicom.nifti import read_nifti
from fedward.dicom.objects import LabelObject
from fedward.dicom.placement import Indices, place
from fedward.dicom.quiet import BROKEN_FILE_ERRORS, quiet_pydicom
from fedward.dicom.segmentation import segment_voxels
from fedward.dicom.structure_set import region_voxels
from fedward.dicom.volume import Label, Volume
from fedward.errors import LabelRefused, SeriesRefused

#: A class's name to the shell patterns of the segment labels or ROI names that mean it.
ClassPatterns = Mapping[str, Sequence[str]]


def segments_by_class(label: LabelObject, patterns: ClassPatterns) -> dict[int, str]:
    """Give the class of each segment whose name fits one of the patterns, any case.

    Raises:
        LabelRefused: ``unreadable_label``, or ``unknown_class`` when a name fits two classes.
    """
    if label.fault:
        raise LabelRefused("unreadable_label", f"{label.path}: {label.fault}")
    found: dict[int, str] = {}
    for number, name in label.segments:
        fitting = [one for one, texts in patterns.items() if any(_fits(name, pattern) for pattern in texts)]
        if len(fitting) > 1:
            raise LabelRefused("unknown_class", f"{label.path}: segment {number} fits the classes {', '.join(fitting)}")
        if fitting:
            found[number] = fitting[0]
    return found


def may_label(label: LabelObject, patterns: ClassPatterns) -> bool:
    """Tell whether a label object has, or may have once somebody mends it, a segment of one of the classes."""
    try:
        return bool(segments_by_class(label, patterns))
    except LabelRefused:
        return True


def read_label(
    root: Path, candidates: Sequence[LabelObject], volume: Volume, *, classes: Sequence[str], patterns: ClassPatterns
) -> Label | None:
    """Give the label of a volume with the asked classes; None where no candidate has one of them.

    Each class must be named in exactly one object: two objects for one class leave open which is the truth, and a
    class that is named nowhere while others are may be absent or may never have been looked for. An empty segment
    says that it was looked for and not found.

    Args:
        root: The data root.
        candidates: The label objects that refer to the volume's series.
        volume: The image.
        classes: The job's classes; the k-th takes the value k.
        patterns: The hospital's names for them.

    Raises:
        LabelRefused: ``several_labels``, ``unknown_class``, and what :func:`read_object` refuses.
    """
    asked = {name: tuple(patterns.get(name, ())) for name in classes}
    fitting = [(label, found) for label in candidates if (found := segments_by_class(label, asked))]
    if not fitting:
        return None
    holders = {name: [label.path for label, found in fitting if name in found.values()] for name in classes}
    for name, paths in holders.items():
        if not paths:
            raise LabelRefused(
                "unknown_class", f"{fitting[0][0].path} has no segment for class {name}, not even an empty one"
            )
        if len(paths) > 1:
            listed = ", ".join(map(str, paths))
            raise LabelRefused("several_labels", f"{listed} all hold class {name}; keep the one that is the truth")
    array = np.zeros(volume.array.shape, dtype=np.uint8)
    for label, found in fitting:
        values = {number: list(classes).index(name) + 1 for number, name in found.items()}
        read_object(root, label, volume, values, onto=array)
    return Label(array, tuple(classes))


def read_object(
    root: Path, label: LabelObject, volume: Volume, values: Mapping[int, int], *, onto: NDArray[np.uint8]
) -> None:
    """Draw a label object onto an array of its volume's shape.

    Args:
        root: The data root.
        label: A SEG or RTSTRUCT.
        volume: Its image.
        values: Segment or ROI number to the value that its voxels take; others are left out.
        onto: Changed in place.

    Raises:
        LabelRefused: it does not fit its image, or ``overlapping_classes``.
    """
    if label.fault:
        raise LabelRefused("unreadable_label", f"{label.path}: {label.fault}")
    try:
        with quiet_pydicom():
            for number, indices in _voxels(root / label.path, label, volume, values):
                _draw(onto, indices, values.get(number, 0))
    except LabelRefused as error:
        raise LabelRefused(error.code, f"{label.path}: {error.detail}") from error
    except BROKEN_FILE_ERRORS as error:
        reason = f"{label.path} does not decode ({type(error).__name__})"
        raise LabelRefused("unreadable_label", reason) from error


def _draw(onto: NDArray[np.uint8], indices: Indices, value: int) -> None:
    places = tuple(indices.T)
    there = onto[places]
    if value and ((there != 0) & (there != value)).any():
        raise LabelRefused("overlapping_classes", "voxels belong to two classes at once")
    if value:
        onto[places] = value


def _voxels(path: Path, label: LabelObject, volume: Volume, values: Mapping[int, int]) -> Iterator[tuple[int, Indices]]:
    return segment_voxels(path, volume) if label.kind == "SEG" else region_voxels(path, volume, set(values))


def read_mask(path: Path, volume: Volume, *, values: Mapping[int, int], classes: Sequence[str]) -> Label:
    """Give a NIfTI mask as a volume's label.

    Args:
        path: The mask; it may be stored along other axes than the image.
        volume: The image.
        values: A value in the file to the value of the label; others become background.
        classes: The label's classes.

    Raises:
        LabelRefused: ``unreadable_label``, ``fractional_label`` or ``wrong_geometry``.
    """
    try:
        array, affine = read_nifti(path)
    except SeriesRefused as error:
        raise LabelRefused("unreadable_label", error.detail) from error
    stored = array.astype(np.uint8, casting="unsafe")
    if not np.array_equal(stored, array):
        raise LabelRefused("fractional_label", f"{path.name}: a mask holds whole numbers from 0 to 255")
    table = np.zeros(256, dtype=np.uint8)
    for value, number in values.items():
        table[value] = number
    try:
        placed = place(table[stored], affine, target_affine=volume.affine, target_shape=volume.array.shape)
    except LabelRefused as error:
        raise LabelRefused(error.code, f"{path.name}: {error.detail}") from error
    return Label(placed, tuple(classes))


def _fits(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name.strip().lower(), pattern.strip().lower())
