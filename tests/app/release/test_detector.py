from __future__ import annotations

import pytest

from fedward.errors import ReleaseRefused
from fedward.release.detector import check_detector
from fedward.release.passport import Passport
from release_cases import passport
from tiny_federation import classifying, multitasking, training_job

JOB = training_job()


def of(job: object, **more: object) -> Passport:
    return passport(job=job, **more)


def test_a_classification_judges_what_a_segmentation_of_its_modality_finds() -> None:
    check_detector(of(JOB), of=of(classifying(JOB)))


@pytest.mark.parametrize(
    ("detector", "judge", "why"),
    [
        (of(classifying(JOB)), of(classifying(JOB)), "lesions come from a segmentation"),
        (of(multitasking(JOB)), of(classifying(JOB)), "lesions come from a segmentation"),
        (of(JOB), of(multitasking(JOB)), "finds its own lesions"),
        (of(JOB), of(JOB), "finds its own lesions"),
        (of(JOB, input=JOB.input.model_copy(update={"modality": "MR"})), of(classifying(JOB)), "reads MR"),
    ],
)
def test_what_cannot_find_the_lesions_is_refused(detector: Passport, judge: Passport, why: str) -> None:
    with pytest.raises(ReleaseRefused, match="no_lesion_source") as refused:
        check_detector(detector, of=judge)
    assert why in refused.value.detail
