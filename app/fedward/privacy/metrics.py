"""Validation numbers that may leave under privacy: clipped for each patient, summed, noised."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from fedward.randomness import Secret, add_noise

#: The names under which the two noised sums leave.
TOTAL, PATIENTS = "validation_total", "validation_patients"


def noised_totals(
    values: Mapping[str, Sequence[float]], *, noise_multiplier: float, secret: Secret
) -> dict[str, float]:
    """Give the noised sum of the patients' scores and their noised number.

    A patient's share is ``(score, 1)``, the score being the mean of the patient's values clipped to [0, 1]: its norm is
    at most the square root of 2, which is what the noise multiplier multiplies. A patient without a value has no share.

    Args:
        values: By patient, each value a scan's or a lesion's score.
        noise_multiplier: The noise's standard deviation over the largest share.
        secret: Where the noise comes from.
    """
    shares = [(float(np.clip(np.mean(of_patient), 0, 1)), 1.0) for of_patient in values.values() if len(of_patient)]
    sums = np.sum(np.array(shares, dtype=np.float64).reshape(-1, 2), axis=0)
    deviation = noise_multiplier * math.sqrt(2)
    total, patients = add_noise(sums, secret.gaussian(2, deviation), deviation=deviation)
    return {TOTAL: float(total), PATIENTS: float(patients)}
