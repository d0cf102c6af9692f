"""A hospital's own model: kept under the job's name, for its own eyes, and taken for no other network's."""

from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pytest

from evaluation_cases import forget_who_trained
from fedward.errors import JobRefused, StoreError, UpdateRefused
from fedward.evaluation.kept_alone import OwnModel, keep_alone, kept_models, own_model
from fedward.models.initial import initial_weights
from fedward.privacy.head import HeadFile
from tiny_federation import classifying, training_job

JOB = training_job()
WEIGHTS = initial_weights(JOB)
PATIENTS = ("id 1", "id 2")


def found(state: Path) -> OwnModel | None:
    return own_model(state, "ball", network=JOB.network, task=JOB.task)


def test_a_kept_model_comes_back(tmp_path: Path) -> None:
    assert found(tmp_path) is None
    path = keep_alone(tmp_path, JOB, WEIGHTS, patient_keys=PATIENTS)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = found(tmp_path)
    assert again is not None
    np.testing.assert_array_equal(again.weights, WEIGHTS)


def test_it_says_by_the_ledgers_pseudonyms_who_trained_it_and_names_nobody(tmp_path: Path) -> None:
    path = keep_alone(tmp_path, JOB, WEIGHTS, patient_keys=PATIENTS)
    again, head = found(tmp_path), HeadFile(tmp_path)
    assert again is not None
    assert again.known_patients() == {head.pseudonym(key) for key in PATIENTS} == kept_models(tmp_path)["ball"]
    assert not any(key.encode(code) in path.read_bytes() for key in PATIENTS for code in ("utf-8", "utf-32-le"))


def test_a_model_whose_file_does_not_say_who_trained_it_is_of_unknown_patients(tmp_path: Path) -> None:
    forget_who_trained(keep_alone(tmp_path, JOB, WEIGHTS, patient_keys=PATIENTS))
    again = found(tmp_path)
    assert again is not None
    with pytest.raises(JobRefused, match="unknown_patients"):
        again.known_patients()
    assert kept_models(tmp_path) == {"ball": None}


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_a_training_that_diverged_leaves_no_model(tmp_path: Path, number: float) -> None:
    with pytest.raises(UpdateRefused, match="not_finite"):
        keep_alone(tmp_path, JOB, np.full_like(WEIGHTS, number), patient_keys=PATIENTS)
    assert found(tmp_path) is None


def test_another_networks_model_is_not_taken(tmp_path: Path) -> None:
    other = classifying(JOB)
    keep_alone(tmp_path, other, initial_weights(other), patient_keys=PATIENTS)
    assert found(tmp_path) is None


def test_a_damaged_model_is_an_error_and_of_unknown_patients(tmp_path: Path) -> None:
    path = keep_alone(tmp_path, JOB, WEIGHTS, patient_keys=PATIENTS)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StoreError, match="cannot_read"):
        found(tmp_path)
    assert kept_models(tmp_path) == {"ball": None}
