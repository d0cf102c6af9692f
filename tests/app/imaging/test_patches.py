from __future__ import annotations

import numpy as np
import pytest

from fedward.imaging.foreground import find_foreground
from fedward.imaging.patches import TrainingCase, cut, draw_batch
from fedward.randomness import Seeded
from fedward.settings.job import Training
from small_cases import job_with


def case_with(value: float, *, lesion: bool, shape: tuple[int, int, int] = (30, 31, 32)) -> TrainingCase:
    label = np.zeros(shape, dtype=np.uint8)
    if lesion:
        label[4:6, 20:22, 25:27] = 1
    return TrainingCase(np.full(shape, value, dtype=np.float16), label, find_foreground(label), floor=0.0)


def training_with(**changes: object) -> Training:
    return job_with(augmentation={"flip": False}, **changes).training


def test_the_share_of_positive_patches_is_met_exactly() -> None:
    training = training_with(batch_size=4, positive_share=0.75, patch_size=[8, 8, 8])
    cases = [case_with(1, lesion=True, shape=(100, 100, 100)), case_with(2, lesion=False)]
    for step in range(5):
        batch = draw_batch(cases, count=training.batch_size, step=step, training=training, randomness=Seeded(1))
        assert (batch.labels.reshape(4, -1).max(axis=1) == 1).sum() == 3


def test_every_case_comes_once_before_any_comes_again() -> None:
    training = training_with(batch_size=6, positive_share=0.0, patch_size=[8, 8, 8])
    cases = [case_with(value, lesion=value == 1) for value in (1, 2, 3)]
    for step in range(4):
        batch = draw_batch(cases, count=training.batch_size, step=step, training=training, randomness=Seeded(2))
        assert sorted(batch.images[:, 0, 0, 0, 0].tolist()) == [1, 1, 2, 2, 3, 3]


def test_a_site_without_any_lesion_still_trains() -> None:
    training = training_with(positive_share=1.0, patch_size=[8, 8, 8])
    batch = draw_batch(
        [case_with(1, lesion=False)], count=training.batch_size, step=0, training=training, randomness=Seeded(3)
    )
    assert batch.images.shape == (2, 1, 8, 8, 8)
    assert not batch.labels.any()


def test_the_same_step_gives_the_same_batch_and_another_step_another() -> None:
    training = job_with(augmentation={"noise": 0.1}).training
    cases = [case_with(1, lesion=True), case_with(2, lesion=True)]
    first, again, later = (
        draw_batch(cases, count=training.batch_size, step=step, training=training, randomness=Seeded(4))
        for step in (7, 7, 8)
    )
    np.testing.assert_array_equal(first.images, again.images)
    assert (first.images != later.images).any()


def test_a_lesion_at_the_border_is_inside_its_patch() -> None:
    training = training_with(batch_size=8, positive_share=1.0, patch_size=[16, 16, 16])
    batch = draw_batch(
        [case_with(1, lesion=True)], count=training.batch_size, step=0, training=training, randomness=Seeded(5)
    )
    assert (batch.labels.reshape(8, -1).sum(axis=1) > 0).all()
    assert (batch.images == 1).all()  # the patch stays inside an image that is large enough


def test_a_small_image_is_padded_with_zeros() -> None:
    training = training_with(batch_size=4, patch_size=[16, 16, 16])
    batch = draw_batch(
        [case_with(1, lesion=True, shape=(10, 40, 40))],
        count=training.batch_size,
        step=0,
        training=training,
        randomness=Seeded(6),
    )
    assert ((batch.images == 1).reshape(4, -1).sum(axis=1) == 10 * 16 * 16).all()


@pytest.mark.parametrize("start", [(0, 0, 0), (-2, 1, 3), (3, 4, 5), (-9, 0, 0)])
def test_a_cut_equals_a_cut_of_the_padded_array(start: tuple[int, int, int]) -> None:
    array = np.arange(1, 211, dtype=np.uint8).reshape(5, 6, 7)
    padded = np.pad(array, 10)
    box = tuple(slice(s + 10, s + 14) for s in start)
    np.testing.assert_array_equal(cut(array, start, (4, 4, 4)), padded[box])


def test_patches_without_a_chosen_voxel_keep_to_the_patient() -> None:
    training = training_with(batch_size=50, positive_share=0.0, patch_size=[8, 8, 8])
    image = np.zeros((60, 60, 60), dtype=np.float16)
    image[20:40, 20:40, 20:40] = 1
    label = np.zeros(image.shape, dtype=np.uint8)
    case = TrainingCase(image, label, find_foreground(label), floor=0.0)
    batch = draw_batch([case], count=training.batch_size, step=0, training=training, randomness=Seeded(7))
    middles = batch.images[:, 0, 4, 4, 4]
    # A middle lies in the block with probability (20 / 53)^3 = 0.054; of eight draws one does with probability 0.36.
    assert middles.mean() > 0.15
