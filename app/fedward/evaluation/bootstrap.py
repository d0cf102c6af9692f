"""How sure a mean over patients is: the percentile bootstrap, patients drawn with replacement.

The patient is the unit: lesions of one patient are alike, so drawing lesions would make every interval too narrow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Values (lesions or scans) by patient.
ByPatient = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Interval:
    """An estimate with its bootstrap interval.

    Attributes:
        estimate: The mean over all values (or the difference of two means).
        low: Lower end.
        high: Upper end.
        level: The share of resamples between the two, such as 0.9.
        patients: How many patients were drawn from.
        values: How many values they have together.
    """

    estimate: float
    low: float
    high: float
    level: float
    patients: int
    values: int


def mean_interval(
    values: ByPatient, generator: np.random.Generator, *, level: float = 0.90, resamples: int = 5000
) -> Interval:
    """Give the mean over all values of all patients, with its interval.

    Patients without a value say nothing about the mean and are left out.

    Raises:
        ValueError: no patient has a value.
    """
    sums, counts = _totals(values, sorted(patient for patient, of_patient in values.items() if len(of_patient)))
    drawn = _draws(generator, patients=sums.size, resamples=resamples)
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return _interval(float(sums.sum() / counts.sum()), means, level=level, counts=counts)


def paired_difference(
    first: ByPatient,
    second: ByPatient,
    generator: np.random.Generator,
    *,
    level: float = 0.90,
    resamples: int = 5000,
) -> Interval:
    """Give the mean of ``first`` minus the mean of ``second``: two models on the same patients, drawn together.

    ``first`` is better at the given level when ``low`` lies above 0.

    Raises:
        ValueError: the two do not hold the same number of values for the same patients, or none has a value.
    """
    numbers = [{patient: len(of_patient) for patient, of_patient in each.items()} for each in (first, second)]
    if numbers[0] != numbers[1]:
        raise ValueError("a paired comparison needs the same patients with the same number of values for both models")
    patients = sorted(patient for patient, count in numbers[0].items() if count)
    ours, counts = _totals(first, patients)
    theirs, _ = _totals(second, patients)
    differences = ours - theirs
    drawn = _draws(generator, patients=counts.size, resamples=resamples)
    means = differences[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return _interval(float(differences.sum() / counts.sum()), means, level=level, counts=counts)


def _totals(values: ByPatient, patients: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if not patients:
        raise ValueError("no patient has a value to draw")
    sums = np.array([float(np.sum(values[patient])) for patient in patients])
    return sums, np.array([float(len(values[patient])) for patient in patients])


def _draws(generator: np.random.Generator, *, patients: int, resamples: int) -> NDArray[np.int64]:
    return generator.integers(0, patients, size=(resamples, patients))


def _interval(
    estimate: float, resampled: NDArray[np.float64], *, level: float, counts: NDArray[np.float64]
) -> Interval:
    if not 0 < level < 1:
        raise ValueError(f"a level lies between 0 and 1, got {level}")
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high), level, counts.size, int(counts.sum()))
