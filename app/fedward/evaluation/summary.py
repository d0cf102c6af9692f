"""A job's validation score: one scan's share of it, and the whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedward.evaluation.lesions import score_lesions_by_class
from fedward.evaluation.overlap import dice_per_class
from fedward.evaluation.regions import found_labels
from fedward.settings.job import Segmentation


@dataclass(frozen=True)
class CaseScore:
    """One scan's share of a score.

    Attributes:
        patient: The patient's key; it stays at the site.
        values: ``lesion_dice``, ``auc``, ``lesion``: one value a true lesion; ``dice``: the mean over the classes that
            are there; ``brier``: one value an image.
        false_positives: ``lesion_dice``: predicted components where no lesion is; else None.
        class_dice: ``dice``: one value a class, None where neither prediction nor truth has it; else empty.
    """

    patient: str
    values: tuple[float, ...]
    false_positives: int | None = None
    class_dice: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class Scores:
    """What a model is worth on some scans.

    Attributes:
        score: The mean over all values, in [0, 1]; None when there is not one (no scan, or no lesion in any).
        values: How many values it is the mean of: the score's weight among sites.
        cases: How many scans were looked at.
        false_positives_per_scan: None for ``dice`` and where there is no scan.
        class_dice: ``dice``: the mean of each class over the scans that have it; else empty.
    """

    score: float | None
    values: int
    cases: int
    false_positives_per_scan: float | None = None
    class_dice: tuple[float | None, ...] = ()

    def as_metrics(self) -> dict[str, float]:
        """Name the numbers as a site file's ``share_metrics`` does; what is unknown is left out."""
        named = {
            "validation_score": self.score,
            "validation_false_positives": self.false_positives_per_scan,
            "validation_cases": float(self.cases),
        }
        return {name: value for name, value in named.items() if value is not None}


def score_case(
    predicted: NDArray[np.uint8],
    probability: NDArray[np.floating],
    truth: NDArray[np.uint8],
    *,
    affine: NDArray[np.float64],
    task: Segmentation,
    patient: str,
) -> CaseScore:
    """Score one scan as the job's ``task.measure`` says.

    Args:
        predicted: Shape ``(slice, row, column)``; 0 background, k the k-th of the task's classes.
        probability: Same shape, the foreground's probability in [0, 1].
        truth: Same shape, as ``predicted``.
        affine: 4x4, voxel to patient mm.
        task: Classes, measure, and what counts as a lesion and as found. With several classes ``lesion_dice`` scores
            each by itself.
        patient: The patient's key.

    Raises:
        ValueError: the shapes differ.
    """
    if task.measure == "dice":
        per_class = dice_per_class(predicted, truth, classes=len(task.classes))
        present = [value for value in per_class if value is not None]
        return CaseScore(patient, (float(np.mean(present)),) if present else (), class_dice=per_class)
    found = found_labels(predicted, probability, affine=affine, task=task)
    scores = score_lesions_by_class(
        found, truth, classes=len(task.classes), affine=affine, minimum_lesion_mm=task.minimum_lesion_mm
    )
    values = tuple(value for of_class in scores for value in of_class.dice)
    return CaseScore(patient, values, sum(of_class.false_positives for of_class in scores))


def summarise(cases: Iterable[CaseScore]) -> Scores:
    """Put scans together: every lesion (or scan) counts alike."""
    cases = tuple(cases)
    values = [value for case in cases for value in case.values]
    false_positives = [case.false_positives for case in cases if case.false_positives is not None]
    by_class = list(zip(*(case.class_dice for case in cases if case.class_dice), strict=True))
    return Scores(
        score=float(np.mean(values)) if values else None,
        values=len(values),
        cases=len(cases),
        false_positives_per_scan=float(np.mean(false_positives)) if false_positives else None,
        class_dice=tuple(_mean_of_known(of_class) for of_class in by_class),
    )


def values_by_patient(cases: Iterable[CaseScore]) -> Mapping[str, list[float]]:
    """Group the values by patient, as the bootstrap draws them."""
    grouped: dict[str, list[float]] = {}
    for case in cases:
        grouped.setdefault(case.patient, []).extend(case.values)
    return grouped


def _mean_of_known(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
