from __future__ import annotations

import math

import numpy as np
import pytest

from fedward.evaluation.ranges import collected, covered_ranges
from fedward.imaging.traits import patient_share, trait_keys, traits_of
from fedward.privacy.shares import noised_shares, summed_shares
from fedward.randomness import Secret
from fedward.settings.job import Input, Window

CT = Input(modality="CT", spacing_mm=(2, 2, 2), intensity=Window(kind="window", low=-1000, high=400))
BOUND = math.sqrt(len(traits_of(CT)))


def hospital(patients: int, slice_mm: tuple[float, ...]) -> list[np.ndarray]:
    """Patients whose slice spacings take turns, and who are alike in all else."""
    return [
        patient_share([np.array([slice_mm[k % len(slice_mm)], 0.7, -990.0, -300.0, 100.0])], CT)
        for k in range(patients)
    ]


def counts_of(total: np.ndarray) -> dict[str, float]:
    return dict(zip(trait_keys(CT), total.tolist(), strict=True))


def test_exact_counts_give_the_edges_around_all_values() -> None:
    exact = counts_of(summed_shares(hospital(3, (0.6, 2.5)), bound=BOUND))
    found = {one.trait: (one.low, one.high, one.unit) for one in covered_ranges(exact, CT, deviation=0)}
    assert found["slice_spacing"] == (0.56, 2.75, "mm")
    assert found["pixel_spacing"] == (0.65, 0.75, "mm")
    assert found["dark_intensity"] == (None, -950.0, "HU")
    assert list(found) == [trait.name for trait in traits_of(CT)]


def test_what_hospitals_gave_adds_up_and_nonsense_counts_as_not_given() -> None:
    key = trait_keys(CT)[3]
    assert collected({"a": {key: 2.0, "validation_score": 0.5}, "b": {key: 3.5}, "c": {key: math.nan}}, CT)[key] == 5.5
    assert collected({"a": {"validation_score": 0.5}}, CT) == {}


@pytest.mark.parametrize("more_noise", [1.0, 3.0])
def test_noised_counts_of_many_patients_tell_the_range_and_empty_bins_stay_empty(more_noise: float) -> None:
    """Four hospitals of 150 patients; one that adds more noise than was asked widens no range."""
    noise, sites, wrong = 1.5, 4, 0
    for _ in range(40):
        total = sum(
            noised_shares(hospital(150, (1.0, 2.5)), bound=BOUND, noise_multiplier=noise * more_noise, secret=Secret())
            for _ in range(sites)
        )
        deviation = noise * BOUND * math.sqrt(sites)
        found = {one.trait: (one.low, one.high) for one in covered_ranges(counts_of(total), CT, deviation=deviation)}
        assert set(found) == {trait.name for trait in traits_of(CT)}
        wrong += found["slice_spacing"] != (0.9, 2.75)
    assert wrong <= 4


def test_few_patients_under_much_noise_tell_nothing() -> None:
    told = 0
    for _ in range(20):
        total = noised_shares(hospital(10, (1.0, 5.0)), bound=BOUND, noise_multiplier=10.0, secret=Secret())
        told += len(covered_ranges(counts_of(total), CT, deviation=10 * BOUND))
    assert told <= 4, "one bin in 4000 is taken for filled by chance"
