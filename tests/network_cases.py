"""One small network of each kind, with its task, its patch, and a loss that needs every one of its parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from fedward.models.networks import build
from fedward.models.runtime import Runtime
from fedward.settings.networks import AnyNetwork, DenseNet3D, MultiTaskDenseNet3D, UNet3D, ViT3D
from fedward.settings.tasks import AnyTask, Classification, MultiTask, Segmentation
from fedward.training.classification_loss import classification_loss
from fedward.training.multitask_loss import MultiTaskTruth, multitask_loss
from fedward.training.segmentation_loss import segmentation_loss

SEGMENTATION = Segmentation(kind="segmentation", classes=("one", "two"), measure="dice")
CLASSIFICATION = Classification(
    kind="classification", classes=("benign", "unclear", "malignant"), positive="malignant", class_weights=(1, 2, 4)
)
MULTITASK = MultiTask(kind="multitask", classes=("nodule",), class_weights=(1.0, 3.0))

VIT = ViT3D(name="vit3d", window=(16, 24, 16), token=(8, 8, 8), hidden=24, layers=2, heads=3, mlp=32)
CLASSIFYING_DENSENET = DenseNet3D(name="densenet3d", growth_rate=8, blocks=(2, 3))
DENSENET = MultiTaskDenseNet3D(name="multitask_densenet3d", growth_rate=8)


@dataclass(frozen=True)
class NetworkCase:
    """A network, what it is asked, and the loss of a batch of patients whose truth comes from their numbers."""

    network: AnyNetwork
    task: AnyTask
    patch_size: tuple[int, int, int]
    loss: Callable[[torch.nn.Module, torch.Tensor, list[int]], torch.Tensor]

    def module(self) -> torch.nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            return build(self.network, task=self.task)

    def images(self, patients: list[int]) -> torch.Tensor:
        return torch.stack([_noise(patient, self.patch_size) for patient in patients])

    def patients_loss(self, module: torch.nn.Module, patients: list[int]) -> torch.Tensor:
        return self.loss(module, self.images(patients), patients)


def _noise(patient: int, size: tuple[int, int, int]) -> torch.Tensor:
    return torch.randn(1, *size, generator=torch.Generator().manual_seed(patient))


def _voxels(images: torch.Tensor, classes: int) -> torch.Tensor:
    return (images > 0.8).to(torch.uint8) * (1 + (images > 1.6).to(torch.uint8) * (classes > 1))


def _segmentation(module: torch.nn.Module, images: torch.Tensor, patients: list[int]) -> torch.Tensor:
    return segmentation_loss(module, images, _voxels(images, 2), Runtime())


def _classification(module: torch.nn.Module, images: torch.Tensor, patients: list[int]) -> torch.Tensor:
    labels = torch.tensor([patient % 3 for patient in patients])
    return classification_loss(module(images), labels, weights=CLASSIFICATION.weights)


def _multitask(module: torch.nn.Module, images: torch.Tensor, patients: list[int]) -> torch.Tensor:
    return multitask_loss(module(images), lesions(images, patients), task=MULTITASK)


def lesions(images: torch.Tensor, patients: list[int], **changes: Any) -> MultiTaskTruth:
    """Patients with an odd number are malignant; diameters rise with the number."""
    numbers = torch.tensor(patients, dtype=torch.float32)
    truth = {"voxels": _voxels(images, 1), "malignancy": numbers % 2, "diameter_mm": 4 + 3 * numbers}
    return MultiTaskTruth(**{**truth, **changes})


CASES = {
    "unet3d": NetworkCase(UNet3D(name="unet3d", channels=(8, 16)), SEGMENTATION, (8, 12, 16), _segmentation),
    "vit3d": NetworkCase(VIT, CLASSIFICATION, VIT.window, _classification),
    "densenet3d": NetworkCase(CLASSIFYING_DENSENET, CLASSIFICATION, (16, 16, 24), _classification),
    "multitask_densenet3d": NetworkCase(DENSENET, MULTITASK, (16, 16, 32), _multitask),
}
