"""Slice positions → one regular grid, or the reason why there is none (DICOM PS3.3 C.7.6.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedward.dicom.objects import ImageHeader
from fedward.errors import SeriesRefused

#: Direction cosines of one series may differ by rounding alone; 1e-3 is 0.06 degrees.
ORIENTATION_TOLERANCE = 1e-3
#: A slice may lie this share of the spacing (or this many mm) beside its place in the grid; highdicom allows 1 % too.
SPACING_TOLERANCE = 0.01
SPACING_TOLERANCE_MM = 0.01
#: Two slices closer than this along the normal lie at one position.
SAME_POSITION_MM = 0.005
#: A stack may drift sideways by this share of a pixel where its direction cosines are rounded ...
DRIFT_TOLERANCE_PIXELS = 0.25
#: ... but never at a larger angle than this, unless the drift is below what a file's decimals can say.
DRIFT_TOLERANCE_DEGREES = 0.2
DRIFT_TOLERANCE_MM = 0.02
#: Below three positions nothing shows whether the spacing is regular.
MINIMUM_SLICES = 3
#: A tilt tag below this is a scanner's rounding.
TILT_TOLERANCE_DEGREES = 0.5


@dataclass(frozen=True, eq=False)
class Grid:
    """A series' place in the patient.

    Attributes:
        order: Indices into the headers, along the slice axis (the normal of the image plane, rising).
        affine: (4, 4) float64, voxel ``(slice, row, column, 1)`` to LPS mm.
        shape: ``(slice, row, column)``.
        spacing_mm: Along the same axes.
    """

    order: tuple[int, ...]
    affine: NDArray[np.float64]
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]


def grid_of(headers: Sequence[ImageHeader]) -> Grid:
    """Give the regular grid of single-frame images that already agree in size and orientation.

    Raises:
        SeriesRefused: not_a_volume, duplicate_position, several_volumes, missing_slice, gantry_tilt, mixed_geometry or
            irregular_spacing; the detail names the positions.
    """
    along_row, along_column, normal = _axes(headers)
    positions = np.array([header.position_mm for header in headers], dtype=np.float64)
    depth = positions @ normal
    order = np.argsort(depth, kind="stable")
    ordered = [headers[index] for index in order]
    depth, positions = depth[order], positions[order]
    _refuse_repeats(ordered, depth, positions)
    _refuse_gaps(ordered, depth)
    _refuse_shear(ordered, depth, positions, normal)
    _refuse_uneven(ordered, depth)
    spacing = (float(depth[-1] - depth[0]) / (len(depth) - 1), *_pixel_spacing(headers[0]))
    affine = np.eye(4)
    affine[:3, :3] = np.stack([normal, along_column, along_row], axis=1) * spacing
    affine[:3, 3] = positions[0]
    shape = (len(headers), headers[0].rows, headers[0].columns)
    return Grid(tuple(int(index) for index in order), affine, shape, spacing)


def _axes(headers: Sequence[ImageHeader]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Give orthonormal directions along a row, along a column and along the normal, rounding taken out."""
    mean = np.median(np.array([header.orientation for header in headers], dtype=np.float64), axis=0)
    along_row = mean[:3] / np.linalg.norm(mean[:3])
    along_column = mean[3:] - along_row * (mean[3:] @ along_row)
    along_column /= np.linalg.norm(along_column)
    return along_row, along_column, np.cross(along_row, along_column)


def _pixel_spacing(header: ImageHeader) -> tuple[float, float]:
    if header.pixel_spacing_mm is None:
        raise SeriesRefused("missing_attribute", "Pixel Spacing (0028,0030) is missing")
    return header.pixel_spacing_mm[0], header.pixel_spacing_mm[1]


def _refuse_repeats(headers: Sequence[ImageHeader], depth: NDArray[np.float64], positions: NDArray[np.float64]) -> None:
    if len(headers) == 1:
        raise SeriesRefused("not_a_volume", f"it is a single image; {MINIMUM_SLICES} slices are the least of a volume")
    repeats = np.diff(depth) < SAME_POSITION_MM
    distinct = 1 + int(np.count_nonzero(~repeats))
    if distinct == 1:
        raise SeriesRefused("not_a_volume", f"all of its {len(headers)} images lie at one position")
    if repeats.any():
        _explain_repeats(headers, repeats, positions, distinct)
    if distinct < MINIMUM_SLICES:
        raise SeriesRefused("not_a_volume", f"it has {distinct} slices; {MINIMUM_SLICES} are the least of a volume")


