"""The 3D DenseNet that classifies a patch."""

from __future__ import annotations

from collections.abc import Iterator
from math import gcd

import torch
from monai.networks.nets.densenet import DenseNet

from fedward.settings.networks import DenseNet3D
from fedward.settings.tasks import Classification

#: The most groups of a group norm.
_GROUPS = 8


def build_densenet3d(network: DenseNet3D, task: Classification) -> torch.nn.Module:
    """Make MONAI's DenseNet (Huang et al., CVPR 2017) with one answer a class and group norms.

    Input ``(batch, 1, superior, posterior, left)``, output ``(batch, class)`` as logits. A group norm looks at one
    patient at a time, as the batch norm of the paper does not.
    """
    return DenseNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=len(task.classes),
        init_features=2 * network.growth_rate,
        growth_rate=network.growth_rate,
        block_config=network.blocks,
        norm=("GROUP", {"num_groups": gcd(_GROUPS, *_channels(network)), "affine": True}),
        dropout_prob=network.dropout,
    )


def _channels(network: DenseNet3D) -> Iterator[int]:
    """Give the channels that its norms see between the dense layers, whose steps the growth rate's multiples are."""
    channels = 2 * network.growth_rate
    yield network.growth_rate
    for layers in network.blocks:
        yield channels
        channels += layers * network.growth_rate
        yield channels
        channels //= 2
