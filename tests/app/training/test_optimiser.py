from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from fedward.errors import ModelError
from fedward.settings.job import Training
from fedward.store.vault import Vault
from fedward.training.optimiser import OptimiserState, learning_rate, make_optimiser
from small_cases import job_with

VAULT = Vault(b"k" * 32)
TRAINING = job_with(rounds=10, steps_per_round=10, learning_rate=0.02, warmup_steps=4).training


def test_the_rate_rises_linearly_then_falls_as_half_a_cosine() -> None:
    assert [learning_rate(step, TRAINING) for step in range(4)] == pytest.approx([0.005, 0.01, 0.015, 0.02])
    assert learning_rate(4, TRAINING) == pytest.approx(0.02)
    assert learning_rate(4 + 48, TRAINING) == pytest.approx(0.01)  # half way from step 4 to step 100
    assert learning_rate(99, TRAINING) == pytest.approx(0.01 * (1 - math.cos(math.pi / 96)))


def test_without_warm_up_the_first_step_has_the_full_rate() -> None:
    assert learning_rate(0, TRAINING.model_copy(update={"warmup_steps": 0})) == pytest.approx(0.02)


def test_a_warm_up_longer_than_the_job_still_gives_a_rate() -> None:
    training = TRAINING.model_copy(update={"warmup_steps": 1000})
    rates = [learning_rate(step, training) for step in range(training.total_steps)]
    assert 0 < min(rates) <= max(rates) <= 0.02


def steps_on(module: torch.nn.Module, training: Training, state: OptimiserState | None, count: int) -> OptimiserState:
    optimiser, state_now = make_optimiser(module, training, state)
    for _ in range(count):
        optimiser.zero_grad()
        (module(torch.tensor([[1.0, -2.0]])) ** 2).sum().backward()
        optimiser.step()
    return state_now()


def linear() -> torch.nn.Module:
    module = torch.nn.Linear(2, 2)
    with torch.no_grad():
        for value in module.parameters():
            value.copy_(torch.arange(value.numel()).reshape(value.shape))
    return module


def test_a_kept_state_goes_on_as_if_never_interrupted(tmp_path: Path) -> None:
    whole, halves = linear(), linear()
    expected = steps_on(whole, TRAINING, None, 6)

    first = steps_on(halves, TRAINING, None, 3)
    first.save(tmp_path / "optimiser.state", VAULT)
    state = steps_on(halves, TRAINING, OptimiserState.load(tmp_path / "optimiser.state", VAULT), 3)

    assert state.steps == expected.steps == 6
    np.testing.assert_array_equal(state.second_moment, expected.second_moment)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), halves.parameters(), strict=True))


def test_the_saved_state_is_its_owners_alone(tmp_path: Path) -> None:
    steps_on(linear(), TRAINING, None, 1).save(tmp_path / "optimiser.state", VAULT)
    assert (tmp_path / "optimiser.state").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"", b"not a zip", None])
def test_a_missing_or_damaged_state_is_none(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "optimiser.npz"
    if content is not None:
        path.write_bytes(content)
    assert OptimiserState.load(path, VAULT) is None


def test_a_truncated_state_is_none(tmp_path: Path) -> None:
    path = tmp_path / "optimiser.npz"
    steps_on(linear(), TRAINING, None, 1).save(path, VAULT)
    path.write_bytes(path.read_bytes()[:-40])
    assert OptimiserState.load(path, VAULT) is None


def test_another_networks_state_is_refused() -> None:
    state = OptimiserState(np.zeros(3, np.float32), np.zeros(3, np.float32), 1)
    with pytest.raises(ModelError, match="wrong_layout"):
        make_optimiser(linear(), TRAINING, state)
