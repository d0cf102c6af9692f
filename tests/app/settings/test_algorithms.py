from __future__ import annotations

from typing import Any

import pytest

from fedward.errors import SettingsError
from fedward.settings.algorithms import FEDAVG
from fedward.settings.job import TrainingJob
from fedward.settings.read import parse_settings
from small_cases import job_with


def job_of(mode: str = "plain", optimiser: str = "adamw", **algorithm: Any) -> TrainingJob:
    document = job_with(optimiser=optimiser).model_dump(mode="json")
    document["exchange"]["mode"] = mode
    return parse_settings({**document, "algorithm": algorithm}, TrainingJob, where="job.toml")


def faults(mode: str, **algorithm: Any) -> str:
    with pytest.raises(SettingsError, match="invalid_settings") as refused:
        job_of(mode, **algorithm)
    return refused.value.detail


def test_a_job_that_names_no_algorithm_averages() -> None:
    assert job_with().algorithm == FEDAVG


@pytest.mark.parametrize("name", ["fedavg", "fedavgm", "fedadam", "fedyogi", "fedprox", "fedbn"])
@pytest.mark.parametrize("mode", ["plain", "secure-sum"])
def test_what_a_sum_is_enough_for_runs_in_either_mode(name: str, mode: str) -> None:
    assert job_of(mode, name=name).algorithm.name == name


@pytest.mark.parametrize("name", ["median", "trimmed_mean"])
def test_what_must_see_each_update_runs_in_plain_mode_alone_and_the_job_says_why(name: str) -> None:
    assert job_of("plain", name=name).algorithm.name == name
    assert f"algorithm {name} must see each site's own update" in faults("secure-sum", name=name)


@pytest.mark.parametrize("mode", ["plain", "secure-sum"])
def test_scaffold_runs_in_either_mode_with_plain_descent_alone_and_the_job_says_why(mode: str) -> None:
    assert "set training.optimiser to sgd, got adamw" in faults(mode, name="scaffold")
    assert job_of(mode, optimiser="sgd", name="scaffold").algorithm.name == "scaffold"


def test_faults_of_an_algorithm_are_named_by_their_key() -> None:
    assert "algorithm.name: should be one of 'fedavg'" in faults("plain", name="sgd")
    assert "algorithm.name: missing" in faults("plain", momentum=0.5)
    assert "algorithm.momentum: should be less than 1, found 2.0" in faults("plain", name="fedavgm", momentum=2.0)
    assert "algorithm.momentum: unknown key" in faults("plain", name="fedavg", momentum=0.5)


@pytest.mark.parametrize("training", [{"max_gradient_norm": 1.0}, {"batches_per_step": 2}])
def test_a_private_job_clips_and_gathers_by_patient_and_says_so(training: dict[str, float]) -> None:
    document = job_with(**training).model_dump(mode="json")
    privacy = {"sampling_rate": 0.5, "noise_multiplier": 1.0, "clip_norm": 1.0, "expected_patients": 5}
    assert parse_settings(document, TrainingJob, where="job.toml").privacy is None
    with pytest.raises(SettingsError, match="invalid_settings") as refused:
        parse_settings({**document, "privacy": privacy}, TrainingJob, where="job.toml")
    assert "a private step clips each patient's gradient" in refused.value.detail
