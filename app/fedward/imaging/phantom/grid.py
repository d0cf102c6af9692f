"""The voxel grid that a phantom patient is drawn on, and smooth fields on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float32]
BoolArray: TypeAlias = NDArray[np.bool_]
Box: TypeAlias = tuple[slice, slice, slice]

#: Step of the coarse grid on which smooth fields are computed; linear interpolation from it errs by about 0.1 mm.
COARSE_MM = 4.0


@dataclass(frozen=True)
class Grid:
    """A grid along the patient's axes, centred on the patient.

    Axes are ``(slice, row, column)`` = (towards the head, towards the back, towards the patient's left): LPS reversed.

    Attributes:
        shape: Voxels along each axis.
        spacing_mm: Distance between neighbours along each axis.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]

    @property
    def half_mm(self) -> tuple[float, float, float]:
        """Distance from the centre to the outermost voxel centres, mm."""
        z, y, x = ((n - 1) / 2 * s for n, s in zip(self.shape, self.spacing_mm, strict=True))
        return z, y, x

    def axes(self, box: Box | None = None) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Give the voxel centres (mm) along z, y and x of the whole grid or a box, shaped to broadcast."""
        parts = box or (slice(None), slice(None), slice(None))
        lines = [
            ((np.arange(n) * s - half)[part]).astype(np.float32)
            for n, s, half, part in zip(self.shape, self.spacing_mm, self.half_mm, parts, strict=True)
        ]
        return lines[0][:, None, None], lines[1][None, :, None], lines[2][None, None, :]

    def box(self, low_mm: NDArray[np.float64], high_mm: NDArray[np.float64]) -> Box | None:
        """Give the index box of the voxels between two corners (z, y, x) in mm, None where there is none."""
        half, spacing = np.array(self.half_mm), np.array(self.spacing_mm)
        start = np.maximum(np.ceil((low_mm + half) / spacing), 0).astype(int)
        stop = np.minimum(np.floor((high_mm + half) / spacing) + 1, self.shape).astype(int)
        if np.any(stop <= start):
            return None
        return slice(start[0], stop[0]), slice(start[1], stop[1]), slice(start[2], stop[2])

    def index_of(self, points_mm: NDArray[np.float64]) -> tuple[NDArray[np.intp], ...]:
        """Give the indices of the voxels nearest to points, shape (n, 3) as (z, y, x) mm, clipped to the grid."""
        index = np.rint((points_mm + np.array(self.half_mm)) / np.array(self.spacing_mm)).astype(np.intp)
        return tuple(np.clip(index, 0, np.array(self.shape) - 1).T)

    @property
    def coarse(self) -> Grid:
        """The grid about ``COARSE_MM`` apart that spans the same space."""
        counts = [max(2, int(np.ceil(2 * half / COARSE_MM)) + 1) for half in self.half_mm]
        steps = [2 * half / (count - 1) for half, count in zip(self.half_mm, counts, strict=True)]
        return Grid((counts[0], counts[1], counts[2]), (steps[0], steps[1], steps[2]))


def refine(field: FloatArray, grid: Grid) -> FloatArray:
    """Interpolate a field whose corners coincide with the grid's corners linearly onto the grid."""
    for axis in range(3):
        position = np.linspace(0, field.shape[axis] - 1, grid.shape[axis])
        lower = np.minimum(position.astype(np.intp), field.shape[axis] - 2)
        weight = (position - lower).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        below = np.take(field, lower, axis=axis)
        above = np.take(field, lower + 1, axis=axis)
        above -= below
        above *= weight
        above += below
        field = above
    return field


def smooth_noise(grid: Grid, step_mm: float, rng: np.random.Generator) -> FloatArray:
    """Give unit-variance noise that changes over about ``step_mm``, on the whole grid."""
    counts = [max(2, int(np.ceil(2 * half / step_mm)) + 1) for half in grid.half_mm]
    # Linear interpolation in three directions keeps (2/3)^3 of the variance.
    return refine(rng.standard_normal(counts, dtype=np.float32) * np.float32(1.5**1.5), grid)


def coverage(depth_mm: FloatArray, width_mm: float) -> FloatArray:
    """Give the share of each voxel that lies inside a surface, from the depth of its centre below the surface."""
    share = depth_mm * np.float32(1 / width_mm)
    share += np.float32(0.5)
    return np.clip(share, 0, 1, out=share)


def blend(image: FloatArray, share: FloatArray, value: FloatArray | float) -> None:
    """Replace ``share`` of every voxel of ``image`` by ``value``, in place."""
    image += share * (value - image)
