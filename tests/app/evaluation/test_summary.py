from __future__ import annotations

import numpy as np
import pytest

from fedward.evaluation.summary import CaseScore, Scores, score_case, summarise, values_by_patient
from fedward.settings.job import Segmentation

LESIONS = Segmentation(kind="segmentation", classes=("nodule",), measure="lesion_dice", minimum_lesion_mm=3.0)
TWO_KINDS = Segmentation(kind="segmentation", classes=("solid", "subsolid"), measure="lesion_dice")
ORGANS = Segmentation(kind="segmentation", classes=("anterior", "posterior"), measure="dice")


def score(predicted: np.ndarray, truth: np.ndarray, task: Segmentation, probability: float = 0.9) -> CaseScore:
    probabilities = np.full(predicted.shape, probability)
    return score_case(predicted, probabilities, truth, affine=np.eye(4), task=task, patient="p")


def test_a_lesion_of_the_wrong_kind_is_missed_and_a_false_positive() -> None:
    truth, predicted = np.zeros((2, 4, 8, 8), np.uint8)
    truth[1, 2, 1:5], predicted[1, 2, 1:5] = 1, 2
    assert score(predicted, truth, TWO_KINDS) == CaseScore("p", (0.0,), 1)


def test_the_smallest_lesion_comes_from_the_job() -> None:
    truth = np.zeros((4, 8, 8), np.uint8)
    truth[1, 1, 1:3] = truth[3, 5, 1:6] = 1
    assert score(truth, truth, LESIONS).values == (1.0,)


def test_a_finding_that_no_report_would_list_is_neither_a_hit_nor_a_false_positive() -> None:
    truth, predicted = np.zeros((2, 4, 8, 8), np.uint8)
    truth[1, 1, 1:5] = predicted[1, 1, 1:5] = predicted[3, 5, 1:6] = 1
    speck = predicted.copy()
    speck[0, 7, 7] = 1
    sure = LESIONS.model_copy(update={"minimum_probability": 0.75})
    assert score(predicted, truth, sure) == score(speck, truth, sure) == CaseScore("p", (1.0,), 1)
    assert score(predicted, truth, sure, probability=0.7) == CaseScore("p", (0.0,), 0)


def test_organs_are_scored_by_class_over_the_volume() -> None:
    truth, predicted = np.zeros((2, 1, 1, 6), np.uint8)
    truth[..., :4], predicted[..., :2] = 1, 1
    result = score(predicted, truth, ORGANS)
    assert result.values == (pytest.approx(4 / 6),)
    assert result.class_dice == (pytest.approx(4 / 6), None)
    assert result.false_positives is None


def test_every_lesion_counts_alike_and_every_scan_counts_for_false_positives() -> None:
    cases = [CaseScore("a", (1.0, 0.5, 0.0), 2), CaseScore("b", (), 1), CaseScore("c", (0.5,), 0)]
    assert summarise(cases) == Scores(score=0.5, values=4, cases=3, false_positives_per_scan=1.0)


def test_classes_are_averaged_over_the_scans_that_have_them() -> None:
    cases = [CaseScore("a", (0.8,), class_dice=(0.8, None)), CaseScore("b", (0.6,), class_dice=(0.7, 0.5))]
    result = summarise(cases)
    assert result.score == pytest.approx(0.7)
    assert result.class_dice == (pytest.approx(0.75), pytest.approx(0.5))


def test_no_scan_has_no_score() -> None:
    assert summarise([]).as_metrics() == {"validation_cases": 0.0}


def test_numbers_bear_the_names_that_a_site_file_shares() -> None:
    metrics = summarise([CaseScore("a", (0.25,), 3)]).as_metrics()
    assert metrics == {"validation_score": 0.25, "validation_false_positives": 3.0, "validation_cases": 1.0}


def test_scans_of_one_patient_are_drawn_together() -> None:
    cases = [CaseScore("a", (1.0,), 0), CaseScore("b", (), 0), CaseScore("a", (0.5, 0.2), 0)]
    assert values_by_patient(cases) == {"a": [1.0, 0.5, 0.2], "b": []}
