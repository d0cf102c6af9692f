"""One bit about two models from a site's patients: a noised sum, and what follows from it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

from fedward.randomness import Secret, add_noise


def is_non_inferior(
    differences: Sequence[float], *, margin: float, confidence: float, noise_multiplier: float, secret: Secret
) -> bool:
    """Say whether the lower end of a noised interval for the patients' mean difference lies above ``-margin``.

    With ``x`` a patient's difference plus the margin, the model is inferior when the mean of ``x`` is 0 or less. The
    sums of ``x`` and of ``x**2`` over the patients are noised; no count is needed. The bit is true when the first is
    larger than its standard error, of sampling and of noise together, allows at this confidence. On the edge, where the
    mean of ``x`` is 0, the second sum is the sampling variance of the first. That variance is noised itself: Student's
    quantile allows for it, with as many degrees of freedom as a variance of that uncertainty has (Satterthwaite 1946).
    Whatever is made of the two noised sums costs no further privacy.

    A patient's share ``(x, x**2)`` is clipped to [-1, 1]: its norm is at most the square root of 2, which is what the
    noise multiplier multiplies.

    Args:
        differences: A patient's score with the new model less that with the old one.
        margin: Above 0, in units of the score.
        confidence: One-sided, from 0.5 on.
        noise_multiplier: The noise's standard deviation over the largest share.
        secret: Where the noise comes from.

    Raises:
        ValueError: the confidence is below 0.5.
    """
    if not 0.5 <= confidence < 1:
        raise ValueError(f"a confidence lies in [0.5, 1), got {confidence}")
    excess = np.clip(np.asarray(differences, dtype=np.float64) + margin, -1, 1)
    sums = np.array([excess.sum(), np.square(excess).sum()])
    deviation = noise_multiplier * math.sqrt(2)
    total, squares = add_noise(sums, secret.gaussian(2, deviation), deviation=deviation)
    variance = max(squares, 0.0) + deviation**2
    return bool(total > stdtrit(2 * (variance / deviation) ** 2, confidence) * math.sqrt(variance))
