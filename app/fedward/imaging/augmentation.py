"""Random changes of a training patch: each choice is drawn first, then applied."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fedward.settings.job import Augmentation

Number = TypeVar("Number", np.float32, np.uint8)


def augment(
    image: NDArray[np.float32],
    label: NDArray[np.uint8],
    settings: Augmentation,
    generator: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Change a patch as the job says.

    Args:
        image: Axes (superior, posterior, left), float32, scaled intensities; not changed in place.
        label: Same shape.
        settings: ``scale_intensity`` and ``shift_intensity`` are the largest relative and absolute change, ``noise``
            the largest standard deviation of added Gaussian noise, all in scaled intensities. Quarter turns keep the
            first axis and need a patch that is square along the other two.
        generator: Where every choice comes from.
    """
    image, label = _placed(image, label, settings, generator)
    factor = 1 + settings.scale_intensity * generator.uniform(-1, 1)
    shift = settings.shift_intensity * generator.uniform(-1, 1)
    changed = image * np.float32(factor) + np.float32(shift)
    if settings.noise:
        deviation = np.float32(settings.noise * generator.uniform())
        changed += deviation * generator.standard_normal(changed.shape, dtype=np.float32)
    return changed, label


def _placed(
    image: NDArray[np.float32], label: NDArray[np.uint8], settings: Augmentation, generator: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    mirrored = [axis for axis, chosen in enumerate(generator.integers(0, 2, 3)) if chosen and settings.flip]
    turns = int(generator.integers(0, 4)) if settings.rotate_90 and image.shape[1] == image.shape[2] else 0

    def place(array: NDArray[Number]) -> NDArray[Number]:
        return np.rot90(np.flip(array, tuple(mirrored)), turns, axes=(1, 2))

    return place(image), place(label)
