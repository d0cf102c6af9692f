from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedward.imaging.cases import SiteData
from fedward.imaging.traits import measure_traits, patient_share, trait_keys, traits_of
from fedward.settings.job import Input, Window, ZScore
from small_cases import AXIAL, affine_of, job_with, site_at, studies_in, volume_of

CT = Input(modality="CT", spacing_mm=(2, 2, 2), intensity=Window(kind="window", low=-1000, high=400))
MR = Input(modality="MR", spacing_mm=(2, 2, 2), intensity=ZScore(kind="zscore"))
RAMP = np.linspace(-900, 100, 1000).reshape(10, 10, 10)


def test_spacing_and_percentiles_are_the_images_own() -> None:
    found = measure_traits(volume_of(RAMP, affine_of(AXIAL, (5.0, 0.4, 0.9))), CT)
    assert found == pytest.approx([5.0, 0.6, *np.percentile(RAMP, [5, 50, 95])])


def test_padding_around_the_scanners_field_of_view_is_no_intensity() -> None:
    padded = RAMP.copy()
    padded[0] = -3024
    found = measure_traits(volume_of(padded, affine_of(AXIAL, (1.0, 1.0, 1.0))), CT)
    assert found[2] == -1024


def test_a_z_score_takes_unit_and_scale_away_but_not_the_shape() -> None:
    affine = affine_of(AXIAL, (1.0, 1.0, 1.0))
    one, scaled = (measure_traits(volume_of(a, affine, modality="MR"), MR) for a in (RAMP, RAMP * 70 + 9))
    np.testing.assert_allclose(one, scaled, atol=1e-5)
    flat = measure_traits(volume_of(np.full((4, 4, 4), 7), affine, modality="MR"), MR)
    assert flat.tolist() == [1, 1, 0, 0, 0]
    assert [trait.unit for trait in traits_of(MR)] == ["mm", "mm", *["deviations"] * 3]


@settings(deadline=None)
@given(st.lists(st.lists(st.floats(-5000, 5000), min_size=5, max_size=5), min_size=1, max_size=6))
def test_a_patients_share_is_bounded_however_many_images_there_are(images: list[list[float]]) -> None:
    share = patient_share([np.array(image) for image in images], CT)
    assert share.shape == (len(trait_keys(CT)),)
    assert share.min() >= 0
    assert np.linalg.norm(share) <= math.sqrt(len(traits_of(CT))) * (1 + 1e-12)
    assert share.sum() == pytest.approx(len(traits_of(CT)))


def test_an_image_counts_in_the_bin_that_holds_its_value() -> None:
    keys, image = trait_keys(CT), np.array([1.0, 0.7, -990.0, -500.0, 2000.0])
    counted = [key for key, count in zip(keys, patient_share([image], CT), strict=True) if count]
    assert counted == [
        "trained_slice_spacing_04",
        "trained_pixel_spacing_04",
        "trained_dark_intensity_00",
        "trained_middle_intensity_04",
        "trained_bright_intensity_14",
    ]
    assert len(set(keys)) == len(keys) < 100, "a message holds at most 100 numbers"


def test_a_prepared_case_keeps_what_its_series_was_like(tmp_path) -> None:
    job = job_with()
    data = SiteData.prepare(studies_in(tmp_path / "files", 3), site_at(tmp_path), job)
    assert all(case.traits()[:2] == pytest.approx([2.0, 1.5]) for case in data.cases)
    assert all(-850 < case.traits()[2] < -750 for case in data.cases), "5 % of noise around -700 HU of deviation 60"
