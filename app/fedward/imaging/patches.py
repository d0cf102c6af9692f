"""Training patches: which case, which place, with or without a lesion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fedward.imaging.augmentation import augment
from fedward.imaging.foreground import Foreground
from fedward.randomness import Seeded
from fedward.settings.job import Training

Number = TypeVar("Number", np.float16, np.float32, np.uint8)

#: A chosen foreground voxel lies in this middle share of its patch along each axis.
_MIDDLE = 0.6

#: Places that are drawn for a patch without a chosen voxel before one that shows nothing is taken.
_TRIES = 8


@dataclass(frozen=True, eq=False)
class TrainingCase:
    """One labelled image on the model grid, in memory or mapped from disk.

    Attributes:
        image: Axes (superior, posterior, left), float16, scaled intensities.
        label: Same shape, uint8.
        foreground: Where the label is not background, component by component.
        floor: The image's smallest value: with a window the air around the patient.
        image_class: Where a job classifies whole images, the place of the image's class among the task's; else 0.
    """

    image: NDArray[np.float16]
    label: NDArray[np.uint8]
    foreground: Foreground
    floor: float
    image_class: int = 0


@dataclass(frozen=True, eq=False)
class Batch:
    """Patches for one step.

    Attributes:
        images: Shape ``(batch, 1, superior, posterior, left)``, float32.
        labels: Same shape, uint8; for classification ``(batch,)``, int64: the class of each patch.
        facts: Multi-task: shape ``(batch, 2)``, float32: of the lesion at each patch's centre whether it is positive (1
            or 0), and its diameter in mm; NaN where there is none.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.uint8] | NDArray[np.int64]
    facts: NDArray[np.float32] | None = None


def draw_batch(
    cases: Sequence[TrainingCase], *, count: int, step: int, training: Training, randomness: Seeded
) -> Batch:
    """Draw one step's patches; the same step of the same stream gives the same batch.

    Args:
        cases: At least one. Every case comes once before any comes again, among the positive patches (cases with
            foreground only) and among the others each.
        count: How many patches.
        step: Counted from 0 over the whole job.
        training: Patch size, share of positive patches, augmentation.
        randomness: The site's own stream, or one patient's.
    """
    shape = (count, 1, *training.patch_size)
    images, labels = np.empty(shape, dtype=np.float32), np.empty(shape, dtype=np.uint8)
    for index in range(count):
        images[index, 0], labels[index, 0] = _draw_patch(cases, step * count + index, training, randomness)
    return Batch(images, labels)


def choose_case(
    cases: Sequence[TrainingCase], number: int, *, positive_share: float, randomness: Seeded
) -> tuple[TrainingCase, bool]:
    """Give the case of a stream's ``number``-th patch, and whether the patch is to show its foreground."""
    with_foreground = [case for case in cases if case.foreground.count]
    positives_before = floor(number * positive_share)
    if with_foreground and floor((number + 1) * positive_share) > positives_before:
        return with_foreground[turn(len(with_foreground), positives_before, randomness, "positive")], True
    return cases[turn(len(cases), number - positives_before, randomness, "any")], False


def _draw_patch(
    cases: Sequence[TrainingCase], number: int, training: Training, randomness: Seeded
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    generator = randomness.generator("patch", number)
    case, is_positive = choose_case(cases, number, positive_share=training.positive_share, randomness=randomness)
    if is_positive:
        middle = case.foreground.draw(generator)
        start = _start_around(middle, case.image.shape, training.patch_size, generator)
    else:
        start = _start_in_patient(case, training.patch_size, generator)
    image = cut(case.image, start, training.patch_size).astype(np.float32)
    return augment(image, cut(case.label, start, training.patch_size), training.augmentation, generator)


def cut(array: NDArray[Number], start: Sequence[int], size: Sequence[int]) -> NDArray[Number]:
    """Cut a box out of ``array``; what lies outside the array is zero."""
    inside = tuple(slice(max(0, s), max(0, min(s + w, n))) for s, w, n in zip(start, size, array.shape, strict=True))
    patch = np.zeros(size, dtype=array.dtype)
    place = tuple(slice(part.start - s, part.stop - s) for part, s in zip(inside, start, strict=True))
    patch[place] = array[inside]
    return patch


def turn(count: int, number: int, randomness: Seeded, name: str) -> int:
    """Give the ``number``-th card of a deck of ``count`` that is shuffled anew after each pass."""
    deck, place = divmod(number, count)
    return int(randomness.generator("deck", name, deck).permutation(count)[place])


def _start_in_patient(case: TrainingCase, size: Sequence[int], generator: np.random.Generator) -> list[int]:
    """Draw a place, anew while its middle shows nothing: little is to be learned from the air around a patient."""
    for _ in range(_TRIES):
        start = [
            int(generator.integers(min(0, n - w), max(0, n - w) + 1))
            for n, w in zip(case.image.shape, size, strict=True)
        ]
        middle = tuple(min(max(0, s + w // 2), n - 1) for s, w, n in zip(start, size, case.image.shape, strict=True))
        if case.image[middle] > case.floor:
            break
    return start


def _start_around(
    voxel: Sequence[int], shape: Sequence[int], size: Sequence[int], generator: np.random.Generator
) -> list[int]:
    margin = (1 - _MIDDLE) / 2
    offsets = [int(w * generator.uniform(margin, 1 - margin)) for w in size]
    return [
        int(np.clip(v - offset, min(0, n - w), max(0, n - w)))
        for v, offset, n, w in zip(voxel, offsets, shape, size, strict=True)
    ]
