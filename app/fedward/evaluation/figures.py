"""What counts on a sheet say, noised or exact: means, curves, calibration, each with what bins and noise hide."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from fedward.evaluation.calibration import bin_edges
from fedward.evaluation.classification import OperatingPoint, Roc
from fedward.evaluation.froc import LUNA16_RATES, Froc
from fedward.evaluation.histograms import ScoreHistogram
from fedward.evaluation.sheet import (
    FALSE_MARKS,
    FALSE_VOXELS,
    HITS,
    MOST_FALSE_MARKS,
    NEGATIVES,
    PATIENTS,
    POSITIVES,
    SCORE_BINS,
    TRUE_VOXELS,
    Block,
    Counts,
    sheet_of,
)
from fedward.settings.job import EvaluatedTask

#: Below so many standard deviations of its noise a number of patients is not told from none.
_TOLD_FROM_NONE = 3.0

#: Blocks of which a mean is not asked: they make curves.
_CURVES = frozenset({PATIENTS, HITS, FALSE_MARKS, TRUE_VOXELS, FALSE_VOXELS, POSITIVES, NEGATIVES})


class Value(BaseModel):
    """A frozen value that travels as JSON: finite numbers, and nothing that its fields do not name."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Estimate(Value):
    """A number from counts.

    Attributes:
        value: The estimate.
        within: The number from the exact values lies so near, where the counts are exact and lie in the bins' range.
        noise: The standard deviation that the counts' noise gives it; 0 where they are exact.
    """

    value: float
    within: float
    noise: float = 0.0


