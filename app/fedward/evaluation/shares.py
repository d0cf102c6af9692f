"""One patient's share of a sheet: every block a distribution over bins, whatever many scans and lesions there are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedward.evaluation.measure import ScanFacts
from fedward.evaluation.sheet import (
    DIAMETER,
    DICE,
    FALSE_MARKS,
    FALSE_POSITIVES,
    FALSE_VOXELS,
    HD95,
    HITS,
    IOU,
    MOST_FALSE_MARKS,
    NEGATIVES,
    PATIENTS,
    POSITIVES,
    SCORE_BINS,
    SECONDS,
    SENSITIVITY,
    TRUE_VOXELS,
    Counts,
    Share,
    Sheet,
    tally,
)
from fedward.settings.job import EvaluatedTask

#: Where a lesion is counted that nothing marks: the middle of the bin below 0.
MISSED = -0.5 / SCORE_BINS


def counts_of(scans: Sequence[ScanFacts], sheet: Sheet, *, task: EvaluatedTask, smallest_cohort: int) -> Counts:
    """Count scans on a sheet, every patient once; see :func:`~fedward.evaluation.sheet.tally`."""
    by_patient: dict[str, list[ScanFacts]] = {}
    for scan in scans:
        by_patient.setdefault(scan.patient, []).append(scan)
    shares = [share_of(of_patient, sheet, task=task) for of_patient in by_patient.values()]
    return tally(sheet, shares, smallest_cohort=smallest_cohort)


def share_of(scans: Sequence[ScanFacts], sheet: Sheet, *, task: EvaluatedTask) -> Share:
    """Give what the scans of one patient add; a block without anything to count is left out."""
    values: dict[str, list[float]] = {
        PATIENTS: [0.5],
        SECONDS: _mean([scan.seconds for scan in scans]),
        DICE: _mean([value for scan in scans for value in scan.dice]),
        IOU: _mean([value for scan in scans for value in scan.iou]),
        HD95: _mean([value for scan in scans for value in scan.hd95_mm]),
        DIAMETER: _mean([value for scan in scans for value in scan.diameter_errors_mm]),
    }
    share: dict[str, Counts] = {}
    if task == "lesions":
        lesions = sum(scan.lesions or 0 for scan in scans)
        values[SENSITIVITY] = [sum(scan.lesions_found for scan in scans) / lesions] if lesions else []
        values[FALSE_POSITIVES] = _mean([float(scan.false_positives) for scan in scans])
        values[HITS] = [score for scan in scans for score in best_scores(scan)]
        share[FALSE_MARKS] = _false_marks(scans, sheet)
    if task in ("lesions", "structures"):
        share |= _voxels(scans)
    if task in ("classification", "multitask"):
        share |= _scores(scans, sheet, jointly=task == "multitask")
    known = {block.name for block in sheet.blocks}
    for name, of_block in values.items():
        if of_block and name in known:
            share[name] = sheet.block(name).count(of_block)
    return share


def best_scores(scan: ScanFacts) -> list[float]:
    """Give each true lesion's surest mark, :data:`MISSED` where there is none."""
    if scan.candidates is None:
        return []
    best = [MISSED] * scan.candidates.lesions
    for candidate in scan.candidates.candidates:
        for lesion in candidate.lesions:
            best[lesion] = max(best[lesion], candidate.score)
    return best


def _false_marks(scans: Sequence[ScanFacts], sheet: Sheet) -> Counts:
    """Count a patient's false marks by score, a scan at a time, in shares of the most that count."""
    block = sheet.block(FALSE_MARKS)
    total = np.zeros(block.bins)
    for scan in scans:
        false = [one.score for one in (scan.candidates.candidates if scan.candidates else ()) if not one.lesions]
        total += block.count(false) * len(false)
    return total / (len(scans) * MOST_FALSE_MARKS)


def _voxels(scans: Sequence[ScanFacts]) -> dict[str, Counts]:
    true, false = (np.sum([getattr(scan, name) for scan in scans], axis=0) for name in (TRUE_VOXELS, FALSE_VOXELS))
    whole = true.sum() + false.sum()
    return {TRUE_VOXELS: true / whole, FALSE_VOXELS: false / whole} if whole else {}


def _scores(scans: Sequence[ScanFacts], sheet: Sheet, *, jointly: bool) -> dict[str, Counts]:
    """Count scores by class: each class as one, or with ``jointly`` both together."""
    scores = np.array([score for scan in scans for score in scan.scores])
    positive = np.array([is_so for scan in scans for is_so in scan.positive], dtype=bool)
    share: dict[str, Counts] = {}
    for name, chosen in ((POSITIVES, positive), (NEGATIVES, ~positive)):
        if chosen.any():
            weight = chosen.mean() if jointly else 1.0
            share[name] = sheet.block(name).count(scores[chosen]) * weight
    return share


def _mean(values: Sequence[float] | NDArray[np.float64]) -> list[float]:
    return [float(np.mean(values))] if len(values) else []
