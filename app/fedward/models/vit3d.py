"""The 3D vision transformer that classifies a window."""

from __future__ import annotations

import torch
from monai.networks.nets.vit import ViT

from fedward.settings.networks import ViT3D
from fedward.settings.tasks import Classification


class ViTClassifier(torch.nn.Module):
    """A transformer over the tokens of a window (Dosovitskiy et al., ICLR 2021); the class token gives the answer.

    Input ``(batch, 1, *window)``, output ``(batch, class)`` as logits. Layer norm looks at one token at a time.

    Attributes:
        grid: Tokens along each axis; the class token comes before them.
    """

    def __init__(self, network: ViT3D, *, classes: int) -> None:
        super().__init__()
        self.grid = network.grid
        self.transformer = ViT(
            in_channels=1,
            img_size=network.window,
            patch_size=network.token,
            hidden_size=network.hidden,
            mlp_dim=network.mlp,
            num_layers=network.layers,
            num_heads=network.heads,
            dropout_rate=network.dropout,
            classification=True,
            num_classes=classes,
            post_activation="none",
        )
        for block in self.transformer.blocks:
            # MONAI registers this norm though nothing passes it: numbers that no gradient ever reaches.
            block.norm_cross_attn = torch.nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Give the logits."""
        logits: torch.Tensor = self.transformer(images)[0]
        return logits


def build_vit3d(network: ViT3D, task: Classification) -> torch.nn.Module:
    """Make the transformer with one answer a class."""
    return ViTClassifier(network, classes=len(task.classes))
