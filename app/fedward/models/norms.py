"""Which of a network's numbers belong to its norms: FedBN keeps those at the site."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from fedward.errors import ModelError
from fedward.models.weights import layout_of

_NORMS = (
    torch.nn.GroupNorm,
    torch.nn.LayerNorm,
    torch.nn.InstanceNorm1d,
    torch.nn.InstanceNorm2d,
    torch.nn.InstanceNorm3d,
)


def norm_mask(module: torch.nn.Module) -> NDArray[np.bool_]:
    """Give which of the flat weights are a norm's scale or shift, shape ``(layout.size,)``."""
    prefixes = tuple(f"{name}." for name, part in module.named_modules() if isinstance(part, _NORMS))
    layout = layout_of(module)
    mask = np.zeros(layout.size, np.bool_)
    for name, _, place in layout.parts():
        mask[place] = name.startswith(prefixes) if prefixes else False
    return mask


def keeping_own(shared: NDArray[np.float32], own: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Give the shared model with the site's own norms in it.

    Args:
        shared: Flat weights.
        own: The norms' parameters alone, shape ``(mask.sum(),)``.
        mask: Of :func:`norm_mask`.

    Raises:
        ModelError: ``wrong_layout``: they are another network's norms.
    """
    if own.shape != (int(mask.sum()),) or own.dtype != np.float32:
        raise ModelError("wrong_layout", f"expected {mask.sum()} float32 of norms, found {own.dtype} {own.shape}")
    weights = shared.copy()
    weights[mask] = own
    return weights


def without_own(update: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Give the update with zeros where ``mask`` says that the numbers stay at the site."""
    return np.where(mask, np.float32(0), update)
