"""What a model does on each held-out scan, as plain numbers from which every metric is made."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedward.dicom.facts import GroupFacts
from fedward.evaluation.centred import answers_at, compared_places, positive_probabilities
from fedward.evaluation.froc import ScanCandidates, scan_candidates
from fedward.evaluation.images import image_probabilities
from fedward.evaluation.lesions import score_lesions_by_class
from fedward.evaluation.overlap import dice_per_class, iou_per_class
from fedward.evaluation.regions import found_labels
from fedward.evaluation.sheet import BINS
from fedward.evaluation.surfaces import hausdorff_95_mm
from fedward.imaging.cases import Case
from fedward.imaging.centred import (
    Voxel,
    cut_around,
    lesion_centres,
    lesion_diameter_mm,
    lesion_is_positive,
)
from fedward.imaging.patches import TrainingCase
from fedward.models.runtime import Runtime, evaluation_network
from fedward.models.sliding_window import predict_image
from fedward.settings.job import Segmentation, TrainingJob
from fedward.settings.tasks import Classification, MultiTask, is_of_images

#: From this probability on a voxel may belong to a mark, and counts in the calibration.
LOWEST_PROBABILITY = 0.05

_NOTHING: NDArray[np.float64] = np.zeros(BINS)


@dataclass(frozen=True, eq=False)
class ScanFacts:
    """One scan under one model; what was not asked, or has no answer, is empty.

    Attributes:
        patient: The patient's key; it stays at the site.
        seconds: The network's time.
        groups: Which subgroups the scan belongs to.
        dice: One value a lesion; of a structure one a class that is there.
        iou: One value a class that is there.
        hd95_mm: Likewise, where both outlines are.
        lesions: How many true lesions count, None where lesions are not asked.
        lesions_found: How many of them a mark touches at the release's operating point.
        false_positives: Marks where no lesion is, at that point.
        candidates: All marks at a low threshold, for the FROC curve.
        true_voxels: Of the voxels that count, how many lie in each bin of probability and in the truth.
        false_voxels: Likewise, and outside of it.
        scores: The positive class's probability at each place or lesion, or of the whole image.
        positive: Which of them are positive.
        diameter_errors_mm: One a lesion, without its sign.
    """

    patient: str
    seconds: float
    groups: GroupFacts = field(default_factory=GroupFacts)
    dice: tuple[float, ...] = ()
    iou: tuple[float, ...] = ()
    hd95_mm: tuple[float, ...] = ()
    lesions: int | None = None
    lesions_found: int = 0
    false_positives: int = 0
    candidates: ScanCandidates | None = None
    true_voxels: NDArray[np.float64] = field(default_factory=_NOTHING.copy)
    false_voxels: NDArray[np.float64] = field(default_factory=_NOTHING.copy)
    scores: tuple[float, ...] = ()
    positive: tuple[bool, ...] = ()
    diameter_errors_mm: tuple[float, ...] = ()


def measure_cases(
    weights: NDArray[np.float32],
    cases: Sequence[Case],
    job: TrainingJob,
    *,
    groups: Callable[[str], GroupFacts],
    runtime: Runtime,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[ScanFacts, ...]:
    """Look at every case with one model.

    Args:
        weights: Flat float32 of the job's network.
        cases: Labelled and prepared.
        job: Network, task and window.
        groups: Gives a series' subgroups by its UID.
        runtime: How the network runs here.
        should_stop: Asked between windows.

    Raises:
        ModelError: the weights are another network's.
        Stopped: ``aborted``.
    """
    module = evaluation_network(job.network, weights, task=job.task, runtime=runtime)
    look = _Look(module, job, runtime, should_stop)
    return tuple(_measure(look, case, groups(case.series_instance_uid)) for case in cases)


def is_hollow(scans: Sequence[ScanFacts]) -> bool:
    """Whether a model gave something that is no number: weights may be finite and still too large."""
    found = [value for scan in scans for value in (*scan.dice, *scan.iou, *scan.scores, *scan.diameter_errors_mm)]
    return not np.isfinite(found).all()


@dataclass(frozen=True, eq=False)
class _Look:
    """One model at work, as it looks at every case."""

    module: torch.nn.Module
    job: TrainingJob
    runtime: Runtime
    should_stop: Callable[[], bool]

    def answers(self, case: TrainingCase, places: Sequence[Voxel]) -> Iterator[Any]:
        """Give the network's answers around these places."""
        return answers_at(self.module, case, places, self.job, runtime=self.runtime, should_stop=self.should_stop)


def _measure(look: _Look, case: Case, groups: GroupFacts) -> ScanFacts:
    task = look.job.task
    if isinstance(task, Classification):
        return _image(look, case, groups, task) if is_of_images(task) else _places(look, case, groups, task)
    if isinstance(task, MultiTask):
        return _lesions(look, case, groups, task)
    started_s = time.perf_counter()
    prediction = predict_image(
        look.module,
        case.image(),
        case.source,
        look.job.training.patch_size,
        runtime=look.runtime,
        should_stop=look.should_stop,
    )
    seconds = time.perf_counter() - started_s
    return segmented(
        prediction.labels,
        prediction.probability,
        case.truth(),
        affine=case.affine,
        task=task,
        about=ScanFacts(case.patient_key, seconds, groups),
    )


