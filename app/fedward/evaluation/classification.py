"""How well scores tell the positives from the negatives. What the data cannot say is None, never NaN."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class OperatingPoint:
    """Counts at one threshold: a score of at least ``threshold`` is called positive.

    The counts may be whole numbers or noised ones; a ratio is None where its denominator is not above 0.
    """

    threshold: float
    true_positives: float
    false_positives: float
    true_negatives: float
    false_negatives: float

    @property
    def accuracy(self) -> float | None:
        """Give the share of all that is called right."""
        right = self.true_positives + self.true_negatives
        return _ratio(right, right + self.false_positives + self.false_negatives)

    @property
    def sensitivity(self) -> float | None:
        """Give the share of the positives that is called positive."""
        return _ratio(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def specificity(self) -> float | None:
        """Give the share of the negatives that is called negative."""
        return _ratio(self.true_negatives, self.true_negatives + self.false_positives)

    @property
    def precision(self) -> float | None:
        """Give the share of those called positive that is."""
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def f1(self) -> float | None:
        """Give the harmonic mean of precision and sensitivity; None where nothing is positive or called so."""
        return _ratio(2 * self.true_positives, 2 * self.true_positives + self.false_positives + self.false_negatives)


@dataclass(frozen=True, eq=False)
class Roc:
    """Every point of the curve, from nobody called positive to everybody.

    Attributes:
        thresholds: Falling; the first is infinite.
        false_positive_rate: 1 - specificity at each, rising from 0 to 1.
        sensitivity: At each, rising from 0 to 1.
    """

    thresholds: Floats
    false_positive_rate: Floats
    sensitivity: Floats


def auc(scores: ArrayLike, truth: ArrayLike) -> float | None:
    """Give the share of pairs of a positive and a negative that the scores put in order; a tie counts half.

    Args:
        scores: One finite number a case; higher means positive.
        truth: One boolean a case.

    Returns:
        In [0, 1]; None without both a positive and a negative.

    Raises:
        ValueError: not one finite score for each truth.

    Source:
        Hanley & McNeil, Radiology 143:29 (1982): the Mann-Whitney statistic.
    """
    values, positive = checked(scores, truth)
    positives = int(positive.sum())
    negatives = positive.size - positives
    if not positives or not negatives:
        return None
    ranks = rankdata(values)[positive].sum()
    return float((ranks - positives * (positives + 1) / 2) / (positives * negatives))


def roc(scores: ArrayLike, truth: ArrayLike) -> Roc | None:
    """Give the ROC curve, one point a distinct score; None without both a positive and a negative.

    Raises:
        ValueError: not one finite score for each truth.
    """
    values, positive = checked(scores, truth)
    if positive.all() or not positive.any():
        return None
    order = np.argsort(-values, kind="stable")
    falling, hits = values[order], np.cumsum(positive[order])
    last_of_ties = np.append(np.flatnonzero(np.diff(falling)), falling.size - 1)
    found, called = hits[last_of_ties], last_of_ties + 1
    return Roc(
        thresholds=np.concatenate([[np.inf], falling[last_of_ties]]),
        false_positive_rate=np.concatenate([[0.0], (called - found) / (positive.size - hits[-1])]),
        sensitivity=np.concatenate([[0.0], found / hits[-1]]),
    )


def operating_point(scores: ArrayLike, truth: ArrayLike, *, threshold: float) -> OperatingPoint:
    """Count what is called right and wrong at a threshold.

    Raises:
        ValueError: not one finite score for each truth.
    """
    values, positive = checked(scores, truth)
    called = values >= threshold
    return OperatingPoint(
        threshold,
        true_positives=int((called & positive).sum()),
        false_positives=int((called & ~positive).sum()),
        true_negatives=int((~called & ~positive).sum()),
        false_negatives=int((~called & positive).sum()),
    )


def threshold_for_sensitivity(curve: Roc, sensitivity: float) -> float:
    """Choose the highest threshold at which at least that share of the positives is found.

    Raises:
        ValueError: the sensitivity is not in (0, 1].
    """
    if not 0 < sensitivity <= 1:
        raise ValueError(f"a sensitivity to reach lies in (0, 1], got {sensitivity}")
    return float(curve.thresholds[int(np.argmax(curve.sensitivity >= sensitivity))])


def confusion_matrix(predicted: ArrayLike, truth: ArrayLike, *, classes: int) -> NDArray[np.int64]:
    """Count cases by true class (row) and predicted class (column), shape ``(classes, classes)``.

    Raises:
        ValueError: the lengths differ, or a value is no class.
    """
    called, true = np.asarray(predicted, np.int64), np.asarray(truth, np.int64)
    if called.shape != true.shape or called.ndim != 1:
        raise ValueError(f"one prediction for each truth is needed, got {called.shape} and {true.shape}")
    both = np.concatenate([called, true])
    if both.size and not (both.min() >= 0 and both.max() < classes):
        raise ValueError(f"classes go from 0 to {classes - 1}, got {both.min()} to {both.max()}")
    return np.bincount(true * classes + called, minlength=classes * classes).reshape(classes, classes)


def f1_per_class(matrix: NDArray[np.int64]) -> tuple[float | None, ...]:
    """Give each class's F1 from a confusion matrix; None where nothing is of the class or called so."""
    both = matrix.sum(axis=0) + matrix.sum(axis=1)
    return tuple(_ratio(2 * float(right), float(total)) for right, total in zip(np.diag(matrix), both, strict=True))


def accuracy_of(matrix: NDArray[np.int64]) -> float | None:
    """Give the share of all cases on a confusion matrix's diagonal; None where there is no case."""
    return _ratio(float(np.trace(matrix)), float(matrix.sum()))


def checked(scores: ArrayLike, truth: ArrayLike) -> tuple[Floats, NDArray[np.bool_]]:
    """Give scores and truth as arrays of one length.

    Raises:
        ValueError: not one finite score for each truth.
    """
    values, positive = np.asarray(scores, np.float64), np.asarray(truth, np.bool_)
    if values.shape != positive.shape or values.ndim != 1:
        raise ValueError(f"one score for each truth is needed, got {values.shape} and {positive.shape}")
    if not np.isfinite(values).all():
        raise ValueError("scores must be finite")
    return values, positive


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None
