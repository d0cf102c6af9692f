from __future__ import annotations

import pytest

from fedward.errors import ReleaseRefused
from fedward.release.detector import check_detector
from fedward.release.passport import Passport
from fedward.settings.job import TrainingJob
from release_cases import passport
from tiny_federation import classifying, multitasking, training_job

JOB = training_job()


def of(job: TrainingJob, **more: object) -> Passport:
    return passport(job=job, **more)


def test_a_classification_judges_what_a_segmentation_of_its_modality_finds() -> None:
    check_detector(of(JOB), of=of(classifying(JOB)))


def whole_images() -> TrainingJob:
    job = classifying(JOB)
    return job.model_copy(update={"task": job.task.model_copy(update={"of": "image"})})


def test_what_judges_no_lesions_needs_nothing_that_finds_them() -> None:
    for job in (JOB, multitasking(JOB), whole_images()):
        check_detector(None, of=of(job))


@pytest.mark.parametrize(
    ("detector", "judge", "why"),
    [
        (of(classifying(JOB)), of(classifying(JOB)), "lesions come from a segmentation"),
        (of(multitasking(JOB)), of(classifying(JOB)), "lesions come from a segmentation"),
        (of(JOB), of(multitasking(JOB)), "judges no lesions"),
        (of(JOB), of(JOB), "judges no lesions"),
        (of(JOB), of(whole_images()), "judges no lesions"),
        (None, of(classifying(JOB)), "must find"),
        (of(JOB, input=JOB.input.model_copy(update={"modality": "MR"})), of(classifying(JOB)), "reads MR"),
    ],
)
def test_what_cannot_find_the_lesions_is_refused(detector: Passport | None, judge: Passport, why: str) -> None:
    with pytest.raises(ReleaseRefused, match="no_lesion_source") as refused:
        check_detector(detector, of=judge)
    assert why in refused.value.detail
