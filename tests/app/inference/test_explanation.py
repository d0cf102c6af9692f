from __future__ import annotations

import pytest
import torch

from ball_network import balls, trained
from fedward.inference.explanation import attention_rollout, class_score, deepest_layer, grad_cam, region_score
from fedward.models.networks import build
from fedward.models.vit3d import ViTClassifier
from fedward.settings.networks import DenseNet3D, ViT3D
from network_cases import CASES, CLASSIFICATION, NetworkCase

PLACES = [(1, 2, 3), (6, 5, 1), (4, 4, 4)]


class Planted(torch.nn.Module):
    """Its first answer grows with bright voxels, its second with dark ones, its third with nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.features = torch.nn.Conv3d(1, 2, 1, bias=False)
        self.features.weight.data = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1, 1)
        self.act = torch.nn.ReLU(inplace=True)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = self.act(self.features(images)).mean(dim=(2, 3, 4))
        return torch.cat([found, torch.zeros_like(found[:, :1])], dim=1)


def spot(place: tuple[int, int, int], value: float) -> torch.Tensor:
    image = torch.zeros(1, 1, 8, 8, 8)
    image[(0, 0, *place)] = value
    return image


def peak(heat: torch.Tensor) -> tuple[int, ...]:
    return tuple((heat == heat.max()).nonzero()[0].tolist())


@pytest.mark.parametrize("place", PLACES)
def test_the_maps_peak_lies_where_the_answer_comes_from(place: tuple[int, int, int]) -> None:
    module = Planted()
    image = spot(place, 5) - spot((7, 7, 7), 3)
    for index, expected in ((0, place), (1, (7, 7, 7))):
        heat = grad_cam(module, image, class_score(index), layer=module.features)
        assert heat.shape == (1, 8, 8, 8)
        assert peak(heat[0]) == expected
        assert heat.max() == 1
        assert heat.sum() == 1


def test_each_image_of_a_batch_has_its_own_map() -> None:
    module = Planted()
    heat = grad_cam(module, torch.cat([spot(place, 2) for place in PLACES]), class_score(0), layer=module.features)
    assert [peak(one) for one in heat] == PLACES


def test_an_answer_that_depends_on_nothing_is_refused_and_one_without_support_is_empty() -> None:
    module = Planted()
    with pytest.raises(ValueError, match="does not depend on that layer"):
        grad_cam(module, spot((1, 1, 1), 1), lambda _: torch.zeros((), requires_grad=True), layer=module.act)
    heat = grad_cam(module, torch.zeros(1, 1, 8, 8, 8), class_score(0), layer=module.features)
    assert not heat.any()


def test_a_layer_without_places_is_refused() -> None:
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(8, 2))
    with pytest.raises(ValueError, match="needs a layer"):
        grad_cam(module, torch.zeros(1, 1, 2, 2, 2), class_score(0), layer=module[1])
    with pytest.raises(ValueError, match="network with convolutions"):
        grad_cam(module, torch.zeros(1, 1, 2, 2, 2), class_score(0))


def test_a_trained_networks_map_lies_on_the_lesion() -> None:
    images, masks = balls(8, seed=300)
    heat = grad_cam(trained(), images, region_score(1, masks[:, 0]))
    inside = (heat * masks[:, 0]).sum() / heat.sum()
    assert inside > 3 * masks.float().mean()


@pytest.mark.parametrize("name", ["unet3d", "multitask_densenet3d"])
def test_explaining_leaves_the_network_as_it_was(name: str) -> None:
    case: NetworkCase = CASES[name]
    module = case.module().train()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    images = case.images([1, 2])
    score = class_score(0) if name == "unet3d" else (lambda answer: answer.malignancy.sum())
    heat = grad_cam(module, images, score)
    assert heat.shape == (2, *case.patch_size)
    assert torch.isfinite(heat).all()
    assert all(part.training for part in module.modules())
    assert all(value.grad is None for value in module.parameters())
    assert not any(part._forward_hooks for part in module.modules())
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


def test_the_deepest_layer_of_a_u_net_lies_on_its_coarsest_grid() -> None:
    module, images = trained(), balls(1, 0)[0]
    shapes = []
    handle = deepest_layer(module, images).register_forward_hook(
        lambda _part, _inputs, output: shapes.append(output.shape[2:])
    )
    with torch.inference_mode():
        module(images)
    handle.remove()
    assert [tuple(shape) for shape in shapes] == [(4, 4, 4)]


@pytest.mark.parametrize("size", [16, 28, 40])
def test_a_classifier_that_pools_everything_in_the_end_is_explained_before_it_does(size: int) -> None:
    network = DenseNet3D(name="densenet3d", growth_rate=4, blocks=(2, 3))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        module, images = build(network, task=CLASSIFICATION).eval(), torch.randn(1, 1, size, size, size)
    grids = []
    handle = deepest_layer(module, images).register_forward_hook(
        lambda _part, _inputs, output: grids.append(tuple(output.shape[2:]))
    )
    values = [grad_cam(module, images, class_score(index)).unique().numel() for index in range(3)]
    handle.remove()
    assert min(grids[0]) >= 4
    assert max(values) > 64, "places differ"


def looks_at_bright_tokens(layers: int) -> ViTClassifier:
    """The class token asks for direction 1; a bright token answers with it, a dark one says nothing."""
    settings = ViT3D(name="vit3d", window=(8, 8, 8), token=(4, 4, 4), hidden=8, layers=layers, heads=1, mlp=8)
    network = build(settings, task=CLASSIFICATION)
    assert isinstance(network, ViTClassifier)
    with torch.no_grad():
        for value in network.parameters():
            value.zero_()
        transformer = network.transformer
        transformer.patch_embedding.patch_embeddings.weight[1] = 1.0
        transformer.cls_token[0, 0, 0] = 1.0
        for block in transformer.blocks:
            block.norm1.weight.fill_(1.0)
            block.attn.qkv.weight[0, 0] = 10.0
            block.attn.qkv.weight[8, 1] = 10.0
    return network


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("token", [(0, 0, 1), (1, 0, 0), (1, 1, 1)])
def test_the_rollouts_peak_lies_in_the_token_that_was_looked_at(layers: int, token: tuple[int, int, int]) -> None:
    image = torch.zeros(1, 1, 8, 8, 8)
    z, y, x = (4 * index for index in token)
    image[..., z : z + 4, y : y + 4, x : x + 4] = 1
    heat = attention_rollout(looks_at_bright_tokens(layers), image)
    assert heat.shape == (1, 8, 8, 8)
    assert tuple(index // 4 for index in peak(heat[0])) == token
    assert heat[0][image[0, 0] == 1].mean() > 5 * heat[0][image[0, 0] == 0].mean()


def test_a_transformer_that_looks_everywhere_has_a_flat_map() -> None:
    heat = attention_rollout(looks_at_bright_tokens(2), torch.zeros(1, 1, 8, 8, 8))
    torch.testing.assert_close(heat, torch.ones_like(heat))


def test_rolling_out_leaves_the_network_as_it_was() -> None:
    case = CASES["vit3d"]
    module = case.module().train()
    assert isinstance(module, ViTClassifier)
    heat = attention_rollout(module, case.images([1, 2]))
    assert heat.shape == (2, *case.patch_size)
    assert all(part.training for part in module.modules())
    assert not any(block.attn.save_attn or block.attn.att_mat.numel() for block in module.transformer.blocks)
