"""What a release is worth on a hospital's own labelled lesions: how to calibrate it, and what goes with its class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from fedward.dicom.source import StudyCase, open_source
from fedward.dicom.volume import Label, Volume
from fedward.errors import LabelRefused, ReleaseRefused, SeriesRefused
from fedward.evaluation.calibration import (
    expected_calibration_error,
    fit_temperature,
    reliability,
    with_temperature,
)
from fedward.evaluation.importance import measurement_importances
from fedward.evaluation.regions import find_regions
from fedward.imaging.splits import assign, read_split_key
from fedward.inference.assessment import Answers, assessing
from fedward.inference.lesions import Inference
from fedward.inference.load import Chosen, load_chosen
from fedward.inference.model import LoadedModel
from fedward.inference.own_record import Association, Calibration, Measurement, OwnRecord, write_own_record
from fedward.inference.predict import ask_volume
from fedward.models.runtime import Runtime
from fedward.randomness import Secret
from fedward.settings.site import SiteSettings
from fedward.settings.tasks import Classification, MultiTask, Segmentation, is_of_images

#: Fewer judged lesions, or fewer of either kind, do not settle a temperature.
MINIMUM_JUDGED, MINIMUM_OF_A_KIND = 20, 5

#: What is measured of a labelled lesion; intensities in the volume's own unit.
MEASUREMENTS = (
    "volume_mm3",
    "long_axis_mm",
    "short_axis_mm",
    "axes_ratio",
    "mean_intensity",
    "intensity_deviation",
)

Floats = NDArray[np.float64]


@dataclass(eq=False)
class _Seen:
    """What was gathered so far."""

    logits: list[Floats] = field(default_factory=list)
    is_positive: list[bool] = field(default_factory=list)
    measured: list[tuple[float, ...]] = field(default_factory=list)
    measured_positive: list[bool] = field(default_factory=list)
    patients: list[str] = field(default_factory=list)


def study_own_lesions(
    model: LoadedModel,
    studies: Sequence[StudyCase],
    site: SiteSettings,
    *,
    runtime: Runtime,
    now: datetime,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> OwnRecord:
    """Run a model over the hospital's labelled validation patients, and measure the labelled lesions of all patients.

    A series or label that is refused costs its own case alone.

    Args:
        model: A classifier, with its detector if any, or a multi-task model.
        studies: The hospital's series; those without a label, or of another modality, are left alone.
        site: Split and merged ids.
        runtime: Device and precision.
        now: The record's time.
        progress: Called with the series done and their number.

    Raises:
        ValueError: the model only outlines.
    """
    task, key, seen, randomness = assessing(model), read_split_key(site.state), _Seen(), Secret()
    known = [study for study in studies if study.modality == model.input.modality and _is_labelled(study, task)]
    for number, study in enumerate(known, start=1):
        patient = site.patient_of(study.patient_key)
        is_validation = assign(patient, key=key, split=site.split) == "validation"
        with suppress(SeriesRefused, LabelRefused):
            volume = study.read()
            label = None if is_of_images(task) else study.read_label(task.label_classes, volume)
            if label is not None:
                _measure(seen, label, volume, task, patient=patient)
            if is_validation and (label is not None or is_of_images(task)):
                found, answers = ask_volume(model, volume, runtime=runtime, randomness=randomness)
                _hold_against(seen, found, answers, label, task, image_class=study.image_class)
        progress(number, len(known))
    return OwnRecord(
        model_sha256=model.facts.model_sha256,
        detector_sha256=model.detector.facts.model_sha256 if model.detector else None,
        made=now,
        judged=len(seen.is_positive),
        calibration=calibration_of(seen.logits, seen.is_positive, task),
        association=_association(seen, task),
    )


def calibrate_release(
    site: SiteSettings,
    chosen: Chosen,
    *,
    now: datetime,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> OwnRecord:
    """Study an installed release on the site's own data, and keep the record.

    Raises:
        ReleaseRefused: it judges nothing (``nothing_to_calibrate``).
        SourceError, StoreError: see :mod:`fedward.errors`.
    """
    passport = chosen.release.passport
    if isinstance(passport.task, Segmentation):
        raise ReleaseRefused("nothing_to_calibrate", f"{passport.name}-{passport.number} outlines and judges nothing")
    model, runtime = load_chosen(chosen, site.compute)
    studies = [study for source in site.data for study in open_source(source).studies()]
    record = study_own_lesions(model, studies, site, runtime=runtime, now=now, progress=progress)
    write_own_record(record, state=site.state, name=passport.name, number=passport.number)
    return record


def calibration_of(
    logits: Sequence[Floats], is_positive: Sequence[bool], task: Classification | MultiTask
) -> Calibration | None:
    """Fit a temperature to what a model said of lesions whose class is known.

    Args:
        logits: Of each lesion, shape ``(class,)``; two classes.
        is_positive: What each lesion is.
        task: Which class is positive.

    Returns:
        None with fewer than 20 lesions, fewer than 5 of either kind, or more classes than two.
    """
    truth = np.array(is_positive, np.bool_)
    few = truth.size < MINIMUM_JUDGED or min(truth.sum(), (~truth).sum()) < MINIMUM_OF_A_KIND
    if few or len(task.answers) != 2:
        return None
    positive, stacked = task.positive_index, np.stack(logits)
    temperature = fit_temperature(stacked, np.where(truth, positive, 1 - positive))
    if temperature is None:
        return None
    before, after = (
        expected_calibration_error(reliability(with_temperature(stacked, divisor)[:, positive], truth))
        for divisor in (1.0, temperature)
    )
    return Calibration(
        temperature=temperature, lesions=truth.size, error_before=before or 0.0, error_after=after or 0.0
    )


def measured_lesions(
    label: Label, volume: Volume, task: Classification | MultiTask
) -> Iterator[tuple[tuple[float, ...], bool]]:
    """Give :data:`MEASUREMENTS` of each labelled lesion, and whether it is of the positive class."""
    anything = Segmentation(kind="segmentation", classes=("lesion",), measure="lesion_dice")
    is_any = (label.array > 0).astype(np.uint8)
    for region in find_regions(is_any, is_any.astype(np.float16), affine=volume.affine, task=anything):
        inside = volume.array[region.box][region.mask].astype(np.float64)
        axes = region.axes
        values = (
            inside.size * volume.voxel_volume_mm3,
            axes.long_mm,
            axes.short_mm,
            axes.short_mm / axes.long_mm,
            float(inside.mean()),
            float(inside.std()),
        )
        yield values, _is_positive(label.array[region.box][region.mask], task)


def _is_labelled(study: StudyCase, task: Classification | MultiTask) -> bool:
    return study.image_class in task.answers if is_of_images(task) else study.has_label


def _measure(seen: _Seen, label: Label, volume: Volume, task: Classification | MultiTask, *, patient: str) -> None:
    for values, positive in measured_lesions(label, volume, task):
        seen.measured.append(values)
        seen.measured_positive.append(positive)
        seen.patients.append(patient)


def _hold_against(
    seen: _Seen,
    found: Inference | None,
    answers: Answers,
    label: Label | None,
    task: Classification | MultiTask,
    *,
    image_class: str,
) -> None:
    """Keep those of the model's answers of which the label, or the site's table of image classes, knows the truth."""
    if found is None or label is None:
        seen.logits.append(answers.logits[0])
        seen.is_positive.append(image_class == task.positive)
        return
    for lesion, logits in zip(found.findings.lesions, answers.logits, strict=True):
        under = label.array[found.lesion_map == lesion.number]
        # Of a lesion that no label touches nobody has said what grade it is; it is no lesion to a classifier's label.
        if under.any() or isinstance(task, Classification):
            seen.logits.append(logits)
            seen.is_positive.append(_is_positive(under, task))


def _is_positive(labels: NDArray[np.uint8], task: Classification | MultiTask) -> bool:
    """Say what a lesion is by the labels of its voxels: touched at all, or of the class that most of them have."""
    marked = labels[labels > 0]
    if isinstance(task, Classification) or not marked.size:
        return bool(marked.size)
    return task.classes[int(np.bincount(marked).argmax()) - 1] == task.positive


def _association(seen: _Seen, task: Classification | MultiTask) -> Association | None:
    table = np.array(seen.measured, np.float64).reshape(len(seen.measured), len(MEASUREMENTS))
    found = measurement_importances(table, seen.measured_positive, seen.patients, names=MEASUREMENTS)
    if found is None:
        return None
    return Association(
        positive=task.positive,
        auc=found.auc,
        lesions=found.lesions,
        positives=found.positives,
        patients=found.patients,
        measurements=tuple(Measurement(**vars(each)) for each in found.measurements),
    )
