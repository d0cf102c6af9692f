"""Sensitivity against false positives per scan: what a detector finds at every threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedward.evaluation.lesions import connected_components, long_axis_mm, shared_voxels

Floats = NDArray[np.float64]

#: False positives per scan at which the LUNA16 challenge reads sensitivity.
LUNA16_RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True)
class Candidate:
    """One predicted region.

    Attributes:
        score: Finite; higher is surer.
        lesions: The numbers of the scan's true lesions that it touches; empty for a false positive.
    """

    score: float
    lesions: tuple[int, ...] = ()


@dataclass(frozen=True)
class ScanCandidates:
    """One scan's predicted regions, and how many true lesions it has."""

    candidates: tuple[Candidate, ...]
    lesions: int


@dataclass(frozen=True, eq=False)
class Froc:
    """The curve.

    Attributes:
        thresholds: Falling; the first is infinite: nothing is marked.
        false_positives_per_scan: At each, rising.
        sensitivity: At each, the share of all true lesions that is touched, rising.
    """

    thresholds: Floats
    false_positives_per_scan: Floats
    sensitivity: Floats

    def sensitivity_at(self, false_positives_per_scan: float) -> float:
        """Read the curve, straight between its points and level beyond its end."""
        return float(np.interp(false_positives_per_scan, self.false_positives_per_scan, self.sensitivity))

    def mean_sensitivity(self, rates: Sequence[float] = LUNA16_RATES) -> float:
        """Give the mean sensitivity at some numbers of false positives per scan."""
        return float(np.mean([self.sensitivity_at(rate) for rate in rates]))


def scan_candidates(
    predicted: NDArray[np.bool_],
    probability: NDArray[np.floating],
    truth: NDArray[np.bool_],
    *,
    affine: NDArray[np.float64],
    minimum_lesion_mm: float,
) -> ScanCandidates:
    """Match the 26-connected components of a prediction with the true lesions of at least the smallest size.

    A component's score is its mean probability. One that touches only a smaller true lesion is left out: it is neither
    a hit nor a false positive.

    Args:
        predicted: Shape ``(slice, row, column)``, thresholded low: the curve goes no further than what it marks.
        probability: Same shape, in [0, 1].
        truth: Same shape.
        affine: 4x4, voxel to patient mm.
        minimum_lesion_mm: Of the long axis; 0 counts every lesion.

    Raises:
        ValueError: the shapes differ.
    """
    if not predicted.shape == probability.shape == truth.shape:
        raise ValueError(f"prediction and truth must share one grid, got {predicted.shape} and {truth.shape}")
    found, true = connected_components(predicted), connected_components(truth)
    touching = shared_voxels(found, true) > 0
    counts = [
        minimum_lesion_mm <= 0 or long_axis_mm(true, index, box, affine) >= minimum_lesion_mm
        for index, box in enumerate(true.boxes)
    ]
    numbers = np.cumsum(counts) - 1
    probabilities = probability[found.box]
    candidates = []
    for index, box in enumerate(found.boxes):
        touched = np.flatnonzero(touching[:, index])
        lesions = tuple(int(numbers[lesion]) for lesion in touched if counts[lesion])
        if lesions or not touched.size:
            region = found.labels[box] == index + 1
            candidates.append(Candidate(float(probabilities[box][region].mean(dtype=np.float64)), lesions))
    return ScanCandidates(tuple(candidates), sum(counts))


def froc(scans: Sequence[ScanCandidates]) -> Froc | None:
    """Give the curve over all scans; None without a scan or without a true lesion.

    A lesion is found from the highest score on down of the candidates that touch it.
    """
    total = sum(scan.lesions for scan in scans)
    if not total:
        return None
    best: dict[tuple[int, int], float] = {}
    false_scores = []
    for number, scan in enumerate(scans):
        for candidate in scan.candidates:
            for lesion in candidate.lesions:
                best[number, lesion] = max(candidate.score, best.get((number, lesion), -np.inf))
            if not candidate.lesions:
                false_scores.append(candidate.score)
    hits, misses = np.sort(list(best.values())), np.sort(false_scores)
    thresholds = np.unique(np.concatenate([hits, misses]))[::-1]
    return Froc(
        thresholds=np.concatenate([[np.inf], thresholds]),
        false_positives_per_scan=_from_here_on(misses, thresholds) / len(scans),
        sensitivity=_from_here_on(hits, thresholds) / total,
    )


def _from_here_on(ascending: Floats, thresholds: Floats) -> Floats:
    """Count the scores of at least each threshold, with nothing first."""
    counts = ascending.size - np.searchsorted(ascending, thresholds, side="left")
    return np.concatenate([[0.0], counts.astype(np.float64)])
