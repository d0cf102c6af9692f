"""Whether a probability means what it says, and the one number that makes it say so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax

from fedward.evaluation.classification import checked

#: Temperatures beyond these say that the data do not settle one.
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.05, 20.0

#: Halvings of the range in which the inverse temperature is sought: far below float64's own resolution of the loss.
_HALVINGS = 60


@dataclass(frozen=True)
class ReliabilityBin:
    """The cases whose confidence lies in ``[low, high)``, the last bin's end included.

    Attributes:
        low: Lower edge.
        high: Upper edge.
        cases: How many.
        confidence: Their mean confidence; None without cases.
        frequency: The share of them that came true; None without cases.
    """

    low: float
    high: float
    cases: int
    confidence: float | None
    frequency: float | None


def reliability(confidences: ArrayLike, came_true: ArrayLike, *, bins: int = 15) -> tuple[ReliabilityBin, ...]:
    """Sort cases by confidence into bins of one width.

    Args:
        confidences: In [0, 1]: the positive class's probability, or the chosen class's.
        came_true: Whether the case is positive, or the chosen class is right.
        bins: How many.

    Raises:
        ValueError: not one confidence in [0, 1] for each case.
    """
    values, positive = checked(confidences, came_true)
    place = bin_of(values, bins=bins)
    cases = np.bincount(place, minlength=bins)
    confidence, frequency = (np.bincount(place, weights=part, minlength=bins) for part in (values, positive))
    edges = bin_edges(bins)
    return tuple(
        ReliabilityBin(
            float(edges[k]),
            float(edges[k + 1]),
            int(count),
            float(confidence[k] / count) if count else None,
            float(frequency[k] / count) if count else None,
        )
        for k, count in enumerate(cases)
    )


def expected_calibration_error(of_bins: Sequence[ReliabilityBin]) -> float | None:
    """Give the mean distance of confidence and frequency, each bin counted by its cases; None without a case.

    Source:
        Naeini, Cooper & Hauskrecht, AAAI 2015; Guo et al., ICML 2017, eq. 3.
    """
    known = [
        (b.cases, b.confidence - b.frequency) for b in of_bins if b.confidence is not None and b.frequency is not None
    ]
    total = sum(cases for cases, _ in known)
    return float(sum(cases * abs(gap) for cases, gap in known) / total) if total else None


def fit_temperature(logits: ArrayLike, labels: ArrayLike, *, weights: ArrayLike | None = None) -> float | None:
    """Find the temperature T that makes ``softmax(logits / T)`` most likely.

    The loss is convex in 1 / T, so its derivative's sign is halved in on.

    Args:
        logits: ``(case, class)``, finite.
        labels: ``(case,)``, whole numbers from 0.
        weights: ``(case,)``, 0 or more, how much each case counts; all alike by default. With them a histogram stands
            for its cases.

    Returns:
        In [0.05, 20], an end of it where the data ask for more; None unless two classes count and some logits
            differ.

    Raises:
        ValueError: shapes that do not agree, numbers that are not finite, or a label that is no class.

    Source:
        Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 4.2.
    """
    values, classes = np.asarray(logits, np.float64), np.asarray(labels, np.int64)
    counts = np.ones(classes.shape) if weights is None else np.asarray(weights, np.float64)
    if values.ndim != 2 or not values.shape[:1] == classes.shape == counts.shape:
        raise ValueError(f"one label and weight a row is needed: {values.shape}, {classes.shape}, {counts.shape}")
    if not (np.isfinite(values).all() and np.isfinite(counts).all() and (counts >= 0).all()):
        raise ValueError("logits must be finite, and weights 0 or more")
    if classes.size and not (classes.min() >= 0 and classes.max() < values.shape[1]):
        raise ValueError(f"labels go from 0 to {values.shape[1] - 1}")
    counted = counts > 0
    if np.unique(classes[counted]).size < 2 or not np.ptp(values[counted], axis=1).any():
        return None
    return 1 / _most_likely_inverse(values, classes, counts)


def with_temperature(logits: ArrayLike, temperature: float) -> NDArray[np.float64]:
    """Give ``softmax(logits / temperature)``, shape ``(case, class)``."""
    return np.asarray(softmax(np.asarray(logits, np.float64) / temperature, axis=1), np.float64)


def bin_edges(bins: int) -> NDArray[np.float64]:
    """Give the edges of ``bins`` bins of one width over [0, 1], shape ``(bins + 1,)``.

    Raises:
        ValueError: not at least one bin.
    """
    if bins < 1:
        raise ValueError(f"at least one bin is needed, got {bins}")
    return np.arange(bins + 1) / bins


def bin_of(values: NDArray[np.float64], *, bins: int) -> NDArray[np.int64]:
    """Give the bin of each value: ``edge[k] <= value < edge[k + 1]``, 1 in the last.

    Raises:
        ValueError: a value outside [0, 1].
    """
    edges = bin_edges(bins)
    if values.size and not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(f"probabilities lie in [0, 1], got {values.min():g} to {values.max():g}")
    return np.clip(np.searchsorted(edges, values, side="right") - 1, 0, bins - 1)


def _most_likely_inverse(logits: NDArray[np.float64], labels: NDArray[np.int64], counts: NDArray[np.float64]) -> float:
    chosen = logits[np.arange(labels.size), labels]

    def slope(inverse: float) -> float:
        expected = (softmax(logits * inverse, axis=1) * logits).sum(axis=1)
        return float(counts @ (expected - chosen))

    low, high = 1 / HIGHEST_TEMPERATURE, 1 / LOWEST_TEMPERATURE
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) <= 0 else (low, middle)
    return (low + high) / 2
