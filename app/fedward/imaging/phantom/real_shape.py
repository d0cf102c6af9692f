"""The form of a real nodule, as a reader outlined it slice by slice, drawn at any size on any grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fedward.imaging.phantom.grid import BoolArray, Box, FloatArray, Grid

#: Points along each axis at which a voxel is asked whether it lies inside.
_SAMPLES = 3


@dataclass(frozen=True, eq=False)
class RealShape:
    """A body given by the depth below its surface.

    Attributes:
        depth_mm: Shape ``(slice, row, column)``, negative outside; axes towards the head, the back, the patient's left.
        spacing_mm: Of its voxels.
        diameter_mm: Of the sphere with its volume.
    """

    depth_mm: FloatArray
    spacing_mm: tuple[float, float, float]
    diameter_mm: float

    @classmethod
    def of(cls, mask: BoolArray, spacing_mm: tuple[float, float, float]) -> RealShape:
        """Give the body of a mask.

        Raises:
            ValueError: the mask is empty.
        """
        if not mask.any():
            raise ValueError("a shape needs at least one voxel")
        wide = np.pad(mask, 2)
        inner = ndimage.distance_transform_edt(wide, sampling=spacing_mm)
        outer = ndimage.distance_transform_edt(~wide, sampling=spacing_mm)
        # Distances run between the middles of voxels; the surface lies half-way.
        depth = np.where(wide, inner, -outer) - np.where(wide, 0.5, -0.5) * min(spacing_mm)
        volume = float(mask.sum()) * float(np.prod(spacing_mm))
        return cls(depth.astype(np.float32), spacing_mm, float(np.cbrt(6 * volume / np.pi)))

    @property
    def turn(self) -> NDArray[np.float64]:
        """Its own directions, one a row: a real nodule stays as it lay."""
        return np.eye(3)

    def voxelise(self, grid: Grid, centre: NDArray[np.float64], radius_mm: float) -> tuple[Box, FloatArray]:
        """Give the box around the body at a place and size, and the share of each voxel that it fills.

        Args:
            grid: The patient's grid.
            centre: Of the body's box, (z, y, x) mm.
            radius_mm: Of the sphere with the body's volume.

        Raises:
            ValueError: the body lies outside the grid.
        """
        scale = 2 * radius_mm / self.diameter_mm
        half = (np.array(self.depth_mm.shape) - 1) / 2 * self.spacing_mm
        reach = half * scale + np.array(grid.spacing_mm)
        box = grid.box(centre - reach, centre + reach)
        if box is None:
            raise ValueError(f"a nodule at {centre} mm lies outside the grid")
        lines = []
        for axis, middle in enumerate(centre):
            step = grid.spacing_mm[axis]
            offsets = ((np.arange(_SAMPLES) + 0.5) / _SAMPLES - 0.5) * step
            places = (grid.axes(box)[axis].ravel()[:, None] + offsets).ravel() - middle
            lines.append((places / scale + half[axis]) / self.spacing_mm[axis])
        mesh = np.meshgrid(*lines, indexing="ij")
        outside = float(self.depth_mm.min())
        depth = ndimage.map_coordinates(self.depth_mm, mesh, order=1, mode="constant", cval=outside)
        counts = [part.stop - part.start for part in box]
        blocks = (depth > 0).reshape(counts[0], _SAMPLES, counts[1], _SAMPLES, counts[2], _SAMPLES)
        return box, np.asarray(blocks.mean(axis=(1, 3, 5), dtype=np.float32))
