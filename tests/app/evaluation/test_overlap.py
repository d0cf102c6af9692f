from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import jaccard_score

from fedward.evaluation.overlap import dice_per_class, iou_per_class


def test_each_class_is_compared_by_itself() -> None:
    truth = np.array([[1, 1, 2, 2, 0, 0]], np.uint8)
    predicted = np.array([[1, 2, 2, 2, 2, 0]], np.uint8)
    assert dice_per_class(predicted, truth, classes=2) == (pytest.approx(2 / 3), pytest.approx(4 / 6))


def test_a_class_that_nobody_has_is_unknown_and_one_that_is_invented_is_zero() -> None:
    truth = np.array([0, 0, 1], np.uint8)
    predicted = np.array([2, 0, 1], np.uint8)
    assert dice_per_class(predicted, truth, classes=3) == (1.0, 0.0, None)


def test_a_label_beyond_the_classes_is_refused() -> None:
    with pytest.raises(ValueError, match="names class 3"):
        dice_per_class(np.array([3], np.uint8), np.array([1], np.uint8), classes=2)


def test_grids_must_be_the_same() -> None:
    with pytest.raises(ValueError, match="one grid"):
        dice_per_class(np.zeros(3, np.uint8), np.zeros(4, np.uint8), classes=1)


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_iou_is_scikit_learns_and_agrees_with_dice(seed: int) -> None:
    generator = np.random.default_rng(seed)
    predicted, truth = generator.integers(0, 4, (2, 12), dtype=np.uint8)
    ours = iou_per_class(predicted, truth, classes=3)
    theirs = jaccard_score(truth, predicted, labels=[1, 2, 3], average=None, zero_division=0)
    for iou, other, dice in zip(ours, theirs, dice_per_class(predicted, truth, classes=3), strict=True):
        assert (iou is None) == (dice is None)
        if iou is not None and dice is not None:
            assert iou == pytest.approx(other)
            assert dice == pytest.approx(2 * iou / (1 + iou))
