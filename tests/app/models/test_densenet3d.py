from __future__ import annotations

import pytest
import torch

from fedward.models.networks import build
from fedward.settings.networks import DenseNet3D
from network_cases import CLASSIFICATION


@pytest.mark.parametrize(
    ("growth_rate", "blocks"), [(4, (1,)), (4, (1, 1, 1)), (8, (4, 8, 8)), (12, (2, 3)), (4, (6, 12, 24, 16))]
)
def test_every_size_answers_the_smallest_patch_with_a_logit_a_class(growth_rate: int, blocks: tuple[int, ...]) -> None:
    network = DenseNet3D(name="densenet3d", growth_rate=growth_rate, blocks=blocks)
    module = build(network, task=CLASSIFICATION)
    size = network.reduction
    assert list(network.patch_faults((size, size, size))) == []
    answer = module(torch.randn(2, 1, size, size + 1, 2 * size, generator=torch.Generator().manual_seed(0)))
    assert answer.shape == (2, 3)
    assert torch.isfinite(answer).all()
    assert not torch.allclose(answer[0], answer[1])


def test_a_smaller_patch_would_leave_nothing_at_the_deepest_level() -> None:
    network = DenseNet3D(name="densenet3d", growth_rate=4, blocks=(1, 1))
    with pytest.raises(RuntimeError, match="smaller than kernel"):
        build(network, task=CLASSIFICATION)(torch.zeros(1, 1, 3, 8, 8))
