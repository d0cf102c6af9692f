from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from fedward.evaluation.lesions import LesionScores, bounding_box, connected_components, score_lesions

MILLIMETRES = np.eye(4)


def score(predicted: np.ndarray, truth: np.ndarray, minimum: float = 0.0) -> LesionScores:
    return score_lesions(predicted, truth, affine=MILLIMETRES, minimum_lesion_mm=minimum)


def empty(shape: tuple[int, int, int] = (8, 24, 24)) -> np.ndarray:
    return np.zeros(shape, np.uint8)


def test_a_lesion_is_compared_with_all_components_that_touch_it() -> None:
    truth, predicted = empty(), empty()
    truth[2, 2, 2:12] = 1  # ten voxels
    predicted[2, 2, 0:4] = 1  # four, two of them inside
    predicted[2, 2, 8:14] = 1  # six, four of them inside
    predicted[6, 20, 20] = 1  # touches nothing
    result = score(predicted, truth)
    assert result.dice == (pytest.approx(2 * (2 + 4) / (10 + 4 + 6)),)
    assert result.false_positives == 1


def test_a_component_over_two_lesions_counts_whole_for_each() -> None:
    truth, predicted = empty(), empty()
    truth[1, 1, 0:4] = truth[1, 1, 6:10] = 1
    predicted[1, 1, 0:10] = 1
    assert score(predicted, truth).dice == (pytest.approx(8 / 14), pytest.approx(8 / 14))


def test_a_missed_lesion_counts_as_zero() -> None:
    truth = empty()
    truth[3, 3:6, 3:6] = 1
    assert score(empty(), truth) == LesionScores((0.0,), 0)


def test_nothing_there_and_nothing_found_is_no_value_and_no_false_positive() -> None:
    assert score(empty(), empty()) == LesionScores((), 0)


def test_a_component_on_a_small_true_lesion_is_neither_hit_nor_false_positive() -> None:
    truth, predicted = empty(), empty()
    truth[1, 1, 1:4] = 1  # 3 mm
    truth[5, 10, 4:12] = 1  # 8 mm
    predicted[1, 1, 1:4] = 1
    assert score(predicted, truth, minimum=6.0) == LesionScores((0.0,), 0)


def test_a_lesion_of_exactly_the_smallest_size_counts() -> None:
    truth = empty()
    truth[1, 1, 1:7] = 1
    assert len(score(empty(), truth, minimum=6.0).dice) == 1
    assert len(score(empty(), truth, minimum=6.1).dice) == 0


def test_corner_neighbours_are_one_lesion() -> None:
    truth = empty()
    truth[1, 1, 1] = truth[2, 2, 2] = 1
    assert len(score(empty(), truth).dice) == 1


def test_a_grid_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="one grid"):
        score(empty(), empty((8, 24, 25)))


MASKS = arrays.arrays(np.uint8, (4, 7, 6), elements=st.sampled_from([0, 0, 0, 1]))


@settings(max_examples=100, deadline=None)
@given(MASKS, MASKS)
def test_whole_volumes_give_the_same_as_bounding_boxes(predicted: np.ndarray, truth: np.ndarray) -> None:
    everything = np.ones((3, 3, 3))
    found, found_count = ndimage.label(predicted, everything)
    true, true_count = ndimage.label(truth, everything)
    expected = []
    for lesion in range(1, true_count + 1):
        touching = [k for k in range(1, found_count + 1) if ((found == k) & (true == lesion)).any()]
        union = np.isin(found, touching)
        inside = true == lesion
        expected.append(2 * (union & inside).sum() / (union.sum() + inside.sum()) if touching else 0.0)
    wrong = sum(not truth[found == k].any() for k in range(1, found_count + 1))
    result = score(predicted, truth)
    assert result.dice == pytest.approx(tuple(expected))
    assert result.false_positives == wrong


@settings(max_examples=50, deadline=None)
@given(MASKS)
def test_the_truth_itself_is_perfect(truth: np.ndarray) -> None:
    result = score(truth, truth)
    assert set(result.dice) <= {1.0}
    assert result.false_positives == 0


@settings(max_examples=50, deadline=None)
@given(MASKS)
def test_components_keep_every_voxel_in_place(mask: np.ndarray) -> None:
    components = connected_components(mask != 0)
    back = np.zeros(mask.shape, bool)
    back[bounding_box(mask != 0)] = components.labels > 0
    assert np.array_equal(back, mask != 0)
    assert components.voxels.sum() == mask.sum()
    assert len(components.boxes) == components.count
