"""What an update must be before it may enter a sum. The site and the server call the same function."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedward.errors import UpdateRefused

#: FedAvg's weights are public and coarse: a hospital's patients rounded down to tens.
WEIGHT_STEP = 10


def check_update(update: NDArray[np.float32], *, size: int, max_norm: float) -> None:
    """Refuse an update that is not this network's, not finite, or larger than the job allows.

    Args:
        update: Weights after minus before, flat float32.
        size: How many numbers the network has.
        max_norm: The largest Euclidean norm.

    Raises:
        UpdateRefused: ``wrong_layout``, ``not_finite`` or ``norm_exceeded``.
    """
    if update.dtype != np.float32 or update.shape != (size,):
        raise UpdateRefused("wrong_layout", f"expected float32 ({size},), found {update.dtype} {update.shape}")
    # A sum of squares in float64 cannot overflow for float32 values, and is finite only if each of them is.
    squared = float(np.einsum("i,i->", update, update, dtype=np.float64))
    if not np.isfinite(squared):
        raise UpdateRefused("not_finite", "the update holds NaN or infinite values")
    if squared > max_norm**2:
        raise UpdateRefused("norm_exceeded", f"expected a norm of at most {max_norm:g}, found {squared**0.5:g}")


def public_weight(patients: int, *, cap: int) -> int:
    """Give a site's FedAvg weight: its patients rounded down to tens, never below ten, at most ``cap``.

    Example:
        >>> public_weight(37, cap=1000), public_weight(3, cap=1000), public_weight(5000, cap=1000)
        (30, 10, 1000)
    """
    largest = cap // WEIGHT_STEP * WEIGHT_STEP
    return min(max(patients // WEIGHT_STEP * WEIGHT_STEP, WEIGHT_STEP), largest)


def check_weight(weight: int, *, cap: int, pinned: int | None) -> None:
    """Refuse a weight that is no public weight, or another one than the site gave before.

    Raises:
        UpdateRefused: ``weight_invalid`` or ``weight_changed``.
    """
    if type(weight) is not int or not WEIGHT_STEP <= weight <= cap or weight % WEIGHT_STEP:
        raise UpdateRefused("weight_invalid", f"expected a multiple of ten from 10 to {cap}, found {weight!r}")
    if pinned is not None and weight != pinned:
        raise UpdateRefused("weight_changed", f"the site's weight is {pinned} for this job, found {weight}")
