from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics.rocauc import compute_roc_auc
from sklearn import metrics

from fedward.evaluation.classification import (
    OperatingPoint,
    accuracy_of,
    auc,
    confusion_matrix,
    f1_per_class,
    operating_point,
    roc,
    threshold_for_sensitivity,
)
from score_cases import scored

Scored = tuple[np.ndarray, np.ndarray]


def has_both(truth: np.ndarray) -> bool:
    return bool(truth.any() and not truth.all())


def test_an_auc_by_hand_counts_a_tie_half() -> None:
    # Pairs (positive, negative): (3, 2) right, (3, 1) right, (2, 2) a tie, (2, 1) right.
    assert auc([3, 2, 2, 1], [True, True, False, False]) == 3.5 / 4


@settings(deadline=None)
@given(scored())
def test_auc_is_that_of_scikit_learn_and_monai(case: Scored) -> None:
    scores, truth = case
    ours = auc(scores, truth)
    if not has_both(truth):
        assert ours is None
        return
    assert ours == pytest.approx(metrics.roc_auc_score(truth, scores), abs=1e-12)
    theirs = compute_roc_auc(torch.from_numpy(scores), torch.from_numpy(truth.astype(np.float64)))
    assert ours == pytest.approx(float(theirs), abs=1e-9)


@settings(deadline=None)
@given(scored())
def test_the_curve_is_that_of_scikit_learn(case: Scored) -> None:
    scores, truth = case
    curve = roc(scores, truth)
    if not has_both(truth):
        assert curve is None
        return
    false_positive_rate, sensitivity, thresholds = metrics.roc_curve(truth, scores, drop_intermediate=False)
    assert curve is not None
    np.testing.assert_allclose(curve.false_positive_rate, false_positive_rate)
    np.testing.assert_allclose(curve.sensitivity, sensitivity)
    np.testing.assert_array_equal(curve.thresholds, thresholds)
    assert np.trapezoid(curve.sensitivity, curve.false_positive_rate) == pytest.approx(auc(scores, truth))


@settings(deadline=None)
@given(scored(), st.floats(0, 1))
def test_a_point_is_that_of_scikit_learn(case: Scored, threshold: float) -> None:
    scores, truth = case
    point, called = operating_point(scores, truth, threshold=threshold), scores >= threshold
    if truth.size:
        assert point.accuracy == pytest.approx(metrics.accuracy_score(truth, called))
    if truth.any():
        assert point.sensitivity == pytest.approx(metrics.recall_score(truth, called))
    if not truth.all():
        assert point.specificity == pytest.approx(metrics.recall_score(~truth, ~called))
    if called.any():
        assert point.precision == pytest.approx(metrics.precision_score(truth, called))
    if truth.any() or called.any():
        assert point.f1 == pytest.approx(metrics.f1_score(truth, called))


def test_what_the_data_cannot_say_is_none() -> None:
    nothing = operating_point([], [], threshold=0.5)
    assert (nothing.accuracy, nothing.sensitivity, nothing.specificity, nothing.precision, nothing.f1) == (None,) * 5
    healthy = operating_point([0.1, 0.2], [False, False], threshold=0.5)
    assert (healthy.accuracy, healthy.sensitivity, healthy.specificity, healthy.f1) == (1.0, None, 1.0, None)
    noised = OperatingPoint(0.5, -0.5, 0.25, 3.0, 0.1)
    assert (noised.sensitivity, noised.precision) == (None, None)


@settings(deadline=None)
@given(scored(), st.floats(0.01, 1))
def test_the_chosen_threshold_reaches_the_sensitivity_and_no_higher_one_does(case: Scored, wanted: float) -> None:
    scores, truth = case
    curve = roc(scores, truth)
    if curve is None:
        return
    threshold = threshold_for_sensitivity(curve, wanted)
    reached = operating_point(scores, truth, threshold=threshold).sensitivity
    assert reached is not None
    assert reached >= wanted
    above = operating_point(scores, truth, threshold=np.nextafter(threshold, np.inf)).sensitivity
    assert above is not None
    assert above < wanted


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=40))
def test_the_matrix_and_its_f1_are_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    predicted, truth = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    matrix = confusion_matrix(predicted, truth, classes=4)
    if not pairs:
        assert not matrix.any()
        assert accuracy_of(matrix) is None
        assert f1_per_class(matrix) == (None,) * 4
        return
    np.testing.assert_array_equal(matrix, metrics.confusion_matrix(truth, predicted, labels=range(4)))
    assert accuracy_of(matrix) == pytest.approx(metrics.accuracy_score(truth, predicted))
    theirs = metrics.f1_score(truth, predicted, labels=range(4), average=None, zero_division=0)
    for ours, other, seen in zip(f1_per_class(matrix), theirs, range(4), strict=True):
        assert (ours is None) == (seen not in truth and seen not in predicted)
        assert ours is None or ours == pytest.approx(other)


def test_what_does_not_match_is_refused() -> None:
    with pytest.raises(ValueError, match="one score for each truth"):
        auc([0.1, 0.2], [True])
    with pytest.raises(ValueError, match="finite"):
        auc([0.1, np.nan], [True, False])
    with pytest.raises(ValueError, match="classes go from 0 to 1, got 0 to 2"):
        confusion_matrix([0, 2], [0, 1], classes=2)
    with pytest.raises(ValueError, match="one prediction for each truth"):
        confusion_matrix([0, 1], [0], classes=2)
    with pytest.raises(ValueError, match="a sensitivity to reach"):
        threshold_for_sensitivity(roc([0, 1], [False, True]), 0.0)  # type: ignore[arg-type]
