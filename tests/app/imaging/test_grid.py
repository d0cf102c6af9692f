from __future__ import annotations

import itertools

import numpy as np
import pytest

from fedward.dicom.volume import Label
from fedward.errors import Stopped
from fedward.imaging import grid
from fedward.imaging.grid import label_to_model_grid, model_grid, source_grid, to_model_grid, to_source_grid
from fedward.settings.job import Input
from small_cases import AXIAL, affine_of, ball, volume_of

WINDOW = {"kind": "window", "low": -1000.0, "high": 1000.0}
#: Every way to lay three axes along the patient: axial, coronal, sagittal, flipped.
ORIENTATIONS = [
    np.eye(3)[:, list(order)] * signs
    for order, signs in itertools.product(
        itertools.permutations(range(3)), [(1, 1, 1), (-1, 1, 1), (1, -1, 1), (1, 1, -1), (-1, -1, -1)]
    )
]
#: 20 degrees about the left-right axis, then axial.
TILT = np.array([[1, 0, 0], [0, 0.9397, -0.3420], [0, 0.3420, 0.9397]]) @ AXIAL


def input_at(spacing_mm: tuple[float, float, float], intensity: dict[str, object] = WINDOW) -> Input:
    return Input.model_validate({"modality": "CT", "spacing_mm": spacing_mm, "intensity": intensity})


def points_of(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """Patient coordinates of every voxel, shape (*shape, 3)."""
    return np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]


@pytest.mark.parametrize("directions", [*ORIENTATIONS, TILT])
def test_a_model_voxel_shows_what_lies_there_in_the_patient(directions: np.ndarray) -> None:
    affine = affine_of(directions, (2.0, 1.5, 1.25), (-31.0, 12.0, 77.0))
    slope_lps = np.array([3.0, -2.0, 5.0])
    volume = volume_of(points_of((14, 17, 19), affine) @ slope_lps, affine)

    image = to_model_grid(volume, input_at((1.25, 1.25, 1.25)))

    expected = points_of(image.array.shape, image.affine) @ (slope_lps * [-1, -1, 1])
    inner = (slice(3, -3),) * 3
    np.testing.assert_allclose(image.array[inner] * 2000 - 1000, expected[inner], atol=0.05)


@pytest.mark.parametrize("directions", ORIENTATIONS)
def test_axes_run_to_superior_posterior_and_left(directions: np.ndarray) -> None:
    target = model_grid(source_grid((10, 20, 30), affine_of(directions, (3.0, 2.0, 1.0))), (2.0, 1.5, 1.0))
    np.testing.assert_allclose(target.affine[:3, :3], [[0, 0, -1], [0, -1.5, 0], [2, 0, 0]], atol=1e-9)


def test_the_field_of_view_keeps_its_centre_and_extent() -> None:
    source = source_grid((10, 20, 30), affine_of(AXIAL, (3.0, 2.0, 1.0), (5.0, 6.0, 7.0)))
    target = model_grid(source, (2.0, 2.0, 2.0))
    assert target.shape == (15, 20, 15)
    centres = [g.affine @ [*((np.array(g.shape) - 1) / 2), 1] for g in (source, target)]
    np.testing.assert_allclose(centres[0], centres[1])


def test_an_axial_volume_on_its_own_spacing_comes_through_unchanged() -> None:
    array = np.random.default_rng(0).uniform(-900, 900, (6, 7, 8)).astype(np.float32)
    image = to_model_grid(volume_of(array, affine_of(AXIAL, (2.0, 1.0, 1.0))), input_at((2.0, 1.0, 1.0)))
    np.testing.assert_allclose(image.array * 2000 - 1000, array, atol=0.02)


def test_a_window_clips_to_zero_and_one() -> None:
    array = np.array([[[-3000.0, 0.0, 3000.0]]])
    image = to_model_grid(volume_of(array, affine_of(AXIAL, (1.0, 1.0, 1.0))), input_at((1.0, 1.0, 1.0)))
    np.testing.assert_allclose(image.array, [[[0, 0.5, 1]]], atol=1e-6)


def test_a_z_score_has_mean_zero_and_deviation_one() -> None:
    array = np.random.default_rng(1).gamma(2, 50, (6, 7, 8)).astype(np.float32)
    scaled = grid.scale_intensity(array, input_at((1.0, 1.0, 1.0), {"kind": "zscore"}))
    assert scaled.mean() == pytest.approx(0, abs=1e-5)
    assert scaled.std() == pytest.approx(1, abs=1e-5)


def test_a_constant_volume_is_zero_under_the_z_score() -> None:
    assert not grid.scale_intensity(np.full((2, 2, 2), 7, np.float32), input_at((1, 1, 1), {"kind": "zscore"})).any()


