"""How far apart two outlines lie."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fedward.evaluation.lesions import bounding_box


def hausdorff_95_mm(
    predicted: NDArray[np.bool_], truth: NDArray[np.bool_], *, spacing_mm: tuple[float, float, float]
) -> float | None:
    """Give the 95 % Hausdorff distance: from each outline to the other, the larger of both 95th percentiles.

    An outline is every voxel with a face to the outside, the volume's border included.

    Args:
        predicted: Shape ``(slice, row, column)``.
        truth: Same shape.
        spacing_mm: Between voxels along each axis; the axes stand at right angles.

    Returns:
        Millimetres; None where either mask is empty.

    Raises:
        ValueError: the shapes differ.

    Source:
        Taha & Hanbury, BMC Medical Imaging 15:29 (2015), eq. 6 with the quantile of section 2.
    """
    if predicted.shape != truth.shape:
        raise ValueError(f"prediction and truth must share one grid, got {predicted.shape} and {truth.shape}")
    if not predicted.any() or not truth.any():
        return None
    # Outside of this box nothing is set: its border stands for the volume's.
    box = bounding_box(predicted | truth)
    ours, theirs = _outline(predicted[box]), _outline(truth[box])
    distances = (_distances(ours, theirs, spacing_mm), _distances(theirs, ours, spacing_mm))
    return max(float(np.percentile(of_one, 95)) for of_one in distances)


def _outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.asarray(mask & ~ndimage.binary_erosion(mask))


def _distances(
    source: NDArray[np.bool_], target: NDArray[np.bool_], spacing_mm: tuple[float, float, float]
) -> NDArray[np.float64]:
    return np.asarray(ndimage.distance_transform_edt(~target, sampling=spacing_mm)[source], np.float64)
