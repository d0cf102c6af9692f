"""Two models on the same patients: the difference of each patient's score."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fedward.evaluation.summary import CaseScore


def patient_scores(cases: Iterable[CaseScore]) -> Mapping[str, float]:
    """Give one score in [0, 1] a patient: the mean over the values of all the patient's scans.

    A false positive counts like a lesion that was missed, so that a model cannot win by marking everything. Where there
    was nothing to find and nothing was found the score is 1. A patient in whom nothing can be scored is left out.
    """
    values: dict[str, list[float]] = {}
    for case in cases:
        if not case.values and case.false_positives is None and not case.class_dice:
            continue
        values.setdefault(case.patient, []).extend([*case.values, *[0.0] * (case.false_positives or 0)])
    return {patient: sum(found) / len(found) if found else 1.0 for patient, found in values.items()}


def differences(new: Iterable[CaseScore], old: Iterable[CaseScore]) -> tuple[float, ...]:
    """Give each patient's score with the new model less that with the old one, in [-1, 1], by patient key.

    A patient whom one of the two cannot be scored on is left out.
    """
    after, before = patient_scores(new), patient_scores(old)
    return tuple(after[patient] - before[patient] for patient in sorted(set(after) & set(before)))
