"""The form of one nodule: smooth, lobulated or spiculated, voxelised with its partial volumes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedward.imaging.phantom.grid import Box, FloatArray, Grid
from fedward.imaging.phantom.plan import Margin
from fedward.imaging.phantom.vessels import Points, draw_tube

#: Points along each axis at which a voxel is asked whether it lies inside.
SAMPLES = 3


@dataclass(frozen=True, eq=False)
class Shape:
    """A star-shaped body of radius 1 with lumps and spicules.

    Attributes:
        turn: Rotation, shape (3, 3).
        half_axes: Of the ellipsoid, shape (3,), geometric mean 1.
        lumps: Directions, shape (n, 3).
        heights: Of the lumps, shape (n,), in radii.
        sharpness: Of the lumps: they fall to 1/e at an angle of about ``1 / sqrt(sharpness)``.
        spicules: Directions, shape (n, 3).
        lengths: Of the spicules beyond the body, shape (n,), mm.
    """

    turn: NDArray[np.float64]
    half_axes: NDArray[np.float64]
    lumps: Points
    heights: NDArray[np.float64]
    sharpness: float
    spicules: Points
    lengths: NDArray[np.float64]


def draw_shape(margin: Margin, rng: np.random.Generator) -> Shape:
    """Draw a random shape with the margin."""
    half_axes = np.array([1.0, rng.uniform(0.82, 1), rng.uniform(0.75, 0.95)])
    count, low, high, sharpness = {
        "smooth": (3, -0.05, 0.06, 3.0),
        "lobulated": (7, 0.1, 0.32, 7.0),
        "spiculated": (14, -0.08, 0.22, 14.0),
    }[margin]
    spicules = int(rng.integers(9, 18)) if margin == "spiculated" else 0
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return Shape(
        turn=turn,
        half_axes=half_axes / np.prod(half_axes) ** (1 / 3),
        lumps=_directions(count, rng),
        heights=rng.uniform(low, high, count),
        sharpness=sharpness,
        spicules=_directions(spicules, rng),
        lengths=rng.uniform(2.0, 5.5, spicules),
    )


def voxelise(shape: Shape, grid: Grid, centre: Points, radius_mm: float) -> tuple[Box, FloatArray]:
    """Give the box around a nodule and the share of each of its voxels that the nodule fills."""
    reach = radius_mm * 1.75 + 6 * (len(shape.spicules) > 0) + np.array(grid.spacing_mm)
    box = grid.box(centre - reach, centre + reach)
    if box is None:
        raise ValueError(f"a nodule at {centre} mm lies outside the grid")
    share = _body_share(shape, grid, box, centre=centre, radius_mm=radius_mm)
    if len(shape.spicules):
        whole = np.zeros(grid.shape, np.float32)
        for direction, length in zip(shape.spicules, shape.lengths, strict=True):
            foot = centre + direction * radius_mm * 0.7
            tip = centre + direction * (radius_mm * 1.05 + length)
            draw_tube(whole, grid, (foot, tip), (min(1.3, 0.3 * radius_mm), 0.3))
        np.maximum(share, whole[box], out=share)
    return box, share


def _body_share(shape: Shape, grid: Grid, box: Box, *, centre: Points, radius_mm: float) -> FloatArray:
    """Share of the voxels inside the lumpy ellipsoid, from ``SAMPLES`` points along each axis."""
    fine = []
    for axis, spacing, middle in zip(grid.axes(box), grid.spacing_mm, centre, strict=True):
        offsets = ((np.arange(SAMPLES) + 0.5) / SAMPLES - 0.5) * spacing
        fine.append((axis.ravel()[:, None] + offsets[None]).ravel() - middle)
    mesh = np.meshgrid(*(line.astype(np.float32) for line in fine), indexing="ij")
    points = np.stack([m.ravel() for m in mesh], axis=1)
    distance = np.sqrt((points * points).sum(1)) + np.float32(1e-3)
    near = np.flatnonzero(distance < radius_mm * 1.8)
    direction = points[near] / distance[near, None]
    local = direction @ (shape.turn / shape.half_axes).astype(np.float32)
    edge = 1 / np.sqrt((local * local).sum(1) + np.float32(1e-6))
    lift = np.exp(shape.sharpness * (direction @ shape.lumps.T.astype(np.float32) - 1)) @ shape.heights
    inside = np.zeros(len(points), np.float32)
    inside[near] = distance[near] < radius_mm * edge * (1 + lift)
    counts = [part.stop - part.start for part in box]
    blocks = inside.reshape(counts[0], SAMPLES, counts[1], SAMPLES, counts[2], SAMPLES)
    return np.asarray(blocks.mean(axis=(1, 3, 5), dtype=np.float32))


def _directions(count: int, rng: np.random.Generator) -> Points:
    vectors = rng.normal(size=(count, 3))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-6))
