"""Overlap of whole classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def dice_per_class(predicted: NDArray[np.uint8], truth: NDArray[np.uint8], *, classes: int) -> tuple[float | None, ...]:
    """Give each class's Dice, ``2 |P & T| / (|P| + |T|)``.

    Args:
        predicted: Any shape; 0 background, k the k-th class (from 1).
        truth: Same shape.
        classes: How many classes there are.

    Returns:
        One value in [0, 1] a class; None where neither has the class, since nothing was asked and nothing answered.

    Raises:
        ValueError: the shapes differ, or a value is no class.

    Source:
        Dice (1945), Ecology 26:297.
    """
    same, both = _shared(predicted, truth, classes)
    return tuple(2 * float(same[k]) / float(both[k]) if both[k] else None for k in range(1, classes + 1))


def iou_per_class(predicted: NDArray[np.uint8], truth: NDArray[np.uint8], *, classes: int) -> tuple[float | None, ...]:
    """Give each class's intersection over union, ``|P & T| / |P | T|``; arguments and answers as for Dice.

    Raises:
        ValueError: the shapes differ, or a value is no class.

    Source:
        Jaccard (1912), New Phytologist 11:37.
    """
    same, both = _shared(predicted, truth, classes)
    return tuple(float(same[k]) / float(both[k] - same[k]) if both[k] else None for k in range(1, classes + 1))


def _shared(
    predicted: NDArray[np.uint8], truth: NDArray[np.uint8], classes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count each class's voxels that agree, and its voxels in both together, the background first."""
    if predicted.shape != truth.shape:
        raise ValueError(f"prediction and truth must share one grid, got {predicted.shape} and {truth.shape}")
    ours = np.bincount(predicted.ravel(), minlength=classes + 1)
    theirs = np.bincount(truth.ravel(), minlength=classes + 1)
    if max(ours.size, theirs.size) > classes + 1:
        raise ValueError(f"a voxel names class {max(ours.size, theirs.size) - 1}, there are {classes}")
    return np.bincount(truth[predicted == truth].ravel(), minlength=classes + 1), ours + theirs
