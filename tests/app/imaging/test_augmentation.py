from __future__ import annotations

import numpy as np
import pytest

from fedward.imaging.augmentation import augment
from fedward.settings.job import Augmentation

NONE = Augmentation(flip=False)


def patch(shape: tuple[int, int, int] = (4, 5, 5)) -> tuple[np.ndarray, np.ndarray]:
    image = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    return image, (image % 7).astype(np.uint8)


def test_nothing_asked_changes_nothing() -> None:
    image, label = patch()
    changed, same = augment(image, label, NONE, np.random.default_rng(0))
    np.testing.assert_array_equal(changed, image)
    np.testing.assert_array_equal(same, label)


@pytest.mark.parametrize("settings", [Augmentation(flip=True), Augmentation(flip=False, rotate_90=True)])
def test_image_and_label_move_together_and_keep_every_voxel(settings: Augmentation) -> None:
    image, label = patch()
    seen = set()
    for seed in range(60):
        moved, moved_label = augment(image, label, settings, np.random.default_rng(seed))
        np.testing.assert_array_equal((moved % 7).astype(np.uint8), moved_label)
        np.testing.assert_array_equal(np.sort(moved.ravel()), image.ravel())
        seen.add(moved.tobytes())
    assert len(seen) == (8 if settings.flip else 4)


def test_a_patch_that_is_not_square_is_not_turned() -> None:
    image, label = patch((4, 5, 6))
    moved, _ = augment(image, label, Augmentation(flip=False, rotate_90=True), np.random.default_rng(1))
    np.testing.assert_array_equal(moved, image)


def test_intensities_stay_within_their_bounds() -> None:
    settings = Augmentation(flip=False, scale_intensity=0.2, shift_intensity=0.1)
    zeros, ones = np.zeros((2, 2, 2), np.float32), np.ones((2, 2, 2), np.float32)
    label = np.zeros((2, 2, 2), np.uint8)
    shifts, sums = (
        [augment(image, label, settings, np.random.default_rng(seed))[0][0, 0, 0] for seed in range(200)]
        for image in (zeros, ones)
    )
    factors = np.array(sums) - shifts
    assert np.abs(shifts).max() <= 0.1 + 1e-6
    assert 0.8 - 1e-6 <= factors.min() < 0.85
    assert 1.15 < factors.max() <= 1.2 + 1e-6


def test_noise_has_at_most_the_asked_deviation() -> None:
    settings = Augmentation(flip=False, noise=0.1)
    image, label = np.zeros((20, 20, 20), np.float32), np.zeros((20, 20, 20), np.uint8)
    deviations = [augment(image, label, settings, np.random.default_rng(seed))[0].std() for seed in range(40)]
    assert max(deviations) < 0.11
    assert max(deviations) > 0.08
