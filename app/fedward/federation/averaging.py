"""FedAvg: the weighted mean of the sites' updates (McMahan et al. 2017, algorithm 1)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fedward.errors import RoundFailed

#: Numbers summed at a time: their float64 stays in the processor's cache, which is several times faster.
_SLICE = 1 << 16


def weighted_mean(updates: Mapping[str, NDArray[np.float32]], weights: Mapping[str, int]) -> NDArray[np.float32]:
    """Give the mean of ``updates``, each counted by its site's weight.

    The sum is taken in float64 and in the order of the sites' names, so that the result does not depend on who
    answered first.

    Args:
        updates: By site, flat float32 of one size.
        weights: By site, zero or more.

    Raises:
        RoundFailed: ``zero_weight``: there is nothing to divide by.
    """
    total = sum(weights[site] for site in updates)
    if total <= 0:
        raise RoundFailed("zero_weight", f"the weights of {len(updates)} updates sum to {total}")
    shares = [(updates[site], np.float64(weights[site] / total)) for site in sorted(updates)]
    mean = np.empty(shares[0][0].shape, np.float32)
    for start in range(0, mean.size, _SLICE):
        part = slice(start, start + _SLICE)
        mean[part] = sum(update[part] * share for update, share in shares)
    return mean


def apply_update(weights: NDArray[np.float32], update: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give the next global model: ``weights`` plus the mean ``update``, both flat float32 of one size."""
    return np.add(weights, update, dtype=np.float32)
