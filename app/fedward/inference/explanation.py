"""Where in the image an answer comes from: Grad-CAM for convolutions, attention roll-out for the transformer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from fedward.models.vit3d import ViTClassifier

#: From a network's answer, whatever its form, to the one number that is explained.
Score = Callable[[Any], torch.Tensor]


#: Along each axis, of a grid that still tells places apart.
_LEAST_PLACES = 4


def class_score(index: int) -> Score:
    """Explain a class of a classifier: its logit, summed over the batch."""
    return lambda logits: logits[:, index].sum()


def region_score(index: int, mask: torch.Tensor) -> Score:
    """Explain a class within a region of a segmentation: its logits summed over ``mask`` (Vinogradova et al. 2020).

    Args:
        index: The output's channel, 0 the background.
        mask: ``(batch, superior, posterior, left)``, boolean.
    """
    return lambda logits: (logits[:, index] * mask).sum()


def grad_cam(
    module: torch.nn.Module, images: torch.Tensor, score: Score, *, layer: torch.nn.Module | None = None
) -> torch.Tensor:
    """Give where the features of a layer speak for the answer.

    Args:
        module: On the images' device; its gradients and its mode are left as they were.
        images: ``(batch, 1, superior, posterior, left)``.
        score: What is explained.
        layer: A part of the network with output ``(batch, channel, superior, posterior, left)``; None takes
            :func:`deepest_layer`.

    Returns:
        ``(batch, superior, posterior, left)`` of the images, float32, in [0, 1], 1 where it speaks most; all 0 where
        nothing speaks for it.

    Raises:
        ValueError: the layer has no such output, or the score does not depend on it.

    Source:
        Selvaraju et al., Grad-CAM, ICCV 2017, eq. 1 and 2.
    """
    seen: list[torch.Tensor] = []

    def keep(_module: torch.nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        seen.append(output.detach().requires_grad_())
        # What follows may work in place: not on what is kept.
        return seen[-1].clone()

    with evaluating(module), torch.enable_grad():
        chosen = layer or deepest_layer(module, images)
        handle = chosen.register_forward_hook(keep)
        try:
            answer = module(images)
        finally:
            handle.remove()
        if len(seen) != 1 or seen[0].ndim != images.ndim:
            raise ValueError("Grad-CAM needs a layer that runs once and gives (batch, channel, and three places)")
        (slope,) = torch.autograd.grad(score(answer), seen[0], allow_unused=True)
    if slope is None:
        raise ValueError("the answer does not depend on that layer")
    weights = slope.float().mean(dim=(2, 3, 4), keepdim=True)
    speaks = torch.relu((weights * seen[0].detach().float()).sum(dim=1))
    return scaled(_enlarged(speaks, images))


def attention_rollout(network: ViTClassifier, images: torch.Tensor) -> torch.Tensor:
    """Give how much of each token reaches the class token, followed through all layers.

    Args:
        network: On the images' device; its mode is left as it was.
        images: ``(batch, 1, *window)``.

    Returns:
        As :func:`grad_cam`. It knows no class: where the network looked, not what it found there.

    Source:
        Abnar & Zuidema, Quantifying Attention Flow in Transformers, ACL 2020, section 3.
    """
    layers: list[Any] = [block.get_submodule("attn") for block in network.transformer.blocks]
    with evaluating(network), torch.no_grad(), _saving(layers):
        network(images)
        attention = [layer.att_mat.float().mean(dim=1) for layer in layers]
    flow = torch.eye(attention[0].shape[-1], device=images.device).expand_as(attention[0])
    for of_layer in attention:
        # Half of a token passes by the attention, along the residual connection.
        flow = (of_layer + torch.eye(of_layer.shape[-1], device=images.device)) / 2 @ flow
    places = flow[:, 0, 1:].reshape(len(images), *network.grid)
    return scaled(_enlarged(places, images))


def deepest_layer(module: torch.nn.Module, images: torch.Tensor) -> torch.nn.Module:
    """Find the layer to explain by: a network's own ``explained_layer``, else the last one on the coarsest grid.

    A grid that no longer tells places apart, such as what is left after a last pooling, does not count; where the
    images are so small that all do, the finest is taken.

    Raises:
        ValueError: no layer gives ``(batch, channel, and three places)``.
    """
    own = getattr(module, "explained_layer", None)
    if isinstance(own, torch.nn.Module):
        return own
    found: list[tuple[tuple[int, ...], torch.nn.Module]] = []

    def note(part: torch.nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, torch.Tensor) and output.ndim == images.ndim:
            found.append((tuple(output.shape[2:]), part))

    handles = [part.register_forward_hook(note) for part in module.modules() if part is not module]
    try:
        with evaluating(module), torch.no_grad():
            module(images[:1])
    finally:
        for handle in handles:
            handle.remove()
    if not found:
        raise ValueError("Grad-CAM needs a network with convolutions")
    telling = [grid for grid, _ in found if min(grid) >= _LEAST_PLACES]
    chosen = min(telling, key=math.prod) if telling else max((grid for grid, _ in found), key=math.prod)
    return [part for grid, part in found if grid == chosen][-1]


@contextmanager
def evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Put a network in evaluation mode for a while."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


@contextmanager
def _saving(layers: list[Any]) -> Iterator[None]:
    for layer in layers:
        layer.save_attn = True
    try:
        yield
    finally:
        for layer in layers:
            layer.save_attn, layer.att_mat = False, torch.Tensor()


def _enlarged(places: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    size = tuple(images.shape[2:])
    return torch.nn.functional.interpolate(places[:, None], size=size, mode="trilinear", align_corners=False)[:, 0]


def scaled(heat: torch.Tensor) -> torch.Tensor:
    """Give maps, shape ``(batch, ...)``, none below 0, so that each has its largest value at 1 or is 0 everywhere."""
    most = heat.flatten(1).amax(dim=1).view(-1, 1, 1, 1)
    return torch.where(most > 0, heat / most.clamp_min(torch.finfo(heat.dtype).tiny), torch.zeros_like(heat))
