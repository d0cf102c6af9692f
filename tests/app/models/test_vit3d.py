from __future__ import annotations

import pytest
import torch

from fedward.models.networks import build
from fedward.settings.networks import ViT3D
from network_cases import CLASSIFICATION, VIT


@pytest.mark.parametrize("mode", [True, False])
def test_one_logit_a_class(mode: bool) -> None:
    network = build(VIT, task=CLASSIFICATION).train(mode)
    assert network(torch.zeros(2, 1, *VIT.window)).shape == (2, 3)


def test_a_token_that_moves_changes_the_answer() -> None:
    network = build(VIT, task=CLASSIFICATION).eval()
    first, second = torch.zeros(1, 1, *VIT.window), torch.zeros(1, 1, *VIT.window)
    first[..., :8, :8, :8] = 1
    second[..., 8:, 8:16, :8] = 1
    assert (network(first) - network(second)).abs().max() > 1e-5


def test_dropout_is_drawn_in_training_alone() -> None:
    network = build(ViT3D.model_validate({**VIT.model_dump(), "dropout": 0.5}), task=CLASSIFICATION)
    images = torch.randn(1, 1, *VIT.window, generator=torch.Generator().manual_seed(0))
    assert (network.train()(images) != network(images)).any()
    assert (network.eval()(images) == network(images)).all()
