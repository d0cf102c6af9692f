from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from fedward.errors import ModelError
from fedward.settings.job import Training
from fedward.store.vault import Vault
from fedward.training.optimiser import OptimiserState, learning_rate, local_distance, make_optimiser
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


def with_schedule(schedule: str) -> list[float]:
    training = TRAINING.model_copy(update={"schedule": schedule})
    return [learning_rate(step, training) for step in range(training.total_steps)]


def test_a_constant_rate_stays_after_the_warm_up() -> None:
    assert with_schedule("constant") == pytest.approx([0.005, 0.01, 0.015] + [0.02] * 97)


def test_a_polynomial_rate_falls_nearly_in_a_line_to_zero_at_the_jobs_end() -> None:
    rates = with_schedule("polynomial")
    assert rates[:5] == pytest.approx([0.005, 0.01, 0.015, 0.02, 0.02])
    assert rates[52] == pytest.approx(0.02 * 0.5**0.9)
    assert rates[99] == pytest.approx(0.02 * (1 / 96) ** 0.9)


@pytest.mark.parametrize("schedule", ["cosine", "polynomial", "constant"])
def test_the_rounds_distances_add_up_to_the_whole_schedule(schedule: str) -> None:
    training = TRAINING.model_copy(update={"schedule": schedule})
    rounds = [local_distance(number, training) for number in range(1, training.rounds + 1)]
    assert sum(rounds) == pytest.approx(sum(with_schedule(schedule)))
    assert min(rounds) > 0


def test_plain_descent_moves_by_the_rate_times_the_gradient_and_remembers_nothing(tmp_path: Path) -> None:
    module, training = linear(), TRAINING.model_copy(update={"optimiser": "sgd", "weight_decay": 0.0})
    weight, bias = (value.detach().clone() for value in module.parameters())
    image = torch.tensor([1.0, -2.0])
    gradient = 2 * (weight @ image + bias)
    state = steps_on(module, training, None, 1)
    after = list(module.parameters())
    torch.testing.assert_close(after[1].detach(), bias - 0.02 * gradient)
    torch.testing.assert_close(after[0].detach(), weight - 0.02 * gradient[:, None] * image)
    state.save(tmp_path / "optimiser", VAULT)
    kept = OptimiserState.load(tmp_path / "optimiser", VAULT)
    assert kept is not None
    assert kept.first_moment.size == kept.second_moment.size == 0
    halves = linear()
    steps_on(halves, training, kept, 1)
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), halves.parameters(), strict=True))


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
