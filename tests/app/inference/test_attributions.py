from __future__ import annotations

import sys

import pytest
import torch

from fedward.errors import SettingsError
from fedward.inference.attributions import integrated_gradients, require_captum
from fedward.inference.explanation import class_score


class Weighed(torch.nn.Module):
    """A class's logit is the squared image times the class's own weights: attributions are known on paper."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = torch.nn.Parameter(torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(1)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.einsum("bczyx,kzyx->bk", images.square(), self.weights)


def test_the_map_is_the_integral_of_the_gradients() -> None:
    module = Weighed()
    image = torch.randn(1, 1, 4, 4, 4, generator=torch.Generator().manual_seed(2))
    for index in (0, 1):
        expected = torch.relu(image[0, 0].square() * module.weights[index]).detach()
        heat = integrated_gradients(module, image, class_score(index))
        torch.testing.assert_close(heat[0], expected / expected.max(), atol=1e-4, rtol=1e-3)
    assert module.weights.grad is None
    assert module.training


def test_without_captum_the_site_file_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum", None)
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(SettingsError, match="missing_extra") as refusal:
        require_captum()
    assert "fedward[explain]" in refusal.value.detail
