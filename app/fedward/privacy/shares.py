"""Counts that may leave under privacy: each patient's share is clipped, and the sum of the shares is noised."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedward.randomness import Secret, add_noise


def summed_shares(shares: Sequence[NDArray[np.float64]], *, bound: float) -> NDArray[np.float64]:
    """Sum the patients' shares, each of them cut to the Euclidean norm ``bound``.

    Args:
        shares: One a patient, all of shape ``(number,)``; at least one. One that is not finite counts as zero.
        bound: Above 0.
    """
    total = np.zeros_like(shares[0], dtype=np.float64)
    for share in shares:
        norm = float(np.linalg.norm(share))
        if np.isfinite(norm):
            total += share * min(1.0, bound / norm if norm else 1.0)
    return total


def noised_shares(
    shares: Sequence[NDArray[np.float64]], *, bound: float, noise_multiplier: float, secret: Secret
) -> NDArray[np.float64]:
    """Give the same with Gaussian noise of ``noise_multiplier`` times ``bound`` on every number.

    It is the mechanism ``Gaussian(noise_multiplier, 1)`` for whoever has a share.
    """
    total, deviation = summed_shares(shares, bound=bound), noise_multiplier * bound
    return add_noise(total, secret.gaussian(total.size, deviation), deviation=deviation)
