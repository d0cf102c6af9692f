"""The multi-task network learns from labels whose class is the lesion's grade."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedward.dicom.volume import Label, Volume
from fedward.evaluation.cases import score_cases
from fedward.evaluation.summary import summarise
from fedward.imaging.cases import SiteData
from fedward.models.initial import initial_weights
from fedward.settings.job import TrainingJob
from fedward.training.private import PatientCrops
from small_cases import FakeStudy, job_with, studies_in, volume_of
from tiny_federation import multitasking
from training_cases import RUNTIME, clipped_sum, site_data, trained

GRADES = ("benign", "malignant")


class GradedStudy(FakeStudy):
    """Every second patient's ball is malignant and darker."""

    @property
    def is_malignant(self) -> bool:
        return int(self.patient_key[1:]) % 2 == 1

    def read(self) -> Volume:
        volume = super().read()
        darker = volume.array + -400 * self.is_malignant * self._mask()
        return volume_of(darker, volume.affine, patient=self.patient_key)

    def read_label(self, classes: tuple[str, ...], volume: Volume) -> Label | None:
        assert classes == GRADES
        return Label((self._mask() * (1 + self.is_malignant)).astype(np.uint8), classes)


def job_of(**training: object) -> TrainingJob:
    return multitasking(job_with(batch_size=4, learning_rate=1e-2, **training), GRADES)


JOB = job_of(rounds=6, steps_per_round=15)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> SiteData:
    folder = tmp_path_factory.mktemp("site")
    studies = [GradedStudy(study.patient_key, study.file) for study in studies_in(folder / "dicom", 4)]
    return site_data(folder, studies, JOB)


def test_it_learns_from_lesions_whose_class_is_their_grade(data: SiteData) -> None:
    before = summarise(score_cases(initial_weights(JOB), data.train, JOB, runtime=RUNTIME))
    weights, losses = trained(data, JOB, rounds=3)
    after = summarise(score_cases(weights, data.train, JOB, runtime=RUNTIME))
    assert losses[-1] < 0.7 * losses[0]
    assert (before.values, after.values) == (4, 4)
    assert before.score is not None
    assert after.score is not None
    assert before.score < 0.5 < after.score <= 1


def crops_of(patient: int) -> PatientCrops:
    generator = torch.Generator().manual_seed(patient)
    images = torch.rand((4, 1, *JOB.training.patch_size), generator=generator)
    facts = torch.tensor([[1.0, 8.0], [torch.nan, torch.nan], [0.0, 12.0], [1.0, 5.0]])
    return PatientCrops(images, (images > 0.8).to(torch.uint8), patient, facts)


def test_a_patients_facts_stay_with_its_crops_however_many_go_through_at_a_time() -> None:
    def summed(batch_size: int, clip: float) -> np.ndarray:
        return clipped_sum(JOB, [crops_of(1)], batch_size=batch_size, clip=clip)

    whole, alone = summed(4, 1e6), summed(1, 1e6)
    assert np.linalg.norm(whole) > 0.1
    assert np.linalg.norm(whole - alone) < 1e-3 * np.linalg.norm(whole)
    assert np.linalg.norm(summed(2, 0.1)) == pytest.approx(0.1, rel=1e-5)
