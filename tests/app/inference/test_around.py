from __future__ import annotations

import numpy as np
import pytest

from fedward.imaging.grid import to_model_grid
from fedward.inference.around import Around, around_findings, from_to
from fedward.inference.lesions import Inference, find_lesions
from fedward.randomness import Secret
from second_look_cases import BALL, CT, PATCH
from small_cases import AXIAL, affine_of, ball, volume_of

OBLIQUE = np.array([[0.0, 0.8, 0.6], [0.0, 0.6, -0.8], [-1.0, 0.0, 0.0]])


def found(labels: np.ndarray, affine: np.ndarray) -> tuple[Inference, list[Around]]:
    array = np.where(labels > 0, 0, -700)
    volume = volume_of(array, affine, patient="1")
    inference = find_lesions(labels, np.ones(labels.shape, np.float16), volume, task=BALL, randomness=Secret())
    return inference, list(around_findings(inference, volume, to_model_grid(volume, CT), PATCH, most=5))


@pytest.mark.parametrize("directions", [AXIAL, OBLIQUE, -AXIAL], ids=["axial", "oblique", "turned"])
def test_mask_and_patch_show_the_lesion_wherever_the_series_lies(directions: np.ndarray) -> None:
    affine = affine_of(directions, (3.0, 1.0, 1.5), origin=(-40.0, 15.0, 7.0))
    centre = (affine @ [10, 22, 18, 1])[:3]
    inference, (around,) = found(ball((20, 44, 36), affine, centre, 8.0).astype(np.uint8), affine)
    assert (around.number, around.class_name, around.patch.shape) == (1, "ball", PATCH)
    volume_mm3 = around.mask.sum() * 8
    assert volume_mm3 == pytest.approx(inference.findings.lesions[0].volume_mm3, rel=0.15)
    bright = around.patch > around.patch.max() / 2
    assert (bright & around.mask).sum() / (bright | around.mask).sum() > 0.75, "the mask lies on the bright ball"
    middle = (around.affine @ [*np.argwhere(around.mask).mean(axis=0), 1])[:3]
    np.testing.assert_allclose(middle, centre, atol=1.0)


def test_a_lesion_at_the_edge_has_a_whole_patch_and_one_smaller_than_a_voxel_still_a_mask() -> None:
    labels = np.zeros((20, 30, 30), np.uint8)
    labels[0:6, 0:8, 0:8] = 1
    affine = affine_of(AXIAL, (2.0, 2.0, 2.0))
    _, (around,) = found(labels, affine)
    assert around.patch.shape == around.mask.shape == PATCH
    fine = affine_of(AXIAL, (0.3, 0.3, 0.3))
    thin = np.zeros((20, 30, 30), np.uint8)
    thin[10, 3:16, 4] = 1
    _, (around,) = found(thin, fine)
    assert around.mask.sum() >= 1


def test_only_the_largest_lesions_have_a_patch() -> None:
    labels = np.zeros((20, 60, 60), np.uint8)
    for index in range(8):
        labels[4:9, 7 * index : 7 * index + 4, 5:9] = 1
    inference, patches = found(labels, affine_of(AXIAL, (2.0, 2.0, 2.0)))
    assert len(inference.findings.lesions) == 8
    assert [around.number for around in patches] == [1, 2, 3, 4, 5]
    assert all(around.mask.any() for around in patches)


def test_from_one_grid_to_another_and_back_is_nowhere() -> None:
    first, second = affine_of(AXIAL, (1.0, 2.0, 3.0), origin=(1, 2, 3)), affine_of(OBLIQUE, (2.0, 0.5, 1.0))
    np.testing.assert_allclose(from_to(first, second) @ from_to(second, first), np.eye(4), atol=1e-12)
