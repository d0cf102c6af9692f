"""Where the answer about each finding comes from, on the slice that the report shows of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy import ndimage

from fedward.dicom.volume import Volume
from fedward.inference.around import Around, from_to
from fedward.inference.assessment import assessing
from fedward.inference.attributions import integrated_gradients
from fedward.inference.explanation import Score, attention_rollout, class_score, grad_cam, region_score
from fedward.inference.findings import Findings
from fedward.inference.model import LoadedModel
from fedward.models.runtime import Runtime
from fedward.models.vit3d import ViTClassifier
from fedward.settings.tasks import Classification, Segmentation

Method = Literal["grad_cam", "attention_rollout", "integrated_gradients"]
Share = Annotated[float, Field(ge=0, le=1)]


class Explanation(BaseModel):
    """How one finding's answer was explained.

    Attributes:
        number: The lesion's; null for an image that is judged as a whole.
        method: Grad-CAM, attention roll-out, or integrated gradients.
        on_lesion: The share of the map that lies on the lesion; null for a whole image, and for an empty map.
        by_chance: The share of what the network saw that the lesion fills: an even map's ``on_lesion``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    number: Annotated[int, Field(ge=1)] | None
    method: Method
    on_lesion: Share | None
    by_chance: Share | None


@dataclass(frozen=True, eq=False)
class Heat:
    """A finding's map on one slice of the volume.

    Attributes:
        explanation: What it is.
        slice_number: From 1.
        values: Shape ``(row, column)`` of the slice, float32 in [0, 1], 0 where the network did not look.
    """

    explanation: Explanation
    slice_number: int
    values: NDArray[np.float32]


def explain(
    model: LoadedModel, findings: Findings, around: Around, volume: Volume, *, asked: Method, runtime: Runtime
) -> Heat:
    """Explain one finding from its patch alone.

    Segmentation: why the voxels of the lesion are called so; else: why the lesion or the image is called what it is.

    Args:
        model: The model that answered.
        findings: What it said.
        around: The finding.
        volume: The image.
        asked: A transformer's Grad-CAM is its attention, rolled out.
        runtime: Where it runs.

    Raises:
        SettingsError: ``missing_extra``: captum is asked for and not installed.
    """
    images = runtime.place_batch(torch.from_numpy(around.patch)[None, None])
    score = _score(model, findings, around, images.device)
    method = asked
    if asked == "integrated_gradients":
        found = integrated_gradients(model.network, images, score)
    elif isinstance(model.network, ViTClassifier):
        method, found = "attention_rollout", attention_rollout(model.network, images)
    else:
        found = grad_cam(model.network, images, score)
    heat = found[0].cpu().numpy()
    explanation = Explanation(
        number=around.number,
        method=method,
        on_lesion=round(float(heat[around.mask].sum() / heat.sum()), 3) if around.mask.any() and heat.any() else None,
        by_chance=round(float(around.mask.mean()), 3) if around.mask.any() else None,
    )
    place = _slice_index(findings, around, heat, volume)
    return Heat(explanation, place + 1, _on_slice(heat, around, volume, place))


def _score(model: LoadedModel, findings: Findings, around: Around, device: torch.device) -> Score:
    task = model.task
    if isinstance(task, Segmentation):
        mask = torch.from_numpy(around.mask)[None].to(device)
        return region_score(1 + task.classes.index(around.class_name), mask)
    assessments = {lesion.number: lesion.assessment for lesion in findings.lesions}
    assessment = findings.assessment if around.number is None else assessments[around.number]
    called = assessing(model).answers.index(assessment.called) if assessment else task.positive_index
    if isinstance(task, Classification):
        return class_score(called)
    sign = 1.0 if called == task.positive_index else -1.0

    def malignancy(answer: Any) -> torch.Tensor:
        summed: torch.Tensor = sign * answer.malignancy.sum()
        return summed

    return malignancy


def _slice_index(findings: Findings, around: Around, heat: NDArray[np.float32], volume: Volume) -> int:
    """Choose the slice of the lesion's axes, or the one through a whole image's strongest place."""
    if around.number is not None:
        return findings.lesions[around.number - 1].slice_number - 1
    strongest = np.unravel_index(int(heat.argmax()), heat.shape)
    place = from_to(around.affine, volume.affine) @ [*strongest, 1.0]
    return int(np.clip(round(float(place[0])), 0, volume.array.shape[0] - 1))


def _on_slice(heat: NDArray[np.float32], around: Around, volume: Volume, place: int) -> NDArray[np.float32]:
    _, rows, columns = volume.array.shape
    row, column = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    voxels = np.stack([np.full(row.shape, place), row, column, np.ones(row.shape)]).reshape(4, -1)
    inside = (from_to(volume.affine, around.affine) @ voxels)[:3]
    sampled = ndimage.map_coordinates(heat, inside, order=1, mode="constant", cval=0.0)
    return np.asarray(sampled.reshape(rows, columns).clip(0, 1), dtype=np.float32)
