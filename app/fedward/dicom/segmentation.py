"""A DICOM SEG on its image's grid (PS3.3 A.51)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset
from pydicom.filereader import dcmread
from pydicom.pixels.utils import iter_pixels

from fedward.dicom.bounded import BoundedReader
from fedward.dicom.placement import Indices, Placement, placement
from fedward.dicom.references import items, source_images
from fedward.dicom.values import numbers, text
from fedward.dicom.volume import Volume
from fedward.errors import LabelRefused

#: Lengths below this count as none when a frame's axis is compared with the image's, in voxels.
_UNIT_TOLERANCE = 0.01


def segment_voxels(path: Path, volume: Volume) -> Iterator[tuple[int, Indices]]:
    """Give ``(segment number, voxel indices)`` of every frame that holds any; indices are ``(voxel, 3)`` of the volume.

    BINARY and LABELMAP objects are read, and FRACTIONAL ones that hold nothing but none and all. Frames are decoded
    one at a time.

    Raises:
        LabelRefused: it is fractional, of an unknown kind, or does not lie on the volume's grid.
        BROKEN_FILE_ERRORS: the file does not decode.
    """
    with BoundedReader(path) as file:
        dataset = dcmread(file)
    _check_frame_of_reference(dataset, volume)
    shared = next(iter(items(dataset, "SharedFunctionalGroupsSequence")), Dataset())
    groups = items(dataset, "PerFrameFunctionalGroupsSequence")
    for values, own in zip(_frames(dataset), groups, strict=True):
        yield from _frame(values, _Groups(own, shared), dataset, volume)


def _frames(dataset: FileDataset) -> Iterator[NDArray[np.generic]]:
    """Give the frames one by one, each ``(row, column)``.

    Packed bits are taken apart here: frames need not begin with a byte (PS3.5 section 8.1.1), and pydicom's iterator
    takes it that they do.
    """
    rows, columns, count = int(dataset.Rows), int(dataset.Columns), int(dataset.get("NumberOfFrames", 1))
    syntax = dataset.file_meta.TransferSyntaxUID
    if dataset.BitsAllocated != 1 or syntax.is_encapsulated or not syntax.is_little_endian:
        yield from iter_pixels(dataset, raw=True)
        return
    packed, size = np.frombuffer(dataset.PixelData, dtype=np.uint8), rows * columns
    if 8 * len(packed) < count * size:
        raise LabelRefused("unreadable_label", f"it holds {8 * len(packed)} of {count * size} bits")
    for start in range(0, count * size, size):
        bits = np.unpackbits(packed[start // 8 : (start + size + 7) // 8], bitorder="little")
        yield bits[start % 8 : start % 8 + size].reshape(rows, columns)


class _Groups:
    """A frame's functional groups: its own, else those that all frames share (PS3.3 C.7.6.16)."""

    def __init__(self, own: Dataset, shared: Dataset) -> None:
        self._own, self._shared = own, shared

    def first(self, keyword: str) -> Dataset:
        """Give the first item of a group.

        Raises:
            LabelRefused: neither the frame nor the object has the group.
        """
        found = items(self._own, keyword) or items(self._shared, keyword)
        if not found:
            raise LabelRefused("unreadable_label", f"a frame has no {keyword}")
        return found[0]

    @property
    def sources(self) -> set[str]:
        """The SOP Instance UIDs that the frame says it was drawn on."""
        return set(source_images(self._own)) | set(source_images(self._shared))


def _check_frame_of_reference(dataset: Dataset, volume: Volume) -> None:
    named = text(dataset, "FrameOfReferenceUID")
    if named and volume.frame_of_reference_uid not in ("", named):
        raise LabelRefused("wrong_frame_of_reference", "its Frame of Reference UID (0020,0052) is not its image's")


def _frame(
    values: NDArray[np.generic], groups: _Groups, dataset: Dataset, volume: Volume
) -> Iterator[tuple[int, Indices]]:
    parts = _parts(values, groups, dataset)
    if not parts:
        return
    laid = _laid(groups, values.shape, volume)
    for segment, mask in parts:
        plane = np.argwhere(mask)
        indices = laid.place(np.insert(plane, 0, 0, axis=1))
        _check_sources(groups, indices, volume)
        yield segment, indices


def _parts(values: NDArray[np.generic], groups: _Groups, dataset: Dataset) -> list[tuple[int, NDArray[np.bool_]]]:
    """Give the segments of one frame with their masks, those without any voxel left out."""
    kind = text(dataset, "SegmentationType")
    if kind == "LABELMAP":
        background = int(dataset.get("PixelPaddingValue", 0) or 0)
        return [(int(value), values == value) for value in np.unique(values) if value not in (0, background)]
    if kind not in ("BINARY", "FRACTIONAL"):
        raise LabelRefused("unsupported_label", f"Segmentation Type (0062,0001) is {kind or 'missing'}")
    full = int(dataset.MaximumFractionalValue) if kind == "FRACTIONAL" else 1
    mask = values == full
    if ((values != 0) & ~mask).any():
        raise LabelRefused("fractional_label", "it holds probabilities or occupancies; expected a binary SEG")
    number = int(groups.first("SegmentIdentificationSequence").ReferencedSegmentNumber)
    return [(number, mask)] if mask.any() else []


def _laid(groups: _Groups, shape: tuple[int, ...], volume: Volume) -> Placement:
    """Lay a frame onto the volume by its position, orientation and pixel spacing.

    The frame may run along the volume's axes in any order and direction; it has no depth of its own, so that its
    third axis is whichever of the volume's is left.
    """
    position = numbers(groups.first("PlanePositionSequence"), "ImagePositionPatient", 3)
    cosines = numbers(groups.first("PlaneOrientationSequence"), "ImageOrientationPatient", 6)
    spacing = numbers(groups.first("PixelMeasuresSequence"), "PixelSpacing", 2)
    if position is None or cosines is None or spacing is None:
        raise LabelRefused("unreadable_label", "a frame does not say its position, orientation or pixel spacing")
    affine = np.eye(4)
    affine[:3, 1] = np.array(cosines[3:]) * spacing[0]
    affine[:3, 2] = np.array(cosines[:3]) * spacing[1]
    affine[:3, 3] = position
    steps = np.abs(np.linalg.inv(volume.affine[:3, :3]) @ affine[:3, 1:3])
    free = np.flatnonzero(steps.max(axis=1) < _UNIT_TOLERANCE)
    if len(free) != 1:
        raise LabelRefused("wrong_geometry", "the label's planes do not run along its image's axes")
    affine[:3, 0] = volume.affine[:3, free[0]]
    return placement(affine, (1, *shape), target_affine=volume.affine, target_shape=volume.array.shape)


def _check_sources(groups: _Groups, indices: Indices, volume: Volume) -> None:
    """Refuse a frame that says it was drawn on other slices of this series than it lies on."""
    here = groups.sources & set(volume.sop_instance_uids)
    lies_on = {volume.sop_instance_uids[number] for number in np.unique(indices[:, 0])} if here else set()
    if here and not here & lies_on:
        raise LabelRefused("wrong_geometry", "a frame lies on another slice than the one that it names")
