"""Whole images for a classifier: their class stands in the hospital's table, and a patch is all that the network sees.

Where an image is larger than the patch, or smaller, training places the patch anywhere that it covers as much of the
image as it can, and all else looks at the middle.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import floor

import numpy as np
from numpy.typing import NDArray

from fedward.imaging.augmentation import augment
from fedward.imaging.patches import Batch, Number, TrainingCase, cut, turn
from fedward.randomness import Seeded
from fedward.settings.job import Training
from fedward.settings.tasks import Classification


def draw_image_batch(
    cases: Sequence[TrainingCase],
    *,
    count: int,
    step: int,
    training: Training,
    task: Classification,
    randomness: Seeded,
) -> Batch:
    """Draw one step's images with the class of each; the same step of the same stream gives the same batch.

    Args:
        cases: At least one, each with its class. Every case comes once before any comes again, among the images of
            ``task.positive`` and among the others each; where one kind is missing the other takes its turns.
        count: How many images.
        step: Counted from 0 over the whole job.
        training: Patch size, share of positive images, augmentation.
        task: Which class is the positive one.
        randomness: The site's own stream, or one patient's.
    """
    images = np.empty((count, 1, *training.patch_size), dtype=np.float32)
    classes = np.empty(count, dtype=np.int64)
    for index in range(count):
        number = step * count + index
        generator = randomness.generator("patch", number)
        case = _choose(cases, number, training.positive_share, task, randomness)
        image = _placed_anywhere(case.image, training.patch_size, generator).astype(np.float32)
        images[index, 0], _ = augment(image, np.zeros(image.shape, np.uint8), training.augmentation, generator)
        classes[index] = case.image_class
    return Batch(images, classes)


def middle_of(image: NDArray[Number], size: Sequence[int]) -> NDArray[Number]:
    """Give the box of ``size`` around an image's middle; what lies outside the image is zero."""
    return cut(image, [n // 2 - width // 2 for n, width in zip(image.shape, size, strict=True)], size)


def _choose(
    cases: Sequence[TrainingCase], number: int, positive_share: float, task: Classification, randomness: Seeded
) -> TrainingCase:
    positives = [case for case in cases if case.image_class == task.positive_index]
    others = [case for case in cases if case.image_class != task.positive_index]
    if not positives or not others:
        return cases[turn(len(cases), number, randomness, "any")]
    before = floor(number * positive_share)
    if floor((number + 1) * positive_share) > before:
        return positives[turn(len(positives), before, randomness, "positive")]
    return others[turn(len(others), number - before, randomness, "other")]


def _placed_anywhere(image: NDArray[Number], size: Sequence[int], generator: np.random.Generator) -> NDArray[Number]:
    room = [n - width for n, width in zip(image.shape, size, strict=True)]
    return cut(image, [int(generator.integers(min(0, spare), max(0, spare) + 1)) for spare in room], size)
