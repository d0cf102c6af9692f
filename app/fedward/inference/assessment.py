"""What a classifier or a multi-task network says of lesions, or of an image as a whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedward.dicom.volume import Volume
from fedward.errors import Stopped
from fedward.evaluation.calibration import with_temperature
from fedward.imaging.centred import Voxel
from fedward.imaging.grid import ModelImage, model_grid
from fedward.inference.findings import Assessment, ClassProbability, Findings
from fedward.inference.lesions import Inference
from fedward.inference.model import LoadedModel
from fedward.models.places import answers_around
from fedward.models.runtime import Runtime
from fedward.models.sliding_window import grid_of
from fedward.settings.tasks import Classification, MultiTask

#: Patches at a time.
_BATCH = 8

#: Decimals of a probability in a report.
_DIGITS = 3


@dataclass(frozen=True, eq=False)
class Answers:
    """What a network says of some places.

    Attributes:
        logits: ``(place, class)``, float64, the classes in the order of ``task.answers``.
        diameter_mm: ``(place,)``; None where the network gives none.
    """

    logits: NDArray[np.float64]
    diameter_mm: NDArray[np.float64] | None


def assess_lesions(model: LoadedModel, found: Inference, answers: Answers) -> Inference:
    """Give what was found with what the model says of each lesion.

    Args:
        model: A classifier or a multi-task model.
        found: The lesions.
        answers: One a lesion, in order.
    """
    lesions = found.findings.lesions
    judged = tuple(
        lesion.model_copy(update={"assessment": assessment})
        for lesion, assessment in zip(lesions, assessments_of(model, answers), strict=True)
    )
    findings = Findings(**{**dict(found.findings), "task": model.task.kind, "lesions": judged})
    return Inference(findings, found.lesion_map)


def assess_image(model: LoadedModel, volume: Volume, answers: Answers) -> Inference:
    """Give what the model says of a series as a whole, from its one answer."""
    shape = model_grid(grid_of(volume), model.input.spacing_mm).shape
    (assessment,) = assessments_of(model, answers)
    findings = Findings(
        study_instance_uid=volume.study_instance_uid,
        series_instance_uid=volume.series_instance_uid,
        task="classification",
        kind="image",
        assessment=assessment,
        only_middle=any(size > window for size, window in zip(shape, model.patch_size, strict=True)),
    )
    nothing = np.zeros(volume.array.shape, dtype=np.uint8)
    nothing.setflags(write=False)
    return Inference(findings, nothing)


def assessments_of(model: LoadedModel, answers: Answers) -> tuple[Assessment, ...]:
    """Give what a model's answers say, calibrated where the hospital has done so."""
    given = answers.diameter_mm
    diameters = [None] * len(answers.logits) if given is None else [float(value) for value in given]
    return tuple(
        assessment_of(model, logits, diameter_mm=diameter)
        for logits, diameter in zip(answers.logits, diameters, strict=True)
    )


def middle_of(image: ModelImage) -> Voxel:
    """Give the voxel around which a classifier of whole images looks, as in training."""
    first, second, third = (size // 2 for size in image.array.shape)
    return first, second, third


def ask_places(
    model: LoadedModel,
    image: ModelImage,
    places: Sequence[Voxel],
    *,
    runtime: Runtime,
    should_stop: Callable[[], bool] = lambda: False,
) -> Answers:
    """Give the network's logits, and diameters, of the patch around each place.

    Raises:
        Stopped: ``aborted``.
    """
    task = assessing(model)

    def check(done: int) -> None:
        if should_stop():
            raise Stopped("aborted", f"inference was asked to end after {done} of {len(places)} lesions")

    found = answers_around(
        model.network, image.array, places, model.patch_size, batch_size=_BATCH, runtime=runtime, check=check
    )
    parts = [_numbers(answer) for answer in found]
    logits = np.concatenate([part[0] for part in parts]) if parts else np.zeros((0, len(task.answers)))
    has_diameters = isinstance(task, MultiTask)
    diameters = np.concatenate([part[1] for part in parts]) if parts and has_diameters else np.zeros(0)
    return Answers(logits, diameters if has_diameters else None)


def assessment_of(model: LoadedModel, logits: NDArray[np.float64], *, diameter_mm: float | None = None) -> Assessment:
    """Turn one place's logits, shape ``(class,)``, into probabilities and a call."""
    task, calibration = assessing(model), model.calibration
    exact = with_temperature(logits[None], calibration.temperature if calibration else 1.0)[0]
    # What a report shows is what it decides by.
    shown = [round(float(value), _DIGITS) for value in exact]
    positive = task.positive_index
    others = [index for index in range(len(shown)) if index != positive]
    chosen = positive if shown[positive] >= task.operating_point else max(others, key=lambda index: shown[index])
    return Assessment(
        probabilities=tuple(
            ClassProbability(class_name=name, probability=value)
            for name, value in zip(task.answers, shown, strict=True)
        ),
        positive=task.positive,
        operating_point=task.operating_point,
        called=task.answers[chosen],
        calibrated_on=calibration.lesions if calibration else None,
        diameter_mm=None if diameter_mm is None else round(diameter_mm, 1),
    )


def assessing(model: LoadedModel) -> Classification | MultiTask:
    """Give the task of a model that judges places.

    Raises:
        ValueError: it only outlines.
    """
    if not isinstance(model.task, Classification | MultiTask):
        raise ValueError(f"{model.facts.name} outlines and judges nothing")
    return model.task


def _numbers(answer: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give ``(place, class)`` logits and ``(place,)`` diameters of a classifier's or a multi-task network's answer."""
    if isinstance(answer, torch.Tensor):
        logits = answer.double().cpu().numpy()
        return logits, np.zeros(len(logits))
    high = answer.malignancy.double()
    # A low logit is 0 against the high one: softmax of both is the sigmoid.
    pair = torch.stack([torch.zeros_like(high), high], dim=1)
    return pair.cpu().numpy(), answer.diameter_mm.double().cpu().numpy()
