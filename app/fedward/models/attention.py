"""Which channels and which places matter: attention within one patient's features."""

from __future__ import annotations

import torch

#: How many times fewer numbers the attention computes with than the features have channels.
_BOTTLENECK = 8

#: The position branch starts as a small correction. From 0, as published, its layers would see no gradient at first.
_FIRST_SCALE = 0.1


class ChannelAttention(torch.nn.Module):
    """Weigh each channel by what the whole patch holds: squeeze and excitation (Hu et al., CVPR 2018).

    Input and output ``(batch, channel, superior, posterior, left)``.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = torch.nn.Linear(channels, channels // _BOTTLENECK)
        self.excite = torch.nn.Linear(channels // _BOTTLENECK, channels)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Give the weighed features."""
        middle = torch.relu(self.squeeze(features.mean(dim=(2, 3, 4))))
        gate = torch.sigmoid(self.excite(middle))
        return features * gate[:, :, None, None, None]


class PositionAttention(torch.nn.Module):
    """Let each place hear the others that look like it: the position branch of Fu et al. (CVPR 2019), eq. 1 and 2.

    Input and output ``(batch, channel, superior, posterior, left)``; memory grows with the square of the places.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // _BOTTLENECK
        # No biases: one on the keys shifts all of a query's energies alike, which the softmax cannot see.
        self.query = torch.nn.Conv3d(channels, inner, 1, bias=False)
        self.key = torch.nn.Conv3d(channels, inner, 1, bias=False)
        self.value = torch.nn.Conv3d(channels, channels, 1, bias=False)
        self.scale = torch.nn.Parameter(torch.tensor([_FIRST_SCALE]))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Give the features with what each place heard."""
        query, key, value = (part(features).flatten(2).mT for part in (self.query, self.key, self.value))
        heard = torch.nn.functional.scaled_dot_product_attention(query, key, value)
        return features + self.scale * heard.mT.reshape(features.shape)
