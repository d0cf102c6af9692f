from __future__ import annotations

import pytest
import torch

from fedward.models import multitask_densenet3d
from fedward.models.networks import build
from fedward.settings.networks import MultiTaskDenseNet3D
from network_cases import DENSENET, MULTITASK


@pytest.mark.parametrize("mode", [True, False])
def test_the_answers_have_the_documented_shapes(mode: bool) -> None:
    network = build(DENSENET, task=MULTITASK).train(mode)
    answer = network(torch.zeros(2, 1, 16, 32, 48))
    assert answer.segmentation.shape == (2, 2, 16, 32, 48)
    assert answer.malignancy.shape == answer.diameter_mm.shape == (2,)
    assert answer.log_variances.shape == (3,)


def test_a_diameter_is_above_zero_and_in_the_tasks_scale() -> None:
    torch.manual_seed(3)
    images = torch.randn(2, 1, 16, 16, 32)
    small = build(DENSENET, task=MULTITASK).eval()
    large = build(DENSENET, task=MULTITASK.model_copy(update={"typical_diameter_mm": 30.0})).eval()
    large.load_state_dict(small.state_dict())
    assert (small(images).diameter_mm > 0).all()
    torch.testing.assert_close(large(images).diameter_mm, 3 * small(images).diameter_mm)


def test_the_encoder_has_the_layers_of_densenet_121() -> None:
    network = build(MultiTaskDenseNet3D(name="multitask_densenet3d", growth_rate=8), task=MULTITASK)
    assert [len(block) for block in network.blocks] == [6, 12, 24, 16]


def test_the_decoder_sees_single_voxels_through_its_skips() -> None:
    network = build(DENSENET, task=MULTITASK).eval()
    image = torch.zeros(1, 1, 16, 16, 32)
    image[0, 0, 8, 8, 16] = 5
    voxels = network(image).segmentation[0, 1]
    away = (voxels - voxels.median()).abs()
    place = (away == away.max()).nonzero()[0]
    assert (place - torch.tensor([8, 8, 16])).abs().max() <= 2


def test_a_lesions_extent_is_that_of_its_outline() -> None:
    voxels = torch.full((2, 3, 16, 16, 32), -30.0)
    voxels[:, 0] = 0
    voxels[0, 1, :8, :8, :16] = 30
    voxels[1, 2, :4, :4, :8] = 30
    extent = multitask_densenet3d._extent(voxels)
    torch.testing.assert_close(extent, torch.tensor([[4.0, 0.37], [0.37, 2.0]]), atol=0.02, rtol=0)


def test_what_is_said_of_a_lesion_teaches_nothing_to_the_decoder() -> None:
    torch.manual_seed(5)
    network = build(DENSENET, task=MULTITASK)
    answer = network(torch.randn(2, 1, 16, 16, 32))
    (answer.malignancy.sum() + answer.diameter_mm.sum()).backward()
    assert all(parameter.grad is None for parameter in network.voxels.parameters())
    assert all(parameter.grad is None for parameter in network.decoder.parameters())
    assert network.malignancy.weight.grad.abs().min() > 0