def _explain_repeats(
    headers: Sequence[ImageHeader], repeats: NDArray[np.bool_], positions: NDArray[np.float64], distinct: int
) -> None:
    first = int(np.flatnonzero(repeats)[0])
    pair = f"{headers[first].path} and {headers[first + 1].path}"
    sideways = float(np.linalg.norm(positions[first + 1] - positions[first]))
    if sideways > _drift_allowance(headers[0]):
        raise SeriesRefused("mixed_geometry", f"{pair} lie in one plane, {sideways:.2f} mm beside each other")
    uids = [header.sop_instance_uid for header in headers if header.sop_instance_uid]
    groups = np.split(np.arange(len(headers)), np.flatnonzero(~repeats) + 1)
    repeated = sum(len(group) > 1 for group in groups)
    if len(set(uids)) == len(uids) and 2 * repeated > distinct:
        raise SeriesRefused(
            "several_volumes",
            f"it holds {len(headers)} images at {distinct} positions: several volumes (time points, echoes or phases) "
            "in one series; export each as its own series",
        )
    copies = (
        "are copies of one image" if _are_copies(headers[first], headers[first + 1]) else "lie at the same position"
    )
    raise SeriesRefused(
        "duplicate_position", f"{pair} {copies}; {distinct} of its {len(headers)} positions are distinct"
    )


def _are_copies(one: ImageHeader, other: ImageHeader) -> bool:
    return bool(one.sop_instance_uid) and one.sop_instance_uid == other.sop_instance_uid


def _refuse_gaps(headers: Sequence[ImageHeader], depth: NDArray[np.float64]) -> None:
    """Refuse gaps that are whole multiples of the usual spacing: slices are missing there."""
    gaps = np.diff(depth)
    unit = float(gaps.min())
    steps = np.rint(gaps / unit)
    off = np.abs(gaps / unit - steps)
    if steps.max() == 1 or np.any(off > np.minimum(0.1, steps * (SPACING_TOLERANCE + SPACING_TOLERANCE_MM / unit))):
        return
    if 2 * np.count_nonzero(steps == 1) < len(steps):
        return
    first = int(np.flatnonzero(steps > 1)[0])
    raise SeriesRefused(
        "missing_slice",
        f"{int(steps.sum() - len(steps))} slice(s) of {unit:.3f} mm are missing, the first between "
        f"{headers[first].path} and {headers[first + 1].path} ({gaps[first]:.3f} mm apart)",
    )


def _drift_allowance(header: ImageHeader) -> float:
    return max(0.1, DRIFT_TOLERANCE_PIXELS * min(_pixel_spacing(header)))


def _refuse_shear(
    headers: Sequence[ImageHeader],
    depth: NDArray[np.float64],
    positions: NDArray[np.float64],
    normal: NDArray[np.float64],
) -> None:
    """Refuse slices whose origins do not follow the normal: a tilted gantry, or slices cut elsewhere."""
    sideways = positions - positions[0] - np.outer(depth - depth[0], normal)
    slope = sideways[-1] / (depth[-1] - depth[0])
    angle = float(np.degrees(np.arctan(np.linalg.norm(slope))))
    drift = float(np.linalg.norm(sideways, axis=1).max())
    allowed = _drift_allowance(headers[0]) if angle <= DRIFT_TOLERANCE_DEGREES else DRIFT_TOLERANCE_MM
    rest = np.linalg.norm(sideways - np.outer(depth - depth[0], slope), axis=1)
    if drift > allowed and rest.max() > _drift_allowance(headers[0]):
        worst = headers[int(rest.argmax())].path
        raise SeriesRefused("mixed_geometry", f"{worst} lies {rest.max():.2f} mm beside the line of the other slices")
    if drift > allowed:
        raise SeriesRefused(
            "gantry_tilt",
            f"the slices are sheared by {angle:.1f} degrees: their origins do not follow the normal of the image plane",
        )
    _refuse_tilt_tag(headers, normal)


def _refuse_tilt_tag(headers: Sequence[ImageHeader], normal: NDArray[np.float64]) -> None:
    """Refuse an original axial CT that names a tilt which its orientation does not show: one of the two is wrong."""
    header = max(headers, key=lambda one: abs(one.gantry_tilt_degrees))
    tilted = header.modality == "CT" and abs(header.gantry_tilt_degrees) > TILT_TOLERANCE_DEGREES
    if tilted and header.image_type[:1] == ("ORIGINAL",) and abs(normal[2]) > 1 - ORIENTATION_TOLERANCE**2:
        raise SeriesRefused(
            "gantry_tilt",
            f"{header.path} names a gantry tilt of {header.gantry_tilt_degrees} degrees (0018,1120), but its "
            "orientation (0020,0037) is not tilted",
        )


def _refuse_uneven(headers: Sequence[ImageHeader], depth: NDArray[np.float64]) -> None:
    """Refuse slices that lie beside their places in an even grid from the first to the last."""
    even = np.linspace(depth[0], depth[-1], len(depth))
    spacing = even[1] - even[0]
    off = np.abs(depth - even)
    if off.max() > max(SPACING_TOLERANCE_MM, SPACING_TOLERANCE * spacing):
        gaps = np.diff(depth)
        raise SeriesRefused(
            "irregular_spacing",
            f"the gaps run from {gaps.min():.3f} to {gaps.max():.3f} mm; {headers[int(off.argmax())].path} "
            f"lies {off.max():.3f} mm beside its place in an even grid",
        )
