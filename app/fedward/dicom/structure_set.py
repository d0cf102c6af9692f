"""An RTSTRUCT's contours as voxels of its image: even-odd at voxel centres (PS3.3 C.8.8.6)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.filereader import dcmread

from fedward.dicom.bounded import BoundedReader
from fedward.dicom.placement import Indices
from fedward.dicom.references import contour_images, items
from fedward.dicom.values import text
from fedward.dicom.volume import Volume
from fedward.errors import LabelRefused

#: A contour's points may leave its slice by this share of the slice spacing.
_PLANE_TOLERANCE = 0.25
_CLOSED = frozenset({"CLOSED_PLANAR", "CLOSEDPLANAR_XOR", "CLOSED_PLANAR_XOR"})


def region_voxels(path: Path, volume: Volume, numbers: Collection[int]) -> Iterator[tuple[int, Indices]]:
    """Give ``(ROI number, voxel indices)`` of each contoured slice of the named regions.

    Contours of one region in one slice are combined by exclusive or: an inner one cuts a hole. Indices are
    ``(voxel, 3)`` of the volume.

    Raises:
        LabelRefused: a contour is open, oblique, outside of the image, or drawn on another series.
        BROKEN_FILE_ERRORS: the file does not decode.
    """
    with BoundedReader(path) as file:
        dataset = dcmread(file)
    regions = [one for one in items(dataset, "ROIContourSequence") if int(one.ReferencedROINumber) in numbers]
    _check_references(dataset, regions, volume)
    for region in regions:
        for number, mask in _slices(region, volume).items():
            yield int(region.ReferencedROINumber), np.insert(np.argwhere(mask), 0, number, axis=1)


def _check_references(dataset: Dataset, regions: Sequence[Dataset], volume: Volume) -> None:
    """Refuse contours that were drawn on other images than this series'.

    Some of the named images here and some not means that slices are missing. None of them here (the series was
    exported anew), or none named, leaves the place to the frame of reference alone.
    """
    named = {uid for region in regions for uid in contour_images(region)} - {""}
    missing = named - set(volume.sop_instance_uids)
    if missing and missing != named:
        raise LabelRefused(
            "unknown_reference", f"{len(missing)} of {len(named)} contoured images are not in this series"
        )
    frames = {text(item, "FrameOfReferenceUID") for item in items(dataset, "ReferencedFrameOfReferenceSequence")}
    frames |= {text(item, "ReferencedFrameOfReferenceUID") for item in items(dataset, "StructureSetROISequence")}
    vouched = volume.frame_of_reference_uid in frames if volume.frame_of_reference_uid else not missing
    if missing == named and not vouched:
        raise LabelRefused("unknown_reference", "neither the contoured images nor their frame of reference are here")


def _slices(region: Dataset, volume: Volume) -> dict[int, NDArray[np.bool_]]:
    inverse = np.linalg.inv(volume.affine)
    shape = volume.array.shape
    masks: dict[int, NDArray[np.bool_]] = {}
    for contour in items(region, "ContourSequence"):
        _check_kind(contour)
        points = np.array(contour.ContourData, dtype=np.float64).reshape(-1, 3)
        places = points @ inverse[:3, :3].T + inverse[:3, 3]
        number = _slice_of(places[:, 0], shape[0])
        _check_image(contour, number, volume)
        _check_inside(places[:, 1:], shape)
        filled = fill_even_odd(places[:, 1:], (shape[1], shape[2]))
        masks[number] = masks[number] ^ filled if number in masks else filled
    return masks


def _check_image(contour: Dataset, number: int, volume: Volume) -> None:
    """Refuse a contour that names one slice of this series and lies on another."""
    named = {text(image, "ReferencedSOPInstanceUID") for image in items(contour, "ContourImageSequence")}
    if named & set(volume.sop_instance_uids) and volume.sop_instance_uids[number] not in named:
        raise LabelRefused("wrong_geometry", "a contour lies on another slice than the one that it names")


def _check_kind(contour: Dataset) -> None:
    kind = text(contour, "ContourGeometricType")
    if kind not in _CLOSED:
        raise LabelRefused(
            "open_contour", f"expected closed planar contours, found {kind or 'no Contour Geometric Type'}"
        )


def _slice_of(depths: NDArray[np.float64], count: int) -> int:
    number = int(np.rint(np.median(depths)))
    if np.ptp(depths) > _PLANE_TOLERANCE:
        raise LabelRefused("oblique_contour", "a contour runs through several slices; expected one slice a contour")
    if np.abs(depths - number).max() > _PLANE_TOLERANCE:
        raise LabelRefused("wrong_geometry", "a contour lies between two slices")
    if not 0 <= number < count:
        raise LabelRefused("wrong_geometry", "a contour lies outside of the image's slices")
    return number


def _check_inside(places: NDArray[np.float64], shape: tuple[int, ...]) -> None:
    if (places < -1).any() or (places > shape[1:]).any():
        raise LabelRefused("wrong_geometry", "a contour leaves the image by more than a voxel")


def fill_even_odd(points: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Fill one closed polygon: a voxel belongs to it when a ray from its centre crosses the outline oddly often.

    Args:
        points: Vertices ``(row, column)`` in voxels, shape ``(vertex, 2)``.
        shape: ``(row, column)`` of the mask.

    Returns:
        The mask, bool.

    Source:
        Shimrat, Algorithm 112, Communications of the ACM 5 (1962); half-open rows count a shared vertex once.
    """
    following = np.roll(points, -1, axis=0)
    rising = points[:, 0] <= following[:, 0]
    low, high = np.where(rising[:, None], points, following), np.where(rising[:, None], following, points)
    first = np.maximum(np.ceil(low[:, 0]), 0).astype(np.int64)
    count = np.maximum(np.minimum(np.ceil(high[:, 0]), shape[0]).astype(np.int64) - first, 0)
    edge = np.repeat(np.arange(len(points)), count)
    rows = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count)
    slope = (high[edge, 1] - low[edge, 1]) / (high[edge, 0] - low[edge, 0])
    columns = low[edge, 1] + (rows - low[edge, 0]) * slope
    crossings = np.zeros((shape[0], shape[1] + 1), dtype=np.int64)
    np.add.at(crossings, (rows, np.clip(np.ceil(columns), 0, shape[1]).astype(np.int64)), 1)
    inside: NDArray[np.bool_] = np.cumsum(crossings, axis=1)[:, :-1] % 2 == 1
    return inside
