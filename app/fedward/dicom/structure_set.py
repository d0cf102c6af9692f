"""An RTSTRUCT's contours as voxels of its image: even-odd at voxel centres (PS3.3 C.8.8.6)."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.filereader import dcmread

from fedward.dicom.quiet import BROKEN_FILE_ERRORS, quiet_pydicom
from fedward.dicom.references import contour_images, items
from fedward.dicom.values import text
from fedward.dicom.volume import Volume
from fedward.errors import LabelRefused

#: A contour's points may leave its slice by this share of the slice spacing.
_PLANE_TOLERANCE = 0.25
_CLOSED = frozenset({"CLOSED_PLANAR", "CLOSEDPLANAR_XOR", "CLOSED_PLANAR_XOR"})


def region_masks(path: Path, volume: Volume, numbers: Collection[int]) -> Iterator[tuple[int, NDArray[np.bool_], int]]:
    """Give ``(ROI number, mask, slice number from 0)`` of each contoured slice of the named regions.

    Contours of one region in one slice are combined by exclusive or: an inner one cuts a hole.

    Raises:
        LabelRefused: a contour is open, oblique, outside of the image, or drawn on another series.
    """
    try:
        with quiet_pydicom():
            dataset = dcmread(path)
            _check_references(dataset, volume)
            for region in items(dataset, "ROIContourSequence"):
                number = int(region.ReferencedROINumber)
                if number in numbers:
                    yield from ((number, mask, k) for k, mask in _slices(region, volume).items())
    except BROKEN_FILE_ERRORS as error:
        raise LabelRefused("unreadable_label", f"{path.name} does not decode ({type(error).__name__})") from error


def _check_references(dataset: Dataset, volume: Volume) -> None:
    """Refuse contours that were drawn on other images than this series'.

    A series that was exported anew has new instance UIDs: then none of the named images is here, and the frame of
    reference must vouch for the place. Some here and some not means that slices are missing.
    """
    named = {uid for region in items(dataset, "ROIContourSequence") for uid in contour_images(region)} - {""}
    missing = named - set(volume.sop_instance_uids)
    if missing and missing != named:
        raise LabelRefused(
            "unknown_reference", f"{len(missing)} of {len(named)} contoured images are not in this series"
        )
    frames = {text(item, "FrameOfReferenceUID") for item in items(dataset, "ReferencedFrameOfReferenceSequence")}
    if missing and volume.frame_of_reference_uid not in frames:
        raise LabelRefused("unknown_reference", "neither the contoured images nor their frame of reference are here")


def _slices(region: Dataset, volume: Volume) -> dict[int, NDArray[np.bool_]]:
    inverse = np.linalg.inv(volume.affine)
    shape = volume.array.shape
    masks: dict[int, NDArray[np.bool_]] = {}
    for contour in items(region, "ContourSequence"):
        _check_kind(contour)
        points = np.array([float(value) for value in contour.ContourData]).reshape(-1, 3)
        places = points @ inverse[:3, :3].T + inverse[:3, 3]
        number = _slice_of(places[:, 0], shape[0])
        _check_inside(places[:, 1:], shape)
        filled = fill_even_odd(places[:, 1:], (shape[1], shape[2]))
        masks[number] = masks[number] ^ filled if number in masks else filled
    return masks


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
    limits = np.array(shape[1:], dtype=np.float64) - 0.5
    if (places < -1.0).any() or (places > limits + 0.5).any():
        raise LabelRefused("wrong_geometry", "a contour leaves the image")


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
    crossings = np.zeros((shape[0], shape[1] + 1), dtype=np.int64)
    for (row_a, column_a), (row_b, column_b) in zip(points, np.roll(points, -1, axis=0), strict=True):
        if row_a == row_b:
            continue
        (low, low_column), (high, high_column) = sorted([(row_a, column_a), (row_b, column_b)])
        rows = np.arange(max(0, int(np.ceil(low))), min(shape[0], int(np.ceil(high))))
        columns = low_column + (rows - low) * (high_column - low_column) / (high - low)
        first = np.clip(np.ceil(columns), 0, shape[1]).astype(np.int64)
        np.add.at(crossings, (rows, first), 1)
    inside: NDArray[np.bool_] = np.cumsum(crossings, axis=1)[:, :-1] % 2 == 1
    return inside
