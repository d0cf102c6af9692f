"""The multi-task DenseNet-121: a lesion's voxels, whether it is malignant, and its diameter, from one encoder."""

from __future__ import annotations

from math import gcd
from typing import NamedTuple

import torch
from monai.networks.nets.densenet import DenseNet121

from fedward.models.attention import ChannelAttention, PositionAttention
from fedward.settings.networks import MultiTaskDenseNet3D
from fedward.settings.tasks import MultiTask

#: The most groups of a group norm.
_GROUPS = 8

#: A lesion's extent is read in eighths of the patch, where it is of the size of the pooled features beside it.
_EIGHTHS = 8

#: Added to a lesion's share of the patch, so that a few voxels more or less of almost nothing hardly count.
_LEAST_SHARE = 1e-4


class MultiTaskAnswer(NamedTuple):
    """What the network says of a batch.

    Attributes:
        segmentation: Logits ``(batch, 1 + class, superior, posterior, left)``, the background first.
        malignancy: Logits ``(batch,)`` of the lesion being positive.
        diameter_mm: ``(batch,)``, above 0.
        log_variances: ``(3,)``, the learned log variances of the three in this order; the same for every patient.
    """

    segmentation: torch.Tensor
    malignancy: torch.Tensor
    diameter_mm: torch.Tensor
    log_variances: torch.Tensor


class MultiTaskDenseNet(torch.nn.Module):
    """DenseNet-121 (Huang et al., CVPR 2017) in three dimensions, without its first pooling, with a U-Net's decoder.

    Input ``(batch, 1, superior, posterior, left)``, each size a multiple of 16. Without the pooling, the first dense
    block works at half the patch's resolution, where a nodule of a few millimetres still has voxels. All norms are
    group norms: they look at one patient at a time. The two answers about the lesion read, beside the deepest features,
    how far the network outlines it: its size would be slow to learn from those features alone. The log variances that
    weigh the three losses (Kendall et al., CVPR 2018) are parameters here, so that they travel with the weights.
    """

    def __init__(self, network: MultiTaskDenseNet3D, task: MultiTask) -> None:
        super().__init__()
        rate = network.growth_rate
        fine = rate // 2
        features = DenseNet121(
            spatial_dims=3,
            in_channels=fine,
            out_channels=1,
            init_features=2 * rate,
            growth_rate=rate,
            norm=("GROUP", {"num_groups": _GROUPS, "affine": True}),
            dropout_prob=network.dropout,
        ).features
        self.fine = _convolution(1, fine)
        self.halve = _convolution(fine, 2 * rate, stride=2)
        self.blocks = torch.nn.ModuleList(features.get_submodule(f"denseblock{k}") for k in (1, 2, 3, 4))
        self.transitions = torch.nn.ModuleList(features.get_submodule(f"transition{k}") for k in (1, 2, 3))
        self.deepest = torch.nn.Sequential(
            features.get_submodule("norm5"), torch.nn.ReLU(), ChannelAttention(32 * rate), PositionAttention(32 * rate)
        )
        # From the deepest level up: channels that come from below, of the skip, and that go on.
        levels = ((32 * rate, 32 * rate, 8 * rate), (8 * rate, 16 * rate, 4 * rate), (4 * rate, 8 * rate, 2 * rate))
        self.decoder = torch.nn.ModuleList(_Up(*channels) for channels in (*levels, (2 * rate, fine, fine)))
        self.voxels = torch.nn.Conv3d(fine, 1 + len(task.classes), 1)
        self.dropout = torch.nn.Dropout(network.dropout)
        self.malignancy = torch.nn.Linear(64 * rate + len(task.classes), 1)
        self.diameter = torch.nn.Linear(64 * rate + len(task.classes), 1)
        self.log_variances = torch.nn.Parameter(torch.zeros(3))
        self.typical_diameter_mm = task.typical_diameter_mm

    @property
    def explained_layer(self) -> torch.nn.Module:
        """The layer by which an answer is explained: the last dense block that still tells places apart."""
        return self.blocks[2]

    def forward(self, images: torch.Tensor) -> MultiTaskAnswer:
        """Give all answers."""
        fine = self.fine(images)
        skips, features = [fine], self.halve(fine)
        for block, transition in zip(self.blocks, self.transitions, strict=False):
            features = block(features)
            skips.append(features)
            features = transition(features)
        deep = self.deepest(self.blocks[3](features))
        upwards = deep
        for up, skip in zip(self.decoder, reversed(skips), strict=True):
            upwards = up(upwards, skip)
        voxels = self.voxels(upwards)
        # A small lesion fills few places: its maximum tells what its mean drowns.
        pooled = self.dropout(torch.cat([deep.mean(dim=(2, 3, 4)), deep.amax(dim=(2, 3, 4))], dim=1))
        lesion = torch.cat([pooled, _extent(voxels.detach())], dim=1)
        diameter = torch.nn.functional.softplus(self.diameter(lesion)[:, 0].float()) * self.typical_diameter_mm
        return MultiTaskAnswer(voxels, self.malignancy(lesion)[:, 0], diameter, self.log_variances)


def _extent(voxels: torch.Tensor) -> torch.Tensor:
    """Give the extent of each class ``(batch, class)``: the cube root of its share of the patch, in eighths."""
    share = torch.softmax(voxels.float(), dim=1)[:, 1:].mean(dim=(2, 3, 4))
    return (_EIGHTHS * (share + _LEAST_SHARE) ** (1 / 3)).to(voxels.dtype)


class _Up(torch.nn.Module):
    """One step of the decoder: twice the resolution, joined with the encoder's features there."""

    def __init__(self, below: int, skip: int, channels: int) -> None:
        super().__init__()
        self.enlarge = torch.nn.ConvTranspose3d(below, channels, 2, stride=2, bias=False)
        self.narrow = _convolution(skip, channels, size=1)
        self.join = _convolution(2 * channels, channels)

    def forward(self, below: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        joined: torch.Tensor = self.join(torch.cat([self.enlarge(below), self.narrow(skip)], dim=1))
        return joined


def _convolution(ins: int, outs: int, *, size: int = 3, stride: int = 1) -> torch.nn.Sequential:
    return torch.nn.Sequential(
        torch.nn.Conv3d(ins, outs, size, stride=stride, padding=size // 2, bias=False),
        torch.nn.GroupNorm(gcd(outs, _GROUPS), outs),
        torch.nn.ReLU(),
    )


def build_multitask_densenet3d(network: MultiTaskDenseNet3D, task: MultiTask) -> torch.nn.Module:
    """Make the network with the task's classes and scale of diameters."""
    return MultiTaskDenseNet(network, task)
