from __future__ import annotations

import numpy as np
import pytest
import torch

from fedward.models.initial import initial_weights
from fedward.models.networks import build
from fedward.settings.job import Segmentation, UNet3D
from small_cases import job_with

TWO = Segmentation(kind="segmentation", classes=("one", "two"), measure="dice")


@pytest.mark.parametrize("norm", ["instance", "group"])
@pytest.mark.parametrize("residual_units", [0, 1])
def test_a_channel_for_the_background_and_one_for_each_class(norm: str, residual_units: int) -> None:
    settings = {"name": "unet3d", "channels": [8, 16, 24], "norm": norm, "residual_units": residual_units}
    network = build(UNet3D.model_validate(settings), task=TWO)
    assert network(torch.zeros(1, 1, 8, 12, 16)).shape == (1, 3, 8, 12, 16)


@pytest.mark.parametrize("norm", ["instance", "group"])
def test_a_patient_does_not_change_anothers_answer(norm: str) -> None:
    network = build(UNet3D.model_validate({"name": "unet3d", "channels": [8, 16], "norm": norm}), task=TWO)
    batch = torch.randn(2, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    network.train()
    together, alone = network(batch)[:1], network(batch[:1])
    torch.testing.assert_close(together, alone)


def test_nothing_but_parameters_is_learned() -> None:
    network = build(UNet3D(name="unet3d", channels=(8, 16)), task=TWO)
    assert list(network.buffers()) == []


def test_initial_weights_come_from_the_jobs_seed_alone() -> None:
    state = torch.get_rng_state()
    first = initial_weights(job_with(seed=1))
    np.testing.assert_array_equal(initial_weights(job_with(seed=1)), first)
    assert (initial_weights(job_with(seed=2)) != first).any()
    assert torch.equal(torch.get_rng_state(), state)
