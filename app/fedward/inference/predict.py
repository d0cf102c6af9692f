"""The whole way from a volume and a model to findings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from fedward.dicom.volume import Volume
from fedward.errors import ReleaseRefused
from fedward.imaging.grid import ModelImage, to_model_grid, voxel_at
from fedward.inference.assessment import Answers, ask_places, assess_image, assess_lesions, middle_of
from fedward.inference.lesions import Inference, find_lesions, lesion_cores
from fedward.inference.model import LoadedModel
from fedward.models.runtime import Runtime
from fedward.models.sliding_window import grid_of, predict_image
from fedward.randomness import Secret
from fedward.settings.tasks import MultiTask, Segmentation, is_of_images


class VoxelAnswers(torch.nn.Module):
    """A multi-task network that gives its answer for voxels alone."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Give the logits, background first."""
        answer: Any = self.network(images)
        logits: torch.Tensor = answer.segmentation
        return logits


def infer_volume(
    model: LoadedModel,
    volume: Volume,
    *,
    runtime: Runtime,
    randomness: Secret,
    image: ModelImage | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Inference:
    """Run ``model`` over ``volume`` and measure what it finds, on the volume's own grid.

    Segmentation and multi-task outline what they find. A classification of places judges each lesion that its detector
    outlines, one of whole images the image.

    Args:
        model: An activated release.
        volume: The image, of the modality that the model was trained on.
        runtime: Device and precision.
        randomness: Draws the tracking UIDs.
        image: ``volume`` on the model's grid, where somebody has brought it there already.
        should_stop: Asked between windows.

    Raises:
        ReleaseRefused: ``wrong_modality``, the model was trained on another one.
        ValueError: a classification of places without a detector.
        Stopped: ``aborted``, when ``should_stop`` says so.
    """
    if volume.modality != model.input.modality:
        raise ReleaseRefused(
            "wrong_modality", f"the model reads {model.input.modality} series, this one is {volume.modality}"
        )
    if isinstance(model.task, Segmentation):
        return _outlined(model, volume, image, runtime=runtime, randomness=randomness, should_stop=should_stop)
    found, answers = ask_volume(
        model, volume, runtime=runtime, randomness=randomness, image=image, should_stop=should_stop
    )
    return assess_lesions(model, found, answers) if found else assess_image(model, volume, answers)


def ask_volume(
    model: LoadedModel,
    volume: Volume,
    *,
    runtime: Runtime,
    randomness: Secret,
    image: ModelImage | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[Inference | None, Answers]:
    """Give the lesions that a classifier or a multi-task model is to judge, and its bare answers on each in order.

    Arguments and errors as in :func:`infer_volume`. A classifier of whole images gives None, and its one answer.
    """
    image = image or to_model_grid(volume, model.input)
    if is_of_images(model.task):
        return None, ask_places(model, image, [middle_of(image)], runtime=runtime, should_stop=should_stop)
    if model.outliner is None:
        raise ValueError(f"{model.facts.name} judges lesions and has no detector")
    seen = image if model.outliner is model else None
    found = _outlined(model.outliner, volume, seen, runtime=runtime, randomness=randomness, should_stop=should_stop)
    places = [voxel_at(core, image) for core in lesion_cores(found.lesion_map, volume.affine)]
    return found, ask_places(model, image, places, runtime=runtime, should_stop=should_stop)


def _outlined(
    model: LoadedModel,
    volume: Volume,
    image: ModelImage | None,
    *,
    runtime: Runtime,
    randomness: Secret,
    should_stop: Callable[[], bool],
) -> Inference:
    """Slide a network over a volume and measure what it marks; ``image`` is the volume on its grid if that is known."""
    outline = model.task.outline
    if outline is None:
        raise ValueError(f"{model.facts.name} outlines nothing")
    image = image or to_model_grid(volume, model.input)
    prediction = predict_image(
        voxel_network(model), image, grid_of(volume), model.patch_size, runtime=runtime, should_stop=should_stop
    )
    # A lesion of a multi-task model may have voxels of several grades: it is one lesion.
    labels = np.minimum(prediction.labels, len(outline.classes)).astype(np.uint8)
    return find_lesions(labels, prediction.probability, volume, task=outline, randomness=randomness)


def voxel_network(model: LoadedModel) -> torch.nn.Module:
    """Give a network that labels voxels, whatever else the model's own answers."""
    return VoxelAnswers(model.network) if isinstance(model.task, MultiTask) else model.network
