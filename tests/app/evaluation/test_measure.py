"""What is noted of one segmented scan."""

from __future__ import annotations

import numpy as np
import pytest

from fedward.evaluation.measure import ScanFacts, segmented, voxel_counts
from fedward.settings.job import Segmentation

AFFINE = np.diag([2.0, 1.0, 1.0, 1.0])
LESIONS = Segmentation(
    kind="segmentation", classes=("nodule",), measure="lesion_dice", minimum_lesion_mm=2, minimum_probability=0.6
)
STRUCTURES = Segmentation(kind="segmentation", classes=("head", "tail"), measure="dice")
ABOUT = ScanFacts("one", 0.25)


def ball(centre: tuple[int, int, int], radius: float = 3.0) -> np.ndarray:
    index = np.stack(np.meshgrid(*(np.arange(n) for n in (16, 24, 24)), indexing="ij"), axis=-1)
    return np.linalg.norm(index - np.array(centre), axis=-1) <= radius


def facts(probability: np.ndarray, truth: np.ndarray) -> ScanFacts:
    predicted = (probability >= 0.5).astype(np.uint8)
    return segmented(predicted, probability, truth.astype(np.uint8), affine=AFFINE, task=LESIONS, about=ABOUT)


def test_a_lesion_that_is_marked_whole() -> None:
    truth = ball((8, 8, 8))
    found = facts(truth * 0.9, truth)
    assert (found.patient, found.seconds) == ("one", 0.25)
    assert (found.dice, found.iou, found.hd95_mm) == ((1.0,), (1.0,), (0.0,))
    assert (found.lesions, found.lesions_found, found.false_positives) == (1, 1, 0)
    assert found.candidates is not None
    assert [one.lesions for one in found.candidates.candidates] == [(0,)]


def test_an_unsure_mark_is_on_the_curve_but_not_at_the_operating_point() -> None:
    truth = ball((8, 8, 8))
    found = facts(truth * 0.3, truth)
    assert (found.dice, found.lesions_found, found.hd95_mm) == ((0.0,), 0, ())
    assert found.candidates is not None
    assert found.candidates.candidates[0].score == pytest.approx(0.3)


def test_a_mark_beside_the_lesion_is_false() -> None:
    truth, other = ball((8, 8, 8)), ball((8, 18, 18))
    found = facts((truth | other) * 0.8, truth)
    assert (found.lesions, found.lesions_found, found.false_positives) == (1, 1, 1)


def test_a_scan_without_a_lesion_has_no_dice_but_false_marks() -> None:
    found = facts(ball((8, 8, 8)) * 0.8, np.zeros((16, 24, 24)))
    assert (found.dice, found.lesions, found.false_positives) == ((), 0, 1)


def test_structures_are_told_by_class() -> None:
    truth = ball((8, 8, 8)).astype(np.uint8) + 2 * ball((8, 18, 18)).astype(np.uint8)
    predicted = np.where(truth == 1, 1, 0).astype(np.uint8)
    probability = (predicted > 0) * 0.9
    found = segmented(predicted, probability, truth, affine=AFFINE, task=STRUCTURES, about=ABOUT)
    assert (found.dice, found.iou, found.hd95_mm) == ((1.0, 0.0), (1.0, 0.0), (0.0,))
    assert (found.lesions, found.candidates) == (None, None)


def test_distances_are_in_millimetres_along_each_axis() -> None:
    truth, moved = np.zeros((2, 16, 24, 24), bool)
    truth[5, 8:12, 8:12] = True
    moved[6, 8:12, 8:12] = True
    found = facts(moved * 0.9, truth | moved & False)
    assert found.hd95_mm == (2.0,)


def test_voxels_are_chosen_by_their_probability_alone() -> None:
    probability = np.array([0.04, 0.05, 0.15, 0.99, 1.0])
    true, false = voxel_counts(probability, np.array([True, True, False, True, False]))
    np.testing.assert_array_equal(true, [1, 0, 0, 0, 0, 0, 0, 0, 0, 1])
    np.testing.assert_array_equal(false, [0, 1, 0, 0, 0, 0, 0, 0, 0, 1])
