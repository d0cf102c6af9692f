"""Patches around one place: a lesion, or a place where none is. What a patch shows is what lies at its centre."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fedward.imaging.augmentation import augment
from fedward.imaging.patches import Batch, Number, TrainingCase, choose_case, cut
from fedward.randomness import Seeded
from fedward.settings.job import Training
from fedward.settings.read import SpacingMm
from fedward.settings.tasks import Classification, MultiTask

Voxel = tuple[int, int, int]

#: No lesion reaches into this middle share of a patch without one, along each axis.
_MIDDLE = 0.5

#: Places that are drawn before one that shows nothing, or a lesion beside its centre, is taken.
_TRIES = 16


def draw_classified_batch(
    cases: Sequence[TrainingCase],
    *,
    count: int,
    step: int,
    training: Training,
    task: Classification,
    randomness: Seeded,
) -> Batch:
    """Draw one step's patches with the class of each; the same step of the same stream gives the same batch.

    A positive patch has a voxel of a lesion at its centre, any voxel of any lesion; the others have none.

    Args:
        cases: At least one; they take turns as in :func:`fedward.imaging.patches.draw_batch`.
        count: How many patches.
        step: Counted from 0 over the whole job.
        training: Patch size, share of positive patches, augmentation.
        task: Of two classes.
        randomness: The site's own stream, or one patient's.
    """
    images = np.empty((count, 1, *training.patch_size), dtype=np.float32)
    classes = np.empty(count, dtype=np.int64)
    for index in range(count):
        number = step * count + index
        generator = randomness.generator("patch", number)
        case, is_positive = choose_case(cases, number, positive_share=training.positive_share, randomness=randomness)
        centre = (
            case.foreground.draw(generator) if is_positive else place_elsewhere(case, training.patch_size, generator)
        )
        image, label = cut_around(case.image, centre, training.patch_size).astype(np.float32), case.label[centre]
        images[index, 0], _ = augment(image, np.zeros(image.shape, np.uint8), training.augmentation, generator)
        classes[index] = task.positive_index if label else 1 - task.positive_index
    return Batch(images, classes)


def draw_lesion_batch(
    cases: Sequence[TrainingCase],
    *,
    count: int,
    step: int,
    training: Training,
    task: MultiTask,
    spacing_mm: SpacingMm,
    randomness: Seeded,
) -> Batch:
    """Draw one step's patches with the class of every voxel, and what is known of the lesion at each centre.

    Patches are chosen as by :func:`draw_classified_batch`. A lesion is positive when its class is ``task.positive``.
    """
    shape = (count, 1, *training.patch_size)
    images, labels = np.empty(shape, dtype=np.float32), np.empty(shape, dtype=np.uint8)
    facts = np.full((count, 2), np.nan, dtype=np.float32)
    for index in range(count):
        number = step * count + index
        generator = randomness.generator("patch", number)
        case, is_positive = choose_case(cases, number, positive_share=training.positive_share, randomness=randomness)
        if is_positive:
            lesion, centre = case.foreground.draw_in_component(generator)
            facts[index] = lesion_is_positive(case, lesion, task), lesion_diameter_mm(case, lesion, spacing_mm)
        else:
            centre = place_elsewhere(case, training.patch_size, generator)
        image = cut_around(case.image, centre, training.patch_size).astype(np.float32)
        label = cut_around(case.label, centre, training.patch_size)
        images[index, 0], labels[index, 0] = augment(image, label, training.augmentation, generator)
    return Batch(images, labels, facts)


def lesion_is_positive(case: TrainingCase, lesion: int, task: MultiTask) -> bool:
    """Whether a lesion's class, counted from 1 in the label, is the task's positive one."""
    return task.classes[int(case.foreground.classes[lesion]) - 1] == task.positive


def lesion_diameter_mm(case: TrainingCase, lesion: int, spacing_mm: SpacingMm) -> float:
    """Give the diameter of the ball that has a lesion's volume."""
    voxels = int(case.foreground.starts[lesion + 1] - case.foreground.starts[lesion])
    return float(np.cbrt(6 / np.pi * voxels * np.prod(spacing_mm)))


def lesion_centres(case: TrainingCase) -> tuple[Voxel, ...]:
    """Give each lesion's own voxel that lies nearest to its mean place."""
    starts = case.foreground.starts
    return tuple(_nearest_to_mean(case.foreground.voxels[start:stop]) for start, stop in pairwise(starts))


def places_elsewhere(
    case: TrainingCase, size: Sequence[int], *, count: int, generator: np.random.Generator
) -> tuple[Voxel, ...]:
    """Draw up to ``count`` places whose patches are not a lesion's; fewer where lesions leave little room."""
    drawn = [place_elsewhere(case, size, generator) for _ in range(count)]
    return tuple(place for place in drawn if not _middle(case, place, size).any())


def place_elsewhere(case: TrainingCase, size: Sequence[int], generator: np.random.Generator) -> Voxel:
    """Draw a place, anew while it shows nothing or while a lesion reaches into the middle of its patch."""
    for _ in range(_TRIES):
        first, second, third = (int(generator.integers(n)) for n in case.image.shape)
        place = first, second, third
        if case.image[place] > case.floor and not _middle(case, place, size).any():
            break
    return place


def cut_around(array: NDArray[Number], centre: Voxel, size: Sequence[int]) -> NDArray[Number]:
    """Cut the box of ``size`` around a voxel; what lies outside the array is zero."""
    return cut(array, [middle - width // 2 for middle, width in zip(centre, size, strict=True)], size)


def _middle(case: TrainingCase, place: Voxel, size: Sequence[int]) -> NDArray[np.uint8]:
    widths = [max(1, int(width * _MIDDLE)) for width in size]
    return cut(case.label, [middle - width // 2 for middle, width in zip(place, widths, strict=True)], widths)


def _nearest_to_mean(voxels: NDArray[np.int32]) -> Voxel:
    away = np.square(voxels - voxels.mean(axis=0)).sum(axis=1)
    first, second, third = (int(value) for value in voxels[int(np.argmin(away))])
    return first, second, third
