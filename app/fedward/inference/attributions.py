"""Which voxels an answer rests on, by captum (the optional extra ``explain``)."""

from __future__ import annotations

from types import ModuleType

import torch

from fedward.errors import SettingsError
from fedward.inference.explanation import Score, evaluating, scaled

#: Points on the way from the empty image, and how many go through the network at a time.
_STEPS, _AT_A_TIME = 32, 2


def require_captum() -> ModuleType:
    """Give captum's module.

    Raises:
        SettingsError: ``missing_extra``: it is not installed.
    """
    try:
        import captum.attr
    except ImportError as error:
        raise SettingsError(
            "missing_extra", "explanation integrated_gradients needs captum: pip install 'fedward[explain]'"
        ) from error
    return captum.attr  # type: ignore[no-any-return]


def integrated_gradients(module: torch.nn.Module, images: torch.Tensor, score: Score) -> torch.Tensor:
    """Give which voxels lift the answer above that to an image of zeros.

    Args:
        module: On the images' device; its gradients and its mode are left as they were.
        images: ``(1, 1, superior, posterior, left)``.
        score: What is explained.

    Returns:
        As :func:`fedward.inference.explanation.grad_cam`, voxel by voxel.

    Raises:
        SettingsError: ``missing_extra``.

    Source:
        Sundararajan, Taly and Yan, Axiomatic Attribution for Deep Networks, ICML 2017, eq. 1 and 3.
    """
    method = require_captum().IntegratedGradients(lambda batch: score(module(batch)).reshape(1))
    with evaluating(module), torch.enable_grad():
        parts = method.attribute(images, n_steps=_STEPS, internal_batch_size=_AT_A_TIME)
    return scaled(torch.relu(parts.detach().float()[:, 0]))
