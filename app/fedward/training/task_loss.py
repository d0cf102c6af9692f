"""What a batch costs, by what the job's network is asked for."""

from __future__ import annotations

from collections.abc import Callable

import torch

from fedward.models.runtime import Runtime
from fedward.settings.job import TrainedTask
from fedward.settings.tasks import Classification
from fedward.training.classification_loss import classification_loss
from fedward.training.segmentation_loss import segmentation_loss

#: The mean loss of a batch: of the network, its images, their labels as the task's batches hold them, and the runtime.
#: No patch changes another one's share.
Loss = Callable[[torch.nn.Module, torch.Tensor, torch.Tensor, Runtime], torch.Tensor]


def loss_of(task: TrainedTask) -> Loss:
    """Give the loss of a task."""
    return _classification(task) if isinstance(task, Classification) else segmentation_loss


def _classification(task: Classification) -> Loss:
    def loss(module: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, runtime: Runtime) -> torch.Tensor:
        with runtime.autocast():
            logits = module(images)
        return classification_loss(logits, labels, weights=task.weights)

    return loss