def segmented(
    predicted: NDArray[np.uint8],
    probability: NDArray[np.floating],
    truth: NDArray[np.uint8],
    *,
    affine: NDArray[np.float64],
    task: Segmentation,
    about: ScanFacts,
) -> ScanFacts:
    """Give the facts of one segmented scan; ``about`` names patient, time and groups.

    Raises:
        ValueError: the shapes differ.
    """
    found, classes = predicted, len(task.classes)
    if task.measure == "lesion_dice":
        found = found_labels(predicted, probability, affine=affine, task=task)
        about = _detected(found, probability, truth, affine=affine, task=task, about=about)
    else:
        about = replace(about, dice=_known(dice_per_class(predicted, truth, classes=classes)))
    steps = [float(np.linalg.norm(affine[:3, axis])) for axis in range(3)]
    distances = [
        hausdorff_95_mm(found == k, truth == k, spacing_mm=(steps[0], steps[1], steps[2]))
        for k in range(1, classes + 1)
    ]
    true_voxels, false_voxels = voxel_counts(probability, truth > 0)
    return replace(
        about,
        iou=_known(iou_per_class(found, truth, classes=classes)),
        hd95_mm=_known(distances),
        true_voxels=true_voxels,
        false_voxels=false_voxels,
    )


def _detected(
    found: NDArray[np.uint8],
    probability: NDArray[np.floating],
    truth: NDArray[np.uint8],
    *,
    affine: NDArray[np.float64],
    task: Segmentation,
    about: ScanFacts,
) -> ScanFacts:
    """Add what is known of lesions: at the release's operating point, and at a low threshold for the curve."""
    scores = score_lesions_by_class(
        found, truth, classes=len(task.classes), affine=affine, minimum_lesion_mm=task.minimum_lesion_mm
    )
    dice = tuple(value for of_class in scores for value in of_class.dice)
    candidates = scan_candidates(
        probability >= LOWEST_PROBABILITY,
        probability,
        truth > 0,
        affine=affine,
        minimum_lesion_mm=task.minimum_lesion_mm,
    )
    return replace(
        about,
        dice=dice,
        lesions=len(dice),
        lesions_found=sum(value > 0 for value in dice),
        false_positives=sum(of_class.false_positives for of_class in scores),
        candidates=candidates,
    )


def voxel_counts(
    probability: NDArray[np.floating], truth: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Count the voxels of at least the lowest probability in bins, those in the truth and those outside of it.

    The choice looks at the probability alone, so that within each bin the truth's share stays what it is.
    """
    chosen = probability >= LOWEST_PROBABILITY
    place = np.minimum((probability[chosen].astype(np.float64) * BINS).astype(np.int64), BINS - 1)
    inside = truth[chosen]
    first, second = (np.bincount(place[part], minlength=BINS).astype(np.float64) for part in (inside, ~inside))
    return first, second


def _image(look: _Look, case: Case, groups: GroupFacts, task: Classification) -> ScanFacts:
    started_s = time.perf_counter()
    ((*probabilities,),) = image_probabilities(
        look.module, [case], look.job, runtime=look.runtime, should_stop=look.should_stop
    )
    return ScanFacts(
        case.patient_key,
        time.perf_counter() - started_s,
        groups,
        scores=(float(probabilities[task.positive_index]),),
        positive=(case.image_class == task.positive_index,),
    )


def _places(look: _Look, case: Case, groups: GroupFacts, task: Classification) -> ScanFacts:
    prepared = case.cache.training_case(case.key, mapped=True)
    lesions = lesion_centres(prepared)
    places = (*lesions, *compared_places(case, prepared, look.job))
    if not places:
        return ScanFacts(case.patient_key, 0.0, groups)
    started_s = time.perf_counter()
    scores = positive_probabilities(look.answers(prepared, places), task)
    return ScanFacts(
        case.patient_key,
        time.perf_counter() - started_s,
        groups,
        scores=tuple(float(score) for score in scores),
        positive=tuple(place < len(lesions) for place in range(len(places))),
    )


def _lesions(look: _Look, case: Case, groups: GroupFacts, task: MultiTask) -> ScanFacts:
    prepared = case.cache.training_case(case.key, mapped=True)
    centres, size = lesion_centres(prepared), look.job.training.patch_size
    dice: list[float] = []
    scores: list[float] = []
    errors: list[float] = []
    started_s = time.perf_counter()
    for answer in look.answers(prepared, centres):
        marked = (answer.segmentation.argmax(dim=1) > 0).cpu().numpy()
        scores += torch.sigmoid(answer.malignancy.double()).cpu().tolist()
        for mask, diameter in zip(marked, answer.diameter_mm.float().cpu().tolist(), strict=True):
            lesion = len(dice)
            truth = cut_around(prepared.label, centres[lesion], size) > 0
            dice.append(float(2 * (mask & truth).sum() / (mask.sum() + truth.sum())))
            errors.append(abs(diameter - lesion_diameter_mm(prepared, lesion, look.job.input.spacing_mm)))
    return ScanFacts(
        case.patient_key,
        time.perf_counter() - started_s,
        groups,
        dice=tuple(dice),
        scores=tuple(scores),
        positive=tuple(lesion_is_positive(prepared, lesion, task) for lesion in range(len(centres))),
        diameter_errors_mm=tuple(errors),
    )


def _known(values: Sequence[float | None]) -> tuple[float, ...]:
    return tuple(value for value in values if value is not None)
