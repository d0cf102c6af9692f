"""The whole way from a volume and a model to findings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from fedward.dicom.volume import Volume
from fedward.errors import ReleaseRefused
from fedward.imaging.grid import to_model_grid
from fedward.inference.assessment import assess_image, assess_lesions
from fedward.inference.lesions import Inference, find_lesions
from fedward.inference.model import LoadedModel
from fedward.models.runtime import Runtime
from fedward.models.sliding_window import grid_of, predict_image
from fedward.randomness import Secret
from fedward.settings.tasks import MultiTask, Segmentation


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
    should_stop: Callable[[], bool] = lambda: False,
) -> Inference:
    """Run ``model`` over ``volume`` and measure what it finds, on the volume's own grid.

    Segmentation and multi-task outline what they find. A classification judges each lesion that its detector outlines,
    or, without a detector, the image as a whole.

    Args:
        model: An activated release.
        volume: The image, of the modality that the model was trained on.
        runtime: Device and precision.
        randomness: Draws the tracking UIDs.
        should_stop: Asked between windows.

    Raises:
        ReleaseRefused: ``wrong_modality``, the model was trained on another one; ``no_lesion_source``, the image is
            larger than what a classification without a detector sees.
        Stopped: ``aborted``, when ``should_stop`` says so.
    """
    if volume.modality != model.input.modality:
        raise ReleaseRefused(
            "wrong_modality", f"the model reads {model.input.modality} series, this one is {volume.modality}"
        )
    image = to_model_grid(volume, model.input)
    outliner = model.outliner
    if outliner is None:
        return assess_image(model, volume, image, runtime=runtime, should_stop=should_stop)
    seen = image if outliner is model else to_model_grid(volume, outliner.input)
    prediction = predict_image(
        voxel_network(outliner), seen, grid_of(volume), outliner.patch_size, runtime=runtime, should_stop=should_stop
    )
    outline = outliner.task.outline
    if outline is None:
        raise ValueError(f"{outliner.facts.name} outlines nothing")
    labels = (prediction.labels > 0).astype("uint8") if isinstance(outliner.task, MultiTask) else prediction.labels
    found = find_lesions(labels, prediction.probability, volume, task=outline, randomness=randomness)
    if isinstance(model.task, Segmentation):
        return found
    return assess_lesions(model, found, image, affine=volume.affine, runtime=runtime, should_stop=should_stop)


def voxel_network(model: LoadedModel) -> torch.nn.Module:
    """Give a network that labels voxels, whatever else the model's own answers."""
    return VoxelAnswers(model.network) if isinstance(model.task, MultiTask) else model.network
