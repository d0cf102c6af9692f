"""Whole images are drawn class by class, and the network sees their middle unless it trains."""

from __future__ import annotations

from collections import Counter

import numpy as np

from fedward.imaging.foreground import find_foreground
from fedward.imaging.patches import TrainingCase
from fedward.imaging.whole_images import draw_image_batch, middle_of
from fedward.randomness import Seeded
from fedward.settings.job import Augmentation, Training
from fedward.settings.tasks import Classification

TASK = Classification(kind="classification", of="image", classes=("a", "b", "c"), positive="b")
STILL = Augmentation(flip=False)


def case(value: int, image_class: int, size: int = 4) -> TrainingCase:
    label = np.zeros((size,) * 3, dtype=np.uint8)
    return TrainingCase(np.full(label.shape, value, np.float16), label, find_foreground(label), 0.0, image_class)


def training(share: float = 0.5, size: int = 4, augmentation: Augmentation = STILL) -> Training:
    return Training(
        rounds=1,
        steps_per_round=1,
        batch_size=4,
        patch_size=(size,) * 3,
        positive_share=share,
        learning_rate=1e-3,
        augmentation=augmentation,
    )


def drawn(cases: list[TrainingCase], count: int, **settings: object) -> tuple[np.ndarray, np.ndarray]:
    batch = draw_image_batch(cases, count=count, step=0, training=training(**settings), task=TASK, randomness=Seeded(1))
    return batch.images, batch.labels


def test_positive_images_have_their_share_and_every_image_takes_its_turn() -> None:
    cases = [case(1, 1), case(2, 1), *(case(10 + number, 2 * (number % 2)) for number in range(6))]
    images, classes = drawn(cases, 48, share=0.25)
    values = images[:, 0, 0, 0, 0].astype(int)
    assert Counter(values.tolist()) == {1: 6, 2: 6, **{10 + number: 6 for number in range(6)}}
    of_value = {int(one.image[0, 0, 0]): one.image_class for one in cases}
    assert [of_value[value] for value in values] == classes.tolist()


def test_a_hospital_without_a_positive_image_trains_on_the_others_and_the_other_way_round() -> None:
    for image_class in (0, 1):
        _, classes = drawn([case(1, image_class), case(2, image_class)], 8, share=0.5)
        assert set(classes.tolist()) == {image_class}


def test_the_same_step_gives_the_same_batch_and_another_stream_another() -> None:
    cases = [case(number, number % 2) for number in range(9)]
    options = {"count": 6, "training": training(augmentation=Augmentation(noise=0.1)), "task": TASK}
    first, again = (draw_image_batch(cases, step=3, randomness=Seeded(1), **options) for _ in range(2))
    np.testing.assert_array_equal(first.images, again.images)
    other = draw_image_batch(cases, step=3, randomness=Seeded(2), **options)
    assert not np.array_equal(first.images, other.images)


def test_training_moves_the_patch_over_the_whole_of_a_larger_image_and_a_smaller_image_within_it() -> None:
    image = np.arange(125, dtype=np.float16).reshape(5, 5, 5)
    wide = TrainingCase(image, np.zeros((5, 5, 5), np.uint8), find_foreground(np.zeros((5, 5, 5), np.uint8)), 0.0, 0)
    images, _ = drawn([wide], 60, size=3)
    assert {int(one) // 25 for one in images[:, 0, 0, 0, 0]} == {0, 1, 2}
    small = case(1, 0, size=2)
    images, _ = drawn([small], 60, size=3)
    assert (images.sum(axis=(1, 2, 3, 4)) == 8).all()  # nothing of it is lost
    assert len({tuple(np.argwhere(one[0])[0]) for one in images}) == 8


def test_the_middle_of_an_image_is_its_middle() -> None:
    image = np.arange(7, dtype=np.uint8)[:, None, None]
    assert middle_of(image, (3, 1, 1)).ravel().tolist() == [2, 3, 4]
    assert middle_of(image, (9, 1, 1)).ravel().tolist() == [0, *range(7), 0]
