"""What networks that look at one place at a time are worth on a scan: around its lesions, and elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedward.errors import Stopped
from fedward.evaluation.summary import CaseScore
from fedward.imaging.cases import Case
from fedward.imaging.centred import Voxel, cut_around, lesion_centres, lesion_is_positive, places_elsewhere
from fedward.imaging.patches import TrainingCase
from fedward.models.places import answers_around
from fedward.models.runtime import Runtime
from fedward.randomness import Seeded
from fedward.settings.job import TrainingJob
from fedward.settings.tasks import Classification, MultiTask

#: Places without a lesion that a scan's lesions are held against.
_PLACES = 32

#: The places are the same for every job, model and round.
_SEED = 0


def score_places(
    module: torch.nn.Module,
    case: Case,
    job: TrainingJob,
    *,
    task: Classification,
    runtime: Runtime,
    should_stop: Callable[[], bool] = lambda: False,
) -> CaseScore:
    """Score one scan: for each lesion the share of the places elsewhere that get a lower probability.

    The mean over a scan's lesions is its AUC (see :func:`lesion_values`). A scan without a lesion, or without room
    beside its lesions, has no value.

    Args:
        module: The network on its device, in evaluation mode.
        case: Labelled and prepared.
        job: Patch and batch size.
        task: Which class is the lesions'.
        runtime: How the network runs here.
        should_stop: Asked between batches.

    Raises:
        Stopped: ``aborted``.
    """
    prepared = case.cache.training_case(case.key, mapped=True)
    lesions = lesion_centres(prepared)
    elsewhere = compared_places(case, prepared, job)
    if not lesions or not elsewhere:
        return CaseScore(case.patient_key, ())
    answers = answers_at(module, prepared, (*lesions, *elsewhere), job, runtime=runtime, should_stop=should_stop)
    probabilities = positive_probabilities(answers, task)
    return CaseScore(case.patient_key, lesion_values(probabilities[: len(lesions)], probabilities[len(lesions) :]))


def compared_places(case: Case, prepared: TrainingCase, job: TrainingJob) -> tuple[Voxel, ...]:
    """Give the places without a lesion that a scan's lesions are held against, the same ones for every model."""
    generator = Seeded(_SEED).generator("elsewhere", case.series_instance_uid)
    return places_elsewhere(prepared, job.training.patch_size, count=_PLACES, generator=generator)


def lesion_values(lesions: NDArray[np.float64], elsewhere: NDArray[np.float64]) -> tuple[float, ...]:
    """Give each lesion's share of the places elsewhere with a lower probability, a tie counting half.

    Their mean is the Mann-Whitney statistic of both groups, the area under the ROC curve.
    """
    below = (elsewhere[None] < lesions[:, None]).mean(axis=1)
    ties = (elsewhere[None] == lesions[:, None]).mean(axis=1)
    return tuple(float(value) for value in below + ties / 2)


def positive_probabilities(answers: Iterable[Any], task: Classification) -> NDArray[np.float64]:
    """Give the positive class's probability at each place."""
    found = [torch.softmax(logits.double(), dim=1)[:, task.positive_index].cpu().numpy() for logits in answers]
    return np.concatenate(found)


def score_lesions_of(
    module: torch.nn.Module,
    case: Case,
    job: TrainingJob,
    *,
    task: MultiTask,
    runtime: Runtime,
    should_stop: Callable[[], bool] = lambda: False,
) -> CaseScore:
    """Score one scan: for each lesion the mean of its patch's Dice and of whether it is called positive rightly.

    For Dice all classes are one. Arguments and errors as in :func:`score_places`. A scan without a lesion has no value.
    """
    prepared = case.cache.training_case(case.key, mapped=True)
    centres, size = lesion_centres(prepared), job.training.patch_size
    values: list[float] = []
    for answer in answers_at(module, prepared, centres, job, runtime=runtime, should_stop=should_stop):
        marked = (answer.segmentation.argmax(dim=1) > 0).cpu().numpy()
        called = torch.sigmoid(answer.malignancy.double()).cpu().numpy() >= task.operating_point
        for mask, is_called in zip(marked, called, strict=True):
            lesion = len(values)
            truth = cut_around(prepared.label, centres[lesion], size) > 0
            dice = 2 * (mask & truth).sum() / (mask.sum() + truth.sum())
            values.append(float(dice + (is_called == lesion_is_positive(prepared, lesion, task))) / 2)
    return CaseScore(case.patient_key, tuple(values))


def answers_at(
    module: torch.nn.Module,
    case: TrainingCase,
    places: Sequence[Voxel],
    job: TrainingJob,
    *,
    runtime: Runtime,
    should_stop: Callable[[], bool],
) -> Iterator[Any]:
    """Give what the network says of the patches around ``places``, a batch at a time."""

    def check(done: int) -> None:
        if should_stop():
            raise Stopped("aborted", f"validation was asked to end after {done} of {len(places)} places")

    training = job.training
    return answers_around(
        module, case.image, places, training.patch_size, batch_size=training.batch_size, runtime=runtime, check=check
    )
