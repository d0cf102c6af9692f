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
    if predicted.shape != truth.shape:
        raise ValueError(f"prediction and truth must share one grid, got {predicted.shape} and {truth.shape}")
    ours = np.bincount(predicted.ravel(), minlength=classes + 1)
    theirs = np.bincount(truth.ravel(), minlength=classes + 1)
    if max(ours.size, theirs.size) > classes + 1:
        raise ValueError(f"a voxel names class {max(ours.size, theirs.size) - 1}, there are {classes}")
    same = np.bincount(truth[predicted == truth].ravel(), minlength=classes + 1)
    totals = ours + theirs
    return tuple(2 * float(same[k]) / float(totals[k]) if totals[k] else None for k in range(1, classes + 1))
