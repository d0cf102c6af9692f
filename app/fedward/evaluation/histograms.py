"""Scores in the form in which they may leave a site: counts in fixed bins, apart for positives and negatives.

One patient adds to one bin of one class, which bounds what noise must hide. Histograms of several sites, noised or
exact, add up, and the curves come from the sum with a bound on what the bins took away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedward.evaluation.calibration import bin_edges, bin_of, fit_temperature
from fedward.evaluation.classification import OperatingPoint, Roc, checked

Counts = NDArray[np.float64]


@dataclass(frozen=True)
class Bounded:
    """A number known up to what the bins hide.

    Attributes:
        value: The estimate.
        error: The number from the exact scores lies within this of ``value``, where the counts are exact.
    """

    value: float
    error: float


@dataclass(frozen=True, eq=False)
class ScoreHistogram:
    """How many positives and negatives have a score in each bin ``[k / bins, (k + 1) / bins)``, 1 in the last.

    Attributes:
        positives: Shape ``(bins,)``, float64: noised counts need not be whole, and may lie below 0.
        negatives: Same shape.

    Raises:
        ValueError: shapes that differ, or a count that is not finite.
    """

    positives: Counts
    negatives: Counts

    def __post_init__(self) -> None:
        if self.positives.shape != self.negatives.shape or self.positives.ndim != 1 or not self.positives.size:
            raise ValueError(f"both classes need the same bins, got {self.positives.shape} and {self.negatives.shape}")
        if not (np.isfinite(self.positives).all() and np.isfinite(self.negatives).all()):
            raise ValueError("counts must be finite")

    @classmethod
    def of(cls, scores: ArrayLike, truth: ArrayLike, *, bins: int) -> ScoreHistogram:
        """Count scores in [0, 1].

        Raises:
            ValueError: not one score in [0, 1] for each truth.
        """
        values, positive = checked(scores, truth)
        place = bin_of(values, bins=bins)
        counted = [np.bincount(place[chosen], minlength=bins).astype(np.float64) for chosen in (positive, ~positive)]
        return cls(*counted)

    def __add__(self, other: ScoreHistogram) -> ScoreHistogram:
        """Give both together.

        Raises:
            ValueError: another number of bins.
        """
        if self.bins != other.bins:
            raise ValueError(f"histograms of {self.bins} and {other.bins} bins cannot be added")
        return ScoreHistogram(self.positives + other.positives, self.negatives + other.negatives)

    @property
    def bins(self) -> int:
        """How many bins there are."""
        return self.positives.size

    @property
    def centres(self) -> Counts:
        """The middle of each bin."""
        edges = bin_edges(self.bins)
        return (edges[:-1] + edges[1:]) / 2

    def known(self) -> ScoreHistogram:
        """Give the counts that can be: noise below 0 is taken as 0, which changes exact counts in nothing."""
        return ScoreHistogram(self.positives.clip(0), self.negatives.clip(0))

    def auc(self) -> Bounded | None:
        """Give the AUC: only pairs within one bin are unsure, and each counts half; None without both classes."""
        here = self.known()
        pairs = here.positives.sum() * here.negatives.sum()
        if not pairs > 0:
            return None
        below = np.cumsum(here.negatives) - here.negatives
        same = float(here.positives @ here.negatives / pairs)
        return Bounded(float(here.positives @ below / pairs) + same / 2, same / 2)

    def roc(self) -> Roc | None:
        """Give the ROC curve at the bins' lower edges, where it is exact; None without both classes."""
        here = self.known()
        positives, negatives = here.positives.sum(), here.negatives.sum()
        if not (positives > 0 and negatives > 0):
            return None
        found, called = np.cumsum(here.positives[::-1]), np.cumsum(here.negatives[::-1])
        return Roc(
            thresholds=np.concatenate([[np.inf], bin_edges(self.bins)[:-1][::-1]]),
            false_positive_rate=np.concatenate([[0.0], called / negatives]),
            sensitivity=np.concatenate([[0.0], found / positives]),
        )

    def operating_point(self, threshold: float) -> OperatingPoint:
        """Count at the lower bin edge nearest to ``threshold``, where counts are exact; the point names that edge.

        Raises:
            ValueError: the threshold is not in [0, 1].
        """
        if not 0 <= threshold <= 1:
            raise ValueError(f"a threshold lies in [0, 1], got {threshold}")
        here, edge = self.known(), min(round(threshold * self.bins), self.bins - 1)
        return OperatingPoint(
            edge / self.bins,
            true_positives=float(here.positives[edge:].sum()),
            false_positives=float(here.negatives[edge:].sum()),
            true_negatives=float(here.negatives[:edge].sum()),
            false_negatives=float(here.positives[:edge].sum()),
        )

    def expected_calibration_error(self, *, temperature: float = 1.0) -> Bounded | None:
        """Give the ECE over these bins, each case taken as its bin's middle: at most half a bin's width off.

        With a temperature the middles are what they become under it; the cases stay in their bins.
        """
        here = self.known()
        cases = here.positives + here.negatives
        if not cases.sum() > 0:
            return None
        odds = ((1 - self.centres) / self.centres) ** (1 / temperature)
        gaps = np.abs(here.positives - cases / (1 + odds))
        return Bounded(float(gaps.sum() / cases.sum()), 0.5 / self.bins)

    def temperature(self) -> float | None:
        """Fit the temperature of a two-class network, cases taken as their bins' middles; None without both classes."""
        here = self.known()
        logit = np.log(self.centres) - np.log1p(-self.centres)
        pairs = np.column_stack([np.zeros_like(logit), logit])
        labels = np.repeat([1, 0], self.bins)
        counts = np.concatenate([here.positives, here.negatives])
        return fit_temperature(np.vstack([pairs, pairs]), labels, weights=counts)
