"""The long and the short axis of a region in one slice, as a radiologist's calliper finds them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

#: A point in a slice, in voxel indices ``(row, column)``; whole numbers are voxel centres.
SlicePoint = tuple[float, float]

#: From a voxel's centre to the middles of its four edges, ``(row, column)``.
_EDGE_MIDDLES = np.array([[-0.5, 0.0], [0.5, 0.0], [0.0, -0.5], [0.0, 0.5]])


@dataclass(frozen=True)
class Axes:
    """Two callipers over one region of one slice.

    Attributes:
        long_mm: The largest distance between two points of the outline.
        short_mm: The longest chord of the outline's convex hull at a right angle to the long axis.
        long_ends: The two ends of the long axis.
        short_ends: The two ends of the short axis.
    """

    long_mm: float
    short_mm: float
    long_ends: tuple[SlicePoint, SlicePoint]
    short_ends: tuple[SlicePoint, SlicePoint]


def in_plane_metric(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the 2x2 matrix that turns ``(row, column)`` differences into millimetres in the slice's own plane.

    Args:
        affine: 4x4, voxel ``(slice, row, column)`` to patient mm. Rows and columns need not be at a right angle.

    Returns:
        ``metric`` so that ``difference @ metric`` has the length of the difference in mm.
    """
    steps = affine[:3, 1:3]
    return np.asarray(np.linalg.cholesky(steps.T @ steps), dtype=np.float64)


def axes_in_slice(mask: NDArray[np.bool_], metric: NDArray[np.float64]) -> Axes:
    """Measure the region ``mask`` of one slice.

    The outline runs through the middles of the edges between voxels inside and outside, so that a row of n voxels is n
    spacings long, and a single voxel is not a point.

    Args:
        mask: Shape ``(row, column)``, with at least one true voxel.
        metric: From :func:`in_plane_metric`.

    Raises:
        ValueError: no voxel is true.
    """
    if not mask.any():
        raise ValueError("a region without voxels has no axes")
    border = np.argwhere(_border(mask))
    outline = (border[:, None, :] + _EDGE_MIDDLES).reshape(-1, 2)
    points = outline @ metric
    hull = ConvexHull(points).vertices
    corners = points[hull]
    distances = np.linalg.norm(corners[:, None, :] - corners[None, :, :], axis=2)
    first, second = np.unravel_index(int(distances.argmax()), distances.shape)
    start, end = corners[first], corners[second]
    short = _longest_chord(corners, int(first), int(second))
    back = np.linalg.inv(metric)
    return Axes(
        long_mm=float(distances[first, second]),
        short_mm=float(np.linalg.norm(short[1] - short[0])),
        long_ends=(_point(start @ back), _point(end @ back)),
        short_ends=(_point(short[0] @ back), _point(short[1] @ back)),
    )


def longest_axes(mask: NDArray[np.bool_], affine: NDArray[np.float64]) -> tuple[int, Axes]:
    """Find the slice in which the region's long axis is longest, and measure there.

    Args:
        mask: Shape ``(slice, row, column)``, best cropped to the region; at least one true voxel.
        affine: 4x4, voxel to patient mm; only its directions count, so a cropped mask needs no shifted affine.

    Returns:
        The slice's index in ``mask`` and the axes; of slices with equal axes the one with most voxels.
    """
    metric = in_plane_metric(affine)
    slices = np.flatnonzero(mask.any(axis=(1, 2)))
    measured = [(int(index), axes_in_slice(mask[index], metric)) for index in slices]
    if not measured:
        raise ValueError("a region without voxels has no axes")
    return max(measured, key=lambda item: (round(item[1].long_mm, 6), int(mask[item[0]].sum())))


def _border(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Voxels with at least one of their four neighbours outside: only they can touch the convex hull."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.asarray(mask & ~inner)


def _longest_chord(
    corners: NDArray[np.float64], first: int, second: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Find the hull's longest chord at a right angle to its diameter from corner ``first`` to corner ``second``.

    A chord's length is linear between corners, so the longest stands at a corner. No two corners of one side have the
    same place along a diameter: one of them would lie farther from its other end.
    """
    start, span = corners[first], corners[second] - corners[first]
    direction = span / np.linalg.norm(span)
    across = np.array([-direction[1], direction[0]])
    along, offset = (corners - start) @ direction, (corners - start) @ across
    offset[[first, second]] = 0.0
    high = _side(along, offset, offset >= 0)
    low = _side(along, offset, offset <= 0)
    best = int((high - low).argmax())
    base = start + along[best] * direction
    return base + low[best] * across, base + high[best] * across


def _side(along: NDArray[np.float64], offset: NDArray[np.float64], chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Give the height of one side of the hull above or below the diameter, at every corner's place along it."""
    order = np.argsort(along[chosen])
    return np.interp(along, along[chosen][order], offset[chosen][order])


def _point(point: NDArray[np.float64]) -> SlicePoint:
    return float(point[0]), float(point[1])
