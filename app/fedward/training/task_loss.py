"""What a batch costs, by what the job's network is asked for."""

from __future__ import annotations

from collections.abc import Callable

import torch

from fedward.models.runtime import Runtime
from fedward.settings.tasks import AnyTask, Classification, MultiTask
from fedward.training.batches import Placed
from fedward.training.classification_loss import classification_loss
from fedward.training.multitask_loss import MultiTaskTruth, multitask_loss
from fedward.training.segmentation_loss import segmentation_loss

#: The mean loss of a batch: of the network, the batch as the task's batches are, and the runtime. No patch changes
#: another one's share.
Loss = Callable[[torch.nn.Module, Placed, Runtime], torch.Tensor]


def loss_of(task: AnyTask) -> Loss:
    """Give the loss of a task."""
    if isinstance(task, Classification):
        return _classification(task)
    if isinstance(task, MultiTask):
        return _multitask(task)
    return _segmentation


def _segmentation(module: torch.nn.Module, batch: Placed, runtime: Runtime) -> torch.Tensor:
    images, labels = batch
    return segmentation_loss(module, images, labels, runtime)


def _classification(task: Classification) -> Loss:
    def loss(module: torch.nn.Module, batch: Placed, runtime: Runtime) -> torch.Tensor:
        images, labels = batch
        with runtime.autocast():
            logits = module(images)
        return classification_loss(logits, labels, weights=task.weights)

    return loss


def _multitask(task: MultiTask) -> Loss:
    def loss(module: torch.nn.Module, batch: Placed, runtime: Runtime) -> torch.Tensor:
        images, labels, facts = batch
        with runtime.autocast():
            answer = module(images)
        return multitask_loss(answer, MultiTaskTruth(labels, facts[:, 0], facts[:, 1]), task=task)

    return loss
