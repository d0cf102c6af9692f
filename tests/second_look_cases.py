"""A model that has learned to outline bright balls in CT, scans to ask it about, and second looks at what it finds."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch

from fedward.dicom.volume import Volume
from fedward.imaging.grid import scale_intensity
from fedward.inference.appraisal import Appraisal, appraise
from fedward.inference.lesions import Inference
from fedward.inference.model import LoadedModel
from fedward.inference.predict import infer_volume
from fedward.models.networks import build
from fedward.models.runtime import Runtime
from fedward.randomness import Secret
from fedward.settings.job import Input, Window
from fedward.settings.networks import AnyNetwork, DenseNet3D, UNet3D
from fedward.settings.site import Inference as Asked
from fedward.settings.tasks import AnyTask, Classification, Segmentation
from fedward.training.segmentation_loss import segmentation_loss
from model_cases import facts_of
from small_cases import AXIAL, affine_of, ball, volume_of

BALL = Segmentation(kind="segmentation", classes=("ball",), measure="lesion_dice", minimum_lesion_mm=3.0)
PLACES = Classification(kind="classification", classes=("none", "ball"), positive="ball")
CT = Input(modality="CT", spacing_mm=(2, 2, 2), intensity=Window(kind="window", low=-1000, high=300))
PATCH = (16, 16, 16)
SHAPE, SPACING_MM = (24, 32, 36), (2.0, 2.0, 2.0)


def scan(seed: int, *, balls: int = 2, noise_hu: float = 100.0, contrast_hu: float = 500.0) -> Volume:
    """Noise around -700 HU with balls 14 mm across, apart from each other along the columns."""
    generator, affine = np.random.default_rng(seed), affine_of(AXIAL, SPACING_MM)
    array = generator.normal(-700, noise_hu, SHAPE)
    for number in range(balls):
        centre = np.array([12 + 48 / max(1, balls - 1) * number, *generator.uniform((20, 12), (44, 36))])
        array[ball(SHAPE, affine, centre, 7.0)] += contrast_hu
    return volume_of(array, affine, patient=str(1 + seed))


def model_of(module: torch.nn.Module, task: AnyTask = BALL, **more: Any) -> LoadedModel:
    facts = facts_of("balls", signature_verified=True)
    values = {"facts": facts, "network": module.eval(), "input": CT, "task": task, "patch_size": PATCH, **more}
    return LoadedModel(**values)


def untrained(network: AnyNetwork, task: AnyTask) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return build(network, task=task)


@cache
def trained(*, seed: int = 0) -> torch.nn.Module:
    """Train on patches of scans, each with a ball anywhere in it."""
    affine = affine_of(AXIAL, SPACING_MM)
    generator = np.random.default_rng(1000 + seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = build(UNet3D(name="unet3d", channels=(8, 16, 32), dropout=0.2), task=BALL).train()
        optimiser = torch.optim.AdamW(module.parameters(), lr=1e-2)
        for _ in range(45):
            masks = np.stack([ball(PATCH, affine, generator.uniform(6, 26, 3), 7.0) for _ in range(4)])
            images = scale_intensity((generator.normal(-700, 100, masks.shape) + 500 * masks).astype(np.float32), CT)
            optimiser.zero_grad()
            labels = torch.from_numpy(masks[:, None].astype(np.uint8))
            segmentation_loss(module, torch.from_numpy(images)[:, None], labels, Runtime()).backward()
            optimiser.step()
    return module.eval()


@cache
def trained_classifier() -> torch.nn.Module:
    """Train a DenseNet to tell patches with a ball at their centre from those without one."""
    affine = affine_of(AXIAL, SPACING_MM)
    generator = np.random.default_rng(7)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = DenseNet3D(name="densenet3d", growth_rate=8, blocks=(2, 2), dropout=0.2)
        module = build(network, task=PLACES).train()
        optimiser = torch.optim.AdamW(module.parameters(), lr=3e-3)
        for _ in range(60):
            classes = np.arange(8) % 2
            masks = np.stack([ball(PATCH, affine, generator.uniform(13, 19, 3), 7.0) * one for one in classes])
            images = scale_intensity((generator.normal(-700, 100, masks.shape) + 500 * masks).astype(np.float32), CT)
            optimiser.zero_grad()
            logits = module(torch.from_numpy(images)[:, None])
            torch.nn.functional.cross_entropy(logits, torch.from_numpy(classes)).backward()
            optimiser.step()
    return module.eval()


def look(model: LoadedModel, volume: Volume, *, inference: Inference | None = None, **asked: Any) -> Appraisal:
    """Look again at what the model finds, or at what it has found."""
    others = asked.pop("others", ())
    found = inference or found_in(model, volume)
    return appraise(model, found, volume, asked=Asked(**asked), runtime=Runtime(), others=others)


def found_in(model: LoadedModel, volume: Volume) -> Inference:
    return infer_volume(model, volume, runtime=Runtime(), randomness=Secret())
