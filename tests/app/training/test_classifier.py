"""A classifier learns from the labels of segmentation, with privacy and without."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedward.evaluation.cases import score_cases
from fedward.evaluation.summary import summarise
from fedward.imaging.cases import SiteData
from fedward.models.initial import initial_weights
from fedward.randomness import Secret
from fedward.settings.job import PrivateTraining, TrainingJob
from fedward.training.local import LocalResult
from fedward.training.private import PatientCrops, train_private
from small_cases import job_with, studies_in
from tiny_federation import classifying
from training_cases import RUNTIME, clipped_sum, site_data, trained

CLIP = 0.1
ASKED = PrivateTraining(
    sampling_rate=1.0, noise_multiplier=1.0, clip_norm=CLIP, expected_patients=5, crops_per_patient=4
)


def job_of(**training: object) -> TrainingJob:
    return classifying(job_with(rounds=4, steps_per_round=15, batch_size=8, learning_rate=3e-3, **training))


JOB = job_of()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> SiteData:
    folder = tmp_path_factory.mktemp("site")
    data = site_data(folder, studies_in(folder / "dicom", 10), JOB, validation=0.4)
    assert len(data.validation) >= 2
    return data


def test_it_learns_to_tell_the_ball_from_the_rest_of_scans_that_it_has_not_seen(data: SiteData) -> None:
    weights, losses = trained(data, JOB, rounds=4)
    assert losses[-1] < 0.5 * losses[0]
    assert summarise(score_cases(weights, data.validation, JOB, runtime=RUNTIME)).score > 0.9  # type: ignore[operator]


def private(data: SiteData, noise_multiplier: float) -> LocalResult:
    job = JOB.model_copy(update={"privacy": ASKED})
    options = {"runtime": RUNTIME, "noise_multiplier": noise_multiplier, "secret": Secret()}
    return train_private(initial_weights(job), data, job, round_number=1, **options)


def test_with_next_to_no_noise_private_training_learns_too(data: SiteData) -> None:
    learned = private(data, 1e-6)
    assert learned.loss < 0.69  # ln 2 is what a guess costs
    score = summarise(score_cases(initial_weights(JOB) + learned.update, data.validation, JOB, runtime=RUNTIME)).score
    assert score > 0.8  # type: ignore[operator]


def crops_of(patient: int) -> PatientCrops:
    generator = torch.Generator().manual_seed(patient)
    return PatientCrops(torch.rand((4, 1, 16, 16, 16), generator=generator), torch.tensor([0, 1, 1, 0]), seed=patient)


@pytest.mark.parametrize("patients", [[1], [1, 2, 3]])
def test_one_patient_changes_the_sum_by_the_clipped_mean_of_its_own_crops(patients: list[int]) -> None:
    def summed(numbers: list[int], *, batch_size: int, clip: float) -> np.ndarray:
        return clipped_sum(JOB, [crops_of(number) for number in numbers], batch_size=batch_size, clip=clip)

    change = summed([*patients, 9], batch_size=4, clip=CLIP) - summed(patients, batch_size=4, clip=CLIP)
    alone = summed([9], batch_size=4, clip=1e6)
    assert np.linalg.norm(alone) > CLIP
    np.testing.assert_allclose(change, alone * CLIP / np.linalg.norm(alone), atol=1e-6)
    np.testing.assert_allclose(summed([9], batch_size=1, clip=1e6), alone, atol=1e-5)
