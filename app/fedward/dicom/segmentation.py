"""A DICOM SEG on its image's grid (PS3.3 A.51)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.filereader import dcmread
from pydicom.pixels.utils import pixel_array

from fedward.dicom.placement import TOLERANCE_VOXELS
from fedward.dicom.quiet import BROKEN_FILE_ERRORS, quiet_pydicom
from fedward.dicom.references import items, source_images
from fedward.dicom.values import numbers, text
from fedward.dicom.volume import Volume
from fedward.errors import LabelRefused

#: Direction cosines of label and image may differ by rounding alone.
_COSINE_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class _Frame:
    """One frame's mask, its segment (0: the values are segment numbers) and what places it."""

    values: NDArray[np.uint8]
    segment: int
    groups: Dataset


def segment_masks(path: Path, volume: Volume) -> Iterator[tuple[int, NDArray[np.bool_], int]]:
    """Give ``(segment number, mask, slice number from 0)`` of every frame, each mask ``(row, column)`` of the volume.

    Raises:
        LabelRefused: the file does not decode, is fractional, or does not lie on the volume's grid.
    """
    try:
        with quiet_pydicom():
            dataset = dcmread(path)
            shared = next(iter(items(dataset, "SharedFunctionalGroupsSequence")), Dataset())
            _check_patient_space(dataset, volume)
            for frame in _frames(dataset, shared):
                number, rows, columns = _place(frame, shared, volume)
                yield from _onto_slice(frame, number, rows, columns, volume)
    except BROKEN_FILE_ERRORS as error:
        raise LabelRefused("unreadable_label", f"{path.name} does not decode ({type(error).__name__})") from error


def _check_patient_space(dataset: Dataset, volume: Volume) -> None:
    frame_of_reference = text(dataset, "FrameOfReferenceUID")
    if frame_of_reference and volume.frame_of_reference_uid not in ("", frame_of_reference):
        raise LabelRefused("wrong_frame_of_reference", "the label's Frame of Reference UID is not its image's")


def _frames(dataset: Dataset, shared: Dataset) -> Iterator[_Frame]:
    kind = text(dataset, "SegmentationType")
    pixels = np.asarray(pixel_array(dataset, raw=True))
    stack = pixels[None] if pixels.ndim == 2 else pixels
    groups = items(dataset, "PerFrameFunctionalGroupsSequence")
    if len(groups) != len(stack):
        raise LabelRefused("unreadable_label", f"it has {len(stack)} frames and describes {len(groups)}")
    if kind == "FRACTIONAL":
        largest = int(dataset.MaximumFractionalValue)
        if not np.isin(stack, (0, largest)).all():
            raise LabelRefused("fractional_label", "it holds probabilities or occupancies; expected a binary SEG")
        stack = stack == largest
    for values, group in zip(stack, groups, strict=True):
        if kind == "LABELMAP":
            if values.max(initial=0) > 255:
                raise LabelRefused("unsupported_label", "it numbers more than 255 segments")
            yield _Frame(values.astype(np.uint8), 0, group)
        else:
            named = items(group, "SegmentIdentificationSequence") or items(shared, "SegmentIdentificationSequence")
            segment = int(named[0].ReferencedSegmentNumber)
            yield _Frame(values.astype(np.uint8), segment, group)


def _group(frame: _Frame, shared: Dataset, keyword: str) -> Dataset | None:
    found = items(frame.groups, keyword) or items(shared, keyword)
    return found[0] if found else None


def _place(frame: _Frame, shared: Dataset, volume: Volume) -> tuple[int, int, int]:
    """Give the slice, and the row and column of the volume where the frame's first voxel lies."""
    plane = _group(frame, shared, "PlanePositionSequence")
    position = numbers(plane, "ImagePositionPatient", 3) if plane else None
    if position is None:
        return _slice_of_source(frame, volume), 0, 0
    _check_directions(frame, shared, volume)
    index = np.linalg.inv(volume.affine) @ np.array([*position, 1.0])
    nearest = np.rint(index[:3])
    if np.abs(index[:3] - nearest).max() > TOLERANCE_VOXELS:
        raise LabelRefused("wrong_geometry", "a frame of the label lies between the image's voxels")
    number, row, column = (int(value) for value in nearest)
    return number, row, column


def _slice_of_source(frame: _Frame, volume: Volume) -> int:
    for uid in source_images(frame.groups):
        if uid in volume.sop_instance_uids:
            return volume.sop_instance_uids.index(uid)
    raise LabelRefused("unknown_reference", "a frame of the label has neither a position nor an image of this series")


def _check_directions(frame: _Frame, shared: Dataset, volume: Volume) -> None:
    plane = _group(frame, shared, "PlaneOrientationSequence")
    measures = _group(frame, shared, "PixelMeasuresSequence")
    directions = numbers(plane, "ImageOrientationPatient", 6) if plane else None
    spacing = numbers(measures, "PixelSpacing", 2) if measures else None
    if directions is None or spacing is None:
        raise LabelRefused("wrong_geometry", "the label does not say its orientation or pixel spacing")
    along_column = np.array(directions[3:]) * spacing[0]
    along_row = np.array(directions[:3]) * spacing[1]
    expected = volume.affine[:3, 1:3]
    if np.abs(np.stack([along_column, along_row], axis=1) - expected).max() > _COSINE_TOLERANCE * max(spacing):
        raise LabelRefused("wrong_geometry", "the label's orientation or pixel spacing is not its image's")


def _onto_slice(
    frame: _Frame, number: int, row: int, column: int, volume: Volume
) -> Iterator[tuple[int, NDArray[np.bool_], int]]:
    slices, rows, columns = volume.array.shape
    height, width = frame.values.shape
    if not frame.values.any():
        return
    if not (0 <= number < slices and 0 <= row <= rows - height and 0 <= column <= columns - width):
        raise LabelRefused("wrong_geometry", "a frame of the label lies outside of its image")
    for segment in (frame.segment,) if frame.segment else (int(v) for v in np.unique(frame.values) if v):
        mask = np.zeros((rows, columns), dtype=bool)
        part = frame.values != 0 if frame.segment else frame.values == segment
        mask[row : row + height, column : column + width] = part
        yield segment, mask, number
