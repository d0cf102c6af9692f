"""Where one grid lies on another: the signed permutation and whole-voxel shift between two arrays, or none."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedward.errors import LabelRefused

#: Two grids agree when their voxel centres do within this share of a voxel.
TOLERANCE_VOXELS = 0.02


def place(
    values: NDArray[np.uint8],
    affine: NDArray[np.float64],
    *,
    target_affine: NDArray[np.float64],
    target_shape: tuple[int, int, int],
) -> NDArray[np.uint8]:
    """Put a label array onto another grid of the same voxels; outside of it the target is 0.

    Args:
        values: Any three axes.
        affine: 4x4, its voxel index to LPS mm.
        target_affine: 4x4, the target's.
        target_shape: The target's.

    Raises:
        LabelRefused: ``wrong_geometry``: the voxels do not coincide, or a labelled one lies outside.
    """
    between = np.linalg.inv(target_affine) @ affine
    matrix = np.rint(between[:3, :3])
    corners = np.array([[0, 0, 0], [size - 1 for size in values.shape]], dtype=np.float64)
    exact = corners @ between[:3, :3].T + between[:3, 3]
    if not (np.abs(matrix).sum(axis=0) == 1).all() or not (np.abs(matrix).sum(axis=1) == 1).all():
        raise LabelRefused("wrong_geometry", "the label's axes or spacing are not those of its image")
    shift = np.rint(between[:3, 3])
    if np.abs(corners @ matrix.T + shift - exact).max() > TOLERANCE_VOXELS:
        raise LabelRefused("wrong_geometry", "the label's voxels do not coincide with those of its image")
    labelled = np.argwhere(values)
    target = np.zeros(target_shape, dtype=np.uint8)
    if labelled.size == 0:
        return target
    places = (labelled @ matrix.T.astype(np.int64) + shift.astype(np.int64)).astype(np.int64)
    if (places < 0).any() or (places >= np.array(target_shape)).any():
        raise LabelRefused("wrong_geometry", "labelled voxels lie outside of the image")
    target[tuple(places.T)] = values[tuple(labelled.T)]
    return target
