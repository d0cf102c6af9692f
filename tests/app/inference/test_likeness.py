from __future__ import annotations

import numpy as np
import pytest

from fedward.evaluation.ranges import covered_ranges
from fedward.imaging.traits import measure_traits, patient_share, trait_keys
from fedward.inference.likeness import Likeness, compare
from fedward.privacy.shares import summed_shares
from fedward.release.passport import TrainedOn, TrainedRange
from fedward.settings.job import Input, Window
from small_cases import AXIAL, affine_of, volume_of

CT = Input(modality="CT", spacing_mm=(2, 2, 2), intensity=Window(kind="window", low=-1000, high=400))
CHEST = np.random.default_rng(1).choice([-990.0, -850.0, 40.0], (12, 20, 20))


def volume(slice_mm: float = 1.0, *, moved_by: float = 0.0):
    return volume_of(CHEST + moved_by, affine_of(AXIAL, (slice_mm, 0.7, 0.7)))


def trained_on(*slices_mm: float, noised: bool = False) -> TrainedOn:
    """What a passport says of training on chests with these slice spacings."""
    shares = [patient_share([measure_traits(volume(slice_mm), CT)], CT) for slice_mm in slices_mm]
    counts = dict(zip(trait_keys(CT), summed_shares(shares, bound=9.0).tolist(), strict=True))
    found = covered_ranges(counts, CT, deviation=0)
    ranges = tuple(TrainedRange(trait=one.trait, unit=one.unit, low=one.low, high=one.high) for one in found)
    return TrainedOn(noised=noised, ranges=ranges)


@pytest.mark.parametrize("slice_mm", [0.6, 1.0, 2.5])
def test_an_image_like_the_training_images_is_inside_in_every_trait(slice_mm: float) -> None:
    found = compare(volume(slice_mm), CT, trained_on(0.6, 1.0, 2.5))
    assert (found.known_from, len(found.compared), found.outside, found.unknown) == ("exact", 5, (), ())


@pytest.mark.parametrize("slice_mm", [0.5, 5.0])
def test_a_slice_spacing_beyond_the_training_images_is_named_with_their_range(slice_mm: float) -> None:
    (outside,) = compare(volume(slice_mm), CT, trained_on(0.6, 2.5)).outside
    assert (outside.trait, outside.unit, outside.value) == ("slice_spacing", "mm", slice_mm)
    assert (outside.low, outside.high) == (0.56, 2.75)


def test_intensities_without_the_scanners_offset_are_outside() -> None:
    found = compare(volume(moved_by=1024), CT, trained_on(1.0))
    assert [one.trait for one in found.outside] == ["dark_intensity", "middle_intensity", "bright_intensity"]


def test_what_is_not_known_is_never_called_alike() -> None:
    assert compare(volume(), CT, None) == Likeness(known_from="nothing")
    few = trained_on(1.0, noised=True)
    found = compare(volume(5.0), CT, few.model_copy(update={"ranges": few.ranges[1:2]}))
    assert (found.known_from, found.outside) == ("noised", ())
    assert found.unknown == ("slice_spacing", "dark_intensity", "middle_intensity", "bright_intensity")