class Curve(Value):
    """Points of a curve, and what one number says of it."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    area: float | None = None


class Classified(Value):
    """What scores are worth.

    Attributes:
        threshold: From here on a score counts as positive.
        true_positives: And the other three: the confusion matrix, every patient's part of a class being at most 1.
    """

    threshold: float
    true_positives: float
    false_positives: float
    true_negatives: float
    false_negatives: float
    accuracy: float | None
    f1: float | None
    sensitivity: float | None
    specificity: float | None
    auc: Estimate | None
    roc: Curve | None


class ReliabilityPoint(Value):
    """A bin of probability: what was said in it, what came true, and its share of all cases."""

    confidence: float
    frequency: float
    share: float


class Calibrated(Value):
    """Whether a probability means what it says.

    Attributes:
        ece: The expected calibration error.
        temperature: What logits are divided by to make it small; None where the counts do not say.
        ece_with_temperature: The error then.
        points: The reliability plot.
    """

    ece: Estimate
    temperature: float | None
    ece_with_temperature: float | None
    points: tuple[ReliabilityPoint, ...]


class Figures(Value):
    """All that a sheet says.

    Attributes:
        patients: How many were counted.
        means: By block, the mean over patients.
        histograms: By block, the counts of each bin; noised ones may lie below 0.
        classified: Of a task with scores.
        froc: Of a detector: false marks a scan against the share of lesions that are found; the area is the mean
            sensitivity at the rates of LUNA16.
        calibrated: Of scores, or of the voxels of a segmentation.
    """

    patients: Estimate
    means: dict[str, Estimate] = Field(default_factory=dict)
    histograms: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    classified: Classified | None = None
    froc: Curve | None = None
    calibrated: Calibrated | None = None


def figures_of(counts: Counts, task: EvaluatedTask, *, operating_point: float = 0.5, deviation: float = 0.0) -> Figures:
    """Read a sheet's counts.

    Args:
        counts: Shape ``(size,)`` of the task's sheet.
        task: Which sheet.
        operating_point: From here on a score counts as positive; taken at the nearest bin edge.
        deviation: The standard deviation of each count's noise, 0 for exact ones.

    Raises:
        ValueError: another number of counts.
    """
    sheet = sheet_of(task)
    parts = sheet.parts(counts)
    means = {
        block.name: mean
        for block in sheet.blocks
        if block.name not in _CURVES and (mean := mean_of(block, parts[block.name], deviation)) is not None
    }
    scores = _histogram(parts, POSITIVES, NEGATIVES, deviation)
    of_cases = scores or _histogram(parts, TRUE_VOXELS, FALSE_VOXELS, deviation)
    patients = float(parts[PATIENTS][0])
    curve = None
    if HITS in parts and is_told(parts[HITS], deviation):
        curve = froc_of(parts[HITS], parts[FALSE_MARKS], patients=patients)
    return Figures(
        patients=Estimate(value=patients, within=0.0, noise=deviation),
        means=means,
        histograms={name: tuple(part.tolist()) for name, part in parts.items()},
        classified=_classified(scores, operating_point) if scores else None,
        froc=_curve(curve.false_positives_per_scan, curve.sensitivity, curve.mean_sensitivity(LUNA16_RATES))
        if curve
        else None,
        calibrated=calibrated(of_cases) if of_cases else None,
    )


def is_told(counts: Counts, deviation: float) -> bool:
    """Whether there is anybody in these counts, as far as their noise lets see."""
    return float(counts.sum()) > max(1e-9, _TOLD_FROM_NONE * deviation * math.sqrt(counts.size))


def mean_of(block: Block, counts: Counts, deviation: float) -> Estimate | None:
    """Give the mean of what a block counts; None where noise hides whether anybody was counted."""
    if not is_told(counts, deviation):
        return None
    total = float(counts.sum())
    value = float(counts @ block.centres / total)
    noise = deviation * float(np.linalg.norm(block.centres - value)) / total
    known = counts.clip(0)
    within = float(known @ block.half_widths / known.sum())
    return Estimate(value=float(np.clip(value, block.low, block.high)), within=within, noise=noise)


def froc_of(hits: Counts, false_marks: Counts, *, patients: float) -> Froc | None:
    """Give the FROC curve at the bins' lower edges: shares of each patient's lesions, and false marks a patient.

    Args:
        hits: The surest mark of each lesion; the first bin holds the missed ones.
        false_marks: In shares of the most that count.
        patients: How many were counted.
    """
    found, false = hits.clip(0), false_marks.clip(0)
    if not (found.sum() > 0 and patients > 0):
        return None
    return Froc(
        thresholds=np.concatenate([[np.inf], bin_edges(SCORE_BINS)[:-1][::-1]]),
        false_positives_per_scan=np.concatenate([[0.0], np.cumsum(false[::-1]) * MOST_FALSE_MARKS / patients]),
        sensitivity=np.concatenate([[0.0], np.cumsum(found[:0:-1]) / found.sum()]),
    )


def calibrated(scores: ScoreHistogram) -> Calibrated | None:
    """Give the calibration of a histogram of scores, and what a temperature would make of it."""
    error = scores.expected_calibration_error()
    if error is None:
        return None
    temperature = scores.temperature()
    after = scores.expected_calibration_error(temperature=temperature) if temperature else None
    here = scores.known()
    cases = here.positives + here.negatives
    return Calibrated(
        ece=Estimate(value=error.value, within=error.error),
        temperature=temperature,
        ece_with_temperature=after.value if after else None,
        points=tuple(
            ReliabilityPoint(
                confidence=float(scores.centres[k]),
                frequency=float(here.positives[k] / cases[k]),
                share=float(cases[k] / cases.sum()),
            )
            for k in range(scores.bins)
            if cases[k] > 0
        ),
    )


def classified_of(point: OperatingPoint, auc: Estimate | None, roc: Roc | None) -> Classified:
    """Put a confusion matrix and a curve together."""
    return Classified(
        threshold=point.threshold,
        true_positives=point.true_positives,
        false_positives=point.false_positives,
        true_negatives=point.true_negatives,
        false_negatives=point.false_negatives,
        accuracy=point.accuracy,
        f1=point.f1,
        sensitivity=point.sensitivity,
        specificity=point.specificity,
        auc=auc,
        roc=_curve(roc.false_positive_rate, roc.sensitivity, auc.value if auc else None) if roc else None,
    )


def _classified(scores: ScoreHistogram, operating_point: float) -> Classified:
    area = scores.auc()
    auc = Estimate(value=area.value, within=area.error) if area else None
    return classified_of(scores.operating_point(operating_point), auc, scores.roc())


def _histogram(parts: Mapping[str, Counts], positives: str, negatives: str, deviation: float) -> ScoreHistogram | None:
    if positives not in parts or not is_told(np.concatenate([parts[positives], parts[negatives]]), deviation):
        return None
    return ScoreHistogram(parts[positives], parts[negatives])


def _curve(x: Counts, y: Counts, area: float | None) -> Curve:
    return Curve(x=tuple(x.tolist()), y=tuple(y.tolist()), area=area)
