"""A small U-Net that has learned to mark a bright ball, and images to ask it about."""

from __future__ import annotations

from functools import cache

import torch

from fedward.models.networks import build
from fedward.models.runtime import Runtime
from fedward.settings.networks import UNet3D
from fedward.settings.tasks import Segmentation
from fedward.training.segmentation_loss import segmentation_loss

BALL = Segmentation(kind="segmentation", classes=("ball",), measure="dice")
SIZE = 16


def balls(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and masks ``(count, 1, 16, 16, 16)``: noise with a ball of radius 3 anywhere."""
    generator = torch.Generator().manual_seed(seed)
    axis = torch.arange(SIZE).float()
    grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"))
    centres = torch.rand(count, 3, generator=generator) * 8 + 4
    masks = (grid - centres[:, :, None, None, None]).square().sum(dim=1, keepdim=True) <= 9
    return torch.randn(count, 1, SIZE, SIZE, SIZE, generator=generator) * 0.3 + masks, masks


@cache
def trained() -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build(UNet3D(name="unet3d", channels=(8, 16, 32), dropout=0.1), task=BALL).train()
        optimiser = torch.optim.AdamW(module.parameters(), lr=1e-2)
        for step in range(40):
            images, masks = balls(4, seed=step)
            optimiser.zero_grad()
            segmentation_loss(module, images, masks.to(torch.uint8), Runtime()).backward()
            optimiser.step()
    return module.eval()
