from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from fedward.errors import Stopped
from fedward.models.runtime import Runtime
from fedward.models.sliding_window import foreground_probabilities, predict
from small_cases import AXIAL, affine_of, ball, job_with, volume_of

INPUT = job_with().input
RUNTIME = Runtime()
ORIENTATIONS = [np.eye(3)[:, list(order)] * [1, -1, 1] for order in itertools.permutations(range(3))]


class Threshold(torch.nn.Module):
    """Says 'ball' where the scaled intensity is above a half, with a soft border."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.zeros_like(image), 30 * (image - 0.5)], dim=1)


@pytest.mark.parametrize("directions", [AXIAL, *ORIENTATIONS])
def test_the_answer_lies_where_the_lesion_is(directions: np.ndarray) -> None:
    shape, affine = (24, 34, 30), affine_of(directions, (2.0, 1.2, 1.2), (40.0, -25.0, 9.0))
    truth = ball(shape, affine, affine[:3, :3] @ [9, 14, 20] + affine[:3, 3], 7.0)
    volume = volume_of(np.where(truth, 100.0, -900.0), affine)

    prediction = predict(Threshold(), volume, INPUT, (16, 16, 16), runtime=RUNTIME)

    overlap = 2 * ((prediction.labels == 1) & truth).sum() / ((prediction.labels == 1).sum() + truth.sum())
    assert prediction.labels.shape == prediction.probability.shape == shape
    assert overlap > 0.85


def test_windows_leave_no_seams() -> None:
    array = np.random.default_rng(0).uniform(0, 1, (20, 23, 37)).astype(np.float32)
    windows = foreground_probabilities(Threshold(), array, (8, 16, 8), runtime=RUNTIME)
    np.testing.assert_allclose(windows[0], 1 / (1 + np.exp(-30 * (array - 0.5))), atol=1e-5)


def test_an_image_smaller_than_the_window_is_answered_in_its_own_size() -> None:
    array = np.full((5, 30, 7), 0.9, dtype=np.float32)
    assert foreground_probabilities(Threshold(), array, (16, 16, 16), runtime=RUNTIME).shape == (1, 5, 30, 7)


def test_a_window_of_one_value_holds_no_finding() -> None:
    array = np.full((8, 8, 40), 0.9, dtype=np.float32)
    array[:, :, 30:] = np.linspace(0.8, 1, 10, dtype=np.float32)
    found = foreground_probabilities(Threshold(), array, (8, 8, 8), runtime=RUNTIME)
    assert (found[0, :, :, :24] == 0).all()
    assert (found[0, :, :, 32:] > 0.9).all()


def test_a_read_only_image_is_left_alone() -> None:
    array = np.full((8, 8, 8), 0.9, dtype=np.float32)
    array.setflags(write=False)
    foreground_probabilities(Threshold(), array, (8, 8, 8), runtime=RUNTIME)
    assert (array == np.float32(0.9)).all()


def test_the_network_stays_in_its_mode() -> None:
    module = Threshold().train()
    foreground_probabilities(module, np.zeros((8, 8, 8), np.float32), (8, 8, 8), runtime=RUNTIME)
    assert module.training


def test_a_prediction_can_be_stopped_between_windows() -> None:
    asked: list[int] = []

    def should_stop() -> bool:
        asked.append(1)
        return len(asked) > 2

    volume = volume_of(np.zeros((40, 40, 40)), affine_of(AXIAL, (2.0, 2.0, 2.0)))
    with pytest.raises(Stopped, match="aborted"):
        predict(Threshold(), volume, INPUT, (16, 16, 16), runtime=RUNTIME, should_stop=should_stop)
