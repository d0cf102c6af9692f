"""The residual 3D U-Net."""

from __future__ import annotations

from math import gcd

import torch
from monai.networks.nets.unet import UNet

from fedward.settings.networks import UNet3D
from fedward.settings.tasks import Segmentation


def build_unet3d(network: UNet3D, task: Segmentation) -> torch.nn.Module:
    """Make the U-Net.

    Its input is ``(batch, 1, superior, posterior, left)``, each size a multiple of ``network.reduction``; its output
    has one channel for the background and one for each class, as logits.
    """
    outputs = 1 + len(task.classes)
    return UNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=outputs,
        channels=network.channels,
        strides=(2,) * (len(network.channels) - 1),
        num_res_units=network.residual_units,
        norm=_norm(network, outputs),
        dropout=network.dropout,
    )


def _norm(network: UNet3D, outputs: int) -> tuple[str, dict[str, bool | int]]:
    if network.norm == "instance":
        return "INSTANCE", {"affine": True}
    # MONAI normalises every layer with one number of groups, the last one included, so it must divide them all.
    return "GROUP", {"num_groups": gcd(*network.channels, outputs), "affine": True}
