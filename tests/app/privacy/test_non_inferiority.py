from __future__ import annotations

import math

import numpy as np
import pytest

from fedward.privacy.non_inferiority import is_non_inferior
from fedward.randomness import Secret

SECRET = Secret()
ALMOST_NONE = 1e-6


def share_that_passes(
    mean: float, *, spread: float, patients: int, noise_multiplier: float, repeats: int = 3000
) -> float:
    """How often a model that is better by ``mean`` passes at margin 0.1 and confidence 0.95."""
    generator = np.random.default_rng(1)
    drawn = generator.normal(mean, spread, (repeats, patients))
    about = {"margin": 0.1, "confidence": 0.95, "noise_multiplier": noise_multiplier, "secret": SECRET}
    return float(np.mean([is_non_inferior(row, **about) for row in drawn]))


@pytest.mark.parametrize("noise_multiplier", [ALMOST_NONE, 0.1, 0.3, 0.5, 2.0])
@pytest.mark.parametrize("patients", [20, 200])
def test_a_model_that_is_worse_by_the_margin_passes_as_seldom_as_was_asked(
    patients: int, noise_multiplier: float
) -> None:
    share = share_that_passes(-0.1, spread=0.1, patients=patients, noise_multiplier=noise_multiplier)
    # Four standard errors of 3000 draws above 1 in 20.
    assert share <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / 3000)


def test_enough_patients_let_a_model_pass_that_is_no_worse_and_too_few_none() -> None:
    assert share_that_passes(0.0, spread=0.1, patients=120, noise_multiplier=2.0, repeats=500) > 0.93
    assert share_that_passes(0.0, spread=0.1, patients=10, noise_multiplier=2.0, repeats=500) < 0.2
    assert share_that_passes(-0.2, spread=0.1, patients=120, noise_multiplier=2.0, repeats=500) == 0


def test_without_noise_the_interval_is_that_of_the_mean() -> None:
    about = {"margin": 0.1, "noise_multiplier": 1e-9, "secret": SECRET}
    # The excess over -margin is 0.1 for each of n patients: z of n**0.5 against the normal quantile.
    assert is_non_inferior([0.0] * 3, confidence=0.95, **about)
    assert not is_non_inferior([0.0] * 2, confidence=0.95, **about)
    assert is_non_inferior([0.0] * 2, confidence=0.9, **about)
    assert not is_non_inferior([], confidence=0.95, **about)


def test_one_patient_moves_the_noised_sums_by_at_most_what_the_noise_multiplies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[np.ndarray] = []

    def kept(values: np.ndarray, noise: np.ndarray, *, deviation: float) -> np.ndarray:
        assert deviation == 3.0 * math.sqrt(2)
        seen.append(values)
        return values + noise

    monkeypatch.setattr("fedward.privacy.non_inferiority.add_noise", kept)
    for extreme in ([], [1.0], [-1.0], [7.0], [-7.0], [0.93]):
        is_non_inferior([0.2, -0.3, *extreme], margin=0.5, confidence=0.95, noise_multiplier=3.0, secret=SECRET)
    assert max(np.linalg.norm(sums - seen[0]) for sums in seen) <= math.sqrt(2)


def test_two_questions_about_the_same_patients_get_other_noise() -> None:
    about = {"margin": 0.1, "confidence": 0.5, "noise_multiplier": 10.0, "secret": SECRET}
    assert len({is_non_inferior([0.0] * 20, **about) for _ in range(100)}) == 2


def test_a_confidence_below_a_half_would_let_a_worse_model_pass() -> None:
    with pytest.raises(ValueError, match="confidence"):
        is_non_inferior([0.0], margin=0.1, confidence=0.4, noise_multiplier=1.0, secret=SECRET)