def test_a_coarser_grid_averages_noise_instead_of_sampling_it() -> None:
    array = np.random.default_rng(2).normal(0, 100, (12, 96, 96)).astype(np.float32)
    image = to_model_grid(volume_of(array, affine_of(AXIAL, (2.0, 0.5, 0.5))), input_at((2.0, 2.0, 2.0)))
    # A Gaussian of sigma s along two axes leaves 1 / (2 sqrt(pi) s) of the deviation; s^2 = (4^2 - 1) / (8 ln 2).
    expected = 100 / (2 * np.sqrt(np.pi) * np.sqrt(15 / (8 * np.log(2))))
    assert image.array[:, 3:-3, 3:-3].std() * 2000 == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("directions", [AXIAL, ORIENTATIONS[7], TILT])
@pytest.mark.parametrize("spacing", [(1.5, 1.5, 1.5), (1.0, 1.25, 2.0)])
def test_a_label_goes_to_the_model_grid_and_back(directions: np.ndarray, spacing: tuple[float, float, float]) -> None:
    shape, affine = (24, 36, 40), affine_of(directions, (2.0, 1.0, 0.8), (-20.0, 30.0, -10.0))
    centre = affine[:3, :3] @ [10, 15, 22] + affine[:3, 3]
    truth = ball(shape, affine, centre, 7.0).astype(np.uint8)
    other = ball(shape, affine, affine[:3, :3] @ [18, 28, 8] + affine[:3, 3], 4.0)
    truth[other] = 2
    volume = volume_of(np.zeros(shape), affine)
    settings = input_at(spacing)

    on_model = label_to_model_grid(Label(truth, ("one", "two")), volume, settings)
    probabilities = np.stack([on_model == 1, on_model == 2]).astype(np.float32)
    target = model_grid(source_grid(shape, affine), spacing)
    back = to_source_grid(probabilities, target.affine, source_grid(shape, affine))

    for k, dice in ((1, 0.9), (2, 0.75)):
        a, b = truth == k, back.labels == k
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) > dice
        moved = points_of(shape, affine)[a].mean(0) - points_of(shape, affine)[b].mean(0)
        assert np.linalg.norm(moved) < 0.4  # mm: no half-voxel shift


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    source = source_grid((20, 12, 14), affine_of(TILT, (1.0, 2.0, 2.0)))
    target = model_grid(source, (1.5, 1.5, 1.5))
    probabilities = np.random.default_rng(3).uniform(0, 0.7, (1, *target.shape)).astype(np.float32)
    whole = to_source_grid(probabilities, target.affine, source)
    monkeypatch.setattr(grid, "_CHUNK_VOXELS", 500)
    pieces = to_source_grid(probabilities, target.affine, source)
    np.testing.assert_array_equal(whole.labels, pieces.labels)
    np.testing.assert_allclose(whole.probability, pieces.probability, atol=1e-3)


def test_the_box_of_interest_loses_no_voxel(monkeypatch: pytest.MonkeyPatch) -> None:
    source = source_grid((20, 24, 26), affine_of(TILT, (1.5, 1.0, 1.0)))
    target = model_grid(source, (2.0, 2.0, 2.0))
    probabilities = np.zeros((1, *target.shape), dtype=np.float32)
    probabilities[0, 5:8, 4:6, 9:12] = 0.9
    boxed = to_source_grid(probabilities, target.affine, source)
    monkeypatch.setattr(grid, "_box_of_interest", lambda *_: tuple(slice(0, n) for n in source.shape))
    whole = to_source_grid(probabilities, target.affine, source)
    assert boxed.labels.any()
    np.testing.assert_array_equal(boxed.labels, whole.labels)


def test_the_background_wins_where_the_classes_share_less_than_half() -> None:
    source = source_grid((3, 3, 3), affine_of(AXIAL, (1.0, 1.0, 1.0)))
    target = model_grid(source, (1.0, 1.0, 1.0))
    probabilities = np.stack([np.full((3, 3, 3), 0.3), np.full((3, 3, 3), 0.25)]).astype(np.float32)
    prediction = to_source_grid(probabilities, target.affine, source)
    assert not prediction.labels.any()
    assert float(prediction.probability[1, 1, 1]) == pytest.approx(0.55, abs=1e-3)


def test_the_way_back_can_be_stopped() -> None:
    source = source_grid((3, 3, 3), affine_of(AXIAL, (1.0, 1.0, 1.0)))

    def stop() -> None:
        raise Stopped("aborted", "asked to end")

    with pytest.raises(Stopped, match="aborted"):
        to_source_grid(np.ones((1, 3, 3, 3), np.float32), source.affine, source, check=stop)
