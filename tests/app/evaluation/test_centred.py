from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedward.errors import Stopped
from fedward.evaluation.cases import score_cases
from fedward.evaluation.centred import lesion_values, score_places
from fedward.evaluation.classification import auc
from fedward.evaluation.summary import CaseScore, summarise
from fedward.imaging.cases import SiteData
from fedward.models.initial import initial_weights
from fedward.models.runtime import Runtime
from fedward.settings.job import TrainingJob
from small_cases import job_with, site_at, studies_in
from tiny_federation import classifying

PROBABILITIES = st.lists(st.integers(0, 4).map(lambda value: value / 4), min_size=1, max_size=6).map(np.array)


class Brightness(torch.nn.Module):
    """Says "nodule" where the middle of a patch is bright, or (``sign`` -1) where it is dark; 0 is a blind one."""

    def __init__(self, sign: float) -> None:
        super().__init__()
        self.sign = sign

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        bright = self.sign * images[:, 0, 7:10, 7:10, 7:10].mean(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(bright), bright], dim=1)


@pytest.fixture(scope="module")
def job() -> TrainingJob:
    small = job_with()
    return classifying(small.model_copy(update={"task": small.task.model_copy(update={"classes": ("nodule",)})}))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, job: TrainingJob) -> SiteData:
    folder = tmp_path_factory.mktemp("site")
    return SiteData.prepare(studies_in(folder / "dicom", 4), site_at(folder), job)


def scored(data: SiteData, job: TrainingJob, sign: float) -> tuple[CaseScore, ...]:
    module = Brightness(sign)
    return tuple(score_places(module, case, job, task=job.task, runtime=Runtime()) for case in data.cases)  # type: ignore[arg-type]


@pytest.mark.parametrize(("sign", "expected"), [(1.0, 1.0), (-1.0, 0.0), (0.0, 0.5)])
def test_who_sees_the_lesions_scores_one_who_sees_the_opposite_none(
    data: SiteData, job: TrainingJob, sign: float, expected: float
) -> None:
    cases = scored(data, job, sign)
    assert [len(case.values) for case in cases] == [1] * 4
    assert summarise(cases).score == pytest.approx(expected)


def test_the_places_are_the_same_in_every_round(data: SiteData, job: TrainingJob) -> None:
    weights = initial_weights(job)
    once, again = (score_cases(weights, data.cases, job, runtime=Runtime()) for _ in range(2))
    assert once == again
    assert summarise(once).score not in (None, 0.0, 0.5, 1.0)


def test_a_scan_without_a_lesion_has_no_value(tmp_path: Path, job: TrainingJob) -> None:
    studies = studies_in(tmp_path / "dicom", 2, with_ball=False)
    empty = SiteData.prepare(studies, site_at(tmp_path), job)
    assert [case.values for case in scored(empty, job, 1.0)] == [(), ()]


def test_an_abort_is_heard_between_batches(data: SiteData, job: TrainingJob) -> None:
    with pytest.raises(Stopped, match="aborted"):
        score_cases(initial_weights(job), data.cases, job, runtime=Runtime(), should_stop=lambda: True)


@given(PROBABILITIES, PROBABILITIES)
def test_the_mean_over_a_scans_lesions_is_its_auc(lesions: np.ndarray, elsewhere: np.ndarray) -> None:
    truth = [True] * len(lesions) + [False] * len(elsewhere)
    expected = auc(np.concatenate([lesions, elsewhere]), truth)
    assert np.mean(lesion_values(lesions, elsewhere)) == pytest.approx(expected)
