"""What scans say exactly, with intervals, curves and subgroups: for the hospital's own page, and never to leave it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from fedward.dicom.facts import GroupFacts
from fedward.evaluation.bootstrap import mean_interval
from fedward.evaluation.calibration import expected_calibration_error, fit_temperature, reliability, with_temperature
from fedward.evaluation.classification import auc, operating_point, roc
from fedward.evaluation.figures import (
    Calibrated,
    Classified,
    Curve,
    Estimate,
    ReliabilityPoint,
    Value,
    classified_of,
)
from fedward.evaluation.froc import LUNA16_RATES, ScanCandidates, froc
from fedward.evaluation.measure import ScanFacts
from fedward.evaluation.sheet import DIAMETER, DICE, FALSE_POSITIVES, HD95, IOU, SECONDS, SENSITIVITY

_RESAMPLES = 1000
_LEVEL = 0.90
_BINS = 15
_AUC = "auc"

#: A score is kept from 0 and 1 by so much when its logit is taken.
_EDGE = 1e-6


class Exact(Value):
    """A mean over patients with its bootstrap interval at 90 %."""

    value: float
    low: float
    high: float
    patients: int


class SiteFigures(Value):
    """All that a hospital's scans say of one model.

    Attributes:
        patients: How many were looked at.
        scans: Their scans.
        means: By name, the mean over patients, and the AUC over all scores, with intervals over patients.
        classified: Of a task with scores, each score counting alike.
        froc: Of a detector, each lesion counting alike.
        calibrated: Of a task with scores.
    """

    patients: int
    scans: int
    means: dict[str, Exact]
    classified: Classified | None = None
    froc: Curve | None = None
    calibrated: Calibrated | None = None


class Subgroup(Value):
    """The patients of one group, and what the model does on them."""

    name: str
    patients: int
    scans: int
    means: dict[str, Exact]


_MEANS: Mapping[str, Callable[[ScanFacts], Sequence[float]]] = {
    DICE: lambda scan: scan.dice,
    IOU: lambda scan: scan.iou,
    HD95: lambda scan: scan.hd95_mm,
    SENSITIVITY: lambda scan: [scan.lesions_found / scan.lesions] if scan.lesions else [],
    FALSE_POSITIVES: lambda scan: [float(scan.false_positives)] if scan.lesions is not None else [],
    DIAMETER: lambda scan: scan.diameter_errors_mm,
    SECONDS: lambda scan: [scan.seconds],
}


def site_figures(scans: Sequence[ScanFacts], *, threshold: float, generator: np.random.Generator) -> SiteFigures:
    """Give everything exact.

    Args:
        scans: Of one model.
        threshold: From here on a score counts as positive.
        generator: Draws the resamples; the page says the same when it is written again.
    """
    scores, positive = _scores(scans)
    detected = [scan.candidates for scan in scans if scan.candidates is not None]
    area = auc(scores, positive) if scores.size else None
    return SiteFigures(
        patients=len({scan.patient for scan in scans}),
        scans=len(scans),
        means=means_of(scans, generator),
        classified=classified_of(
            operating_point(scores, positive, threshold=threshold),
            Estimate(value=area, within=0.0) if area is not None else None,
            roc(scores, positive),
        )
        if scores.size
        else None,
        froc=_froc(detected),
        calibrated=_calibrated(scores, positive) if scores.size else None,
    )


def means_of(scans: Sequence[ScanFacts], generator: np.random.Generator) -> dict[str, Exact]:
    """Give the mean over patients of everything that has a mean, and the AUC."""
    means: dict[str, Exact] = {}
    for name, values_of in _MEANS.items():
        by_patient: dict[str, list[float]] = {}
        for scan in scans:
            by_patient.setdefault(scan.patient, []).extend(values_of(scan))
        patients = {patient: [float(np.mean(values))] for patient, values in by_patient.items() if values}
        if patients:
            found = mean_interval(patients, generator, level=_LEVEL, resamples=_RESAMPLES)
            means[name] = Exact(value=found.estimate, low=found.low, high=found.high, patients=found.patients)
    area = _auc_interval(scans, generator)
    return {**means, _AUC: area} if area else means


def subgroups(scans: Sequence[ScanFacts], generator: np.random.Generator) -> dict[str, tuple[Subgroup, ...]]:
    """Give what the model does on the patients of each sex, age band, maker and band of slice distance."""
    tables: dict[str, tuple[Subgroup, ...]] = {}
    for grouping in fields(GroupFacts):
        groups: dict[str, list[ScanFacts]] = {}
        for scan in scans:
            groups.setdefault(getattr(scan.groups, grouping.name), []).append(scan)
        tables[grouping.name] = tuple(
            Subgroup(
                name=name,
                patients=len({scan.patient for scan in of_group}),
                scans=len(of_group),
                means=means_of(of_group, generator),
            )
            for name, of_group in sorted(groups.items())
        )
    return tables


def _auc_interval(scans: Sequence[ScanFacts], generator: np.random.Generator) -> Exact | None:
    """Give the AUC over all scores, patients drawn with replacement; resamples of one class alone are left out."""
    by_patient: dict[str, list[ScanFacts]] = {}
    for scan in scans:
        if scan.scores:
            by_patient.setdefault(scan.patient, []).append(scan)
    patients = sorted(by_patient)
    whole = auc(*_scores(scans)) if patients else None
    if whole is None:
        return None
    parts = [_scores(by_patient[patient]) for patient in patients]
    drawn = generator.integers(0, len(parts), size=(_RESAMPLES // 5, len(parts)))
    areas = [
        auc(np.concatenate([parts[k][0] for k in draw]), np.concatenate([parts[k][1] for k in draw])) for draw in drawn
    ]
    known = [area for area in areas if area is not None]
    low, high = np.quantile(known or [whole], [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Exact(value=whole, low=float(low), high=float(high), patients=len(patients))


def _scores(scans: Sequence[ScanFacts]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    scores = np.array([score for scan in scans for score in scan.scores], dtype=np.float64)
    return scores, np.array([is_so for scan in scans for is_so in scan.positive], dtype=np.bool_)


def _froc(scans: Sequence[ScanCandidates]) -> Curve | None:
    curve = froc(scans)
    if curve is None:
        return None
    return Curve(
        x=tuple(curve.false_positives_per_scan.tolist()),
        y=tuple(curve.sensitivity.tolist()),
        area=curve.mean_sensitivity(LUNA16_RATES),
    )


def _calibrated(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> Calibrated | None:
    bins = reliability(scores, positive, bins=_BINS)
    error = expected_calibration_error(bins)
    if error is None:
        return None
    inner = scores.clip(_EDGE, 1 - _EDGE)
    logits = np.column_stack([np.zeros_like(inner), np.log(inner) - np.log1p(-inner)])
    temperature = fit_temperature(logits, positive.astype(np.int64))
    after = None
    if temperature is not None:
        scaled = with_temperature(logits, temperature)[:, 1]
        after = expected_calibration_error(reliability(scaled, positive, bins=_BINS))
    return Calibrated(
        ece=Estimate(value=error, within=0.0),
        temperature=temperature,
        ece_with_temperature=after,
        points=tuple(
            ReliabilityPoint(confidence=one.confidence, frequency=one.frequency, share=one.cases / scores.size)
            for one in bins
            if one.confidence is not None and one.frequency is not None
        ),
    )
