"""The networks that a job may name: one line each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch

from fedward.models.densenet3d import build_densenet3d
from fedward.models.multitask_densenet3d import build_multitask_densenet3d
from fedward.models.unet3d import build_unet3d
from fedward.models.vit3d import build_vit3d
from fedward.settings.networks import AnyNetwork
from fedward.settings.tasks import AnyTask

#: By the name in the job: what makes the network from its settings and its task's.
BUILDERS: Mapping[str, Callable[[Any, Any], torch.nn.Module]] = MappingProxyType(
    {
        "unet3d": build_unet3d,
        "vit3d": build_vit3d,
        "densenet3d": build_densenet3d,
        "multitask_densenet3d": build_multitask_densenet3d,
    }
)


def build(network: AnyNetwork, *, task: AnyTask) -> torch.nn.Module:
    """Make the network, its weights drawn from PyTorch's generator as it stands.

    Every network takes ``(batch, 1, superior, posterior, left)`` and looks at one patient at a time: no layer mixes
    the batch, nothing but parameters is learned, and every parameter gets a gradient. What it gives is its builder's to
    say.

    Raises:
        ValueError: the network does not do what the task asks.
    """
    if network.task_kind != task.kind:
        raise ValueError(f"network {network.name} does {network.task_kind}, but the task is {task.kind}")
    return BUILDERS[network.name](network, task)
