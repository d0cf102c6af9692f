"""Where one grid lies on another: the signed permutation and whole-voxel shift between two arrays, or none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedward.errors import LabelRefused

#: Two grids agree when their voxel centres do within this share of a voxel: far from any doubt about the neighbour.
TOLERANCE_VOXELS = 0.1

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Placement:
    """How voxel indices of a label become voxel indices of its image.

    Attributes:
        matrix: (3, 3) signed permutation.
        shift: (3,) whole voxels.
        shape: The image's shape.
    """

    matrix: Indices
    shift: Indices
    shape: tuple[int, ...]

    def place(self, indices: Indices) -> Indices:
        """Give the image's indices of labelled voxels, shape ``(voxel, 3)``.

        Raises:
            LabelRefused: ``wrong_geometry``: one lies outside of the image.
        """
        placed = indices @ self.matrix.T + self.shift
        if (placed < 0).any() or (placed >= np.array(self.shape)).any():
            raise LabelRefused("wrong_geometry", "labelled voxels lie outside of the image")
        return placed


def placement(
    affine: NDArray[np.float64],
    shape: tuple[int, ...],
    *,
    target_affine: NDArray[np.float64],
    target_shape: tuple[int, ...],
) -> Placement:
    """Lay one grid onto another with the same voxels, however its axes run.

    Args:
        affine: 4x4, from the label's voxel index to LPS mm.
        shape: The label's.
        target_affine: 4x4, the image's.
        target_shape: The image's.

    Raises:
        LabelRefused: ``wrong_geometry``: the voxels do not coincide.
    """
    between = np.linalg.inv(target_affine) @ affine
    matrix = np.rint(between[:3, :3])
    if (np.abs(matrix).sum(axis=0) != 1).any() or (np.abs(matrix).sum(axis=1) != 1).any():
        raise LabelRefused("wrong_geometry", "the label's axes or voxel sizes are not those of its image")
    corners = np.array([[0, 0, 0], [size - 1 for size in shape]], dtype=np.float64)
    exact = corners @ between[:3, :3].T + between[:3, 3]
    shift = np.rint(between[:3, 3])
    off = float(np.abs(corners @ matrix.T + shift - exact).max())
    if off > TOLERANCE_VOXELS:
        raise LabelRefused("wrong_geometry", f"the label's voxels lie {off:.2f} voxels beside those of its image")
    return Placement(matrix.astype(np.int64), shift.astype(np.int64), target_shape)


def place(
    values: NDArray[np.uint8],
    affine: NDArray[np.float64],
    *,
    target_affine: NDArray[np.float64],
    target_shape: tuple[int, ...],
) -> NDArray[np.uint8]:
    """Put a label array onto another grid of the same voxels; outside of it the target is 0.

    Raises:
        LabelRefused: ``wrong_geometry``: the voxels do not coincide, or a labelled one lies outside.
    """
    laid = placement(affine, values.shape, target_affine=target_affine, target_shape=target_shape)
    labelled = np.argwhere(values)
    target = np.zeros(target_shape, dtype=np.uint8)
    target[tuple(laid.place(labelled).T)] = values[tuple(labelled.T)]
    return target
