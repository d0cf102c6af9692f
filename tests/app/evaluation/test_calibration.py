from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss

from fedward.evaluation.calibration import (
    expected_calibration_error,
    fit_temperature,
    reliability,
    with_temperature,
)
from score_cases import overconfident, scored


def top_label(logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0) -> float:
    probabilities = with_temperature(logits, temperature)
    bins = reliability(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels)
    error = expected_calibration_error(bins)
    assert error is not None
    return error


def test_an_error_by_hand() -> None:
    bins = reliability([0.1, 0.2, 0.9, 1.0], [False, True, True, True], bins=2)
    assert [(b.cases, b.frequency) for b in bins] == [(2, 0.5), (2, 1.0)]
    assert expected_calibration_error(bins) == pytest.approx((2 * 0.35 + 2 * 0.05) / 4)


@settings(deadline=None)
@given(scored(), st.integers(1, 20))
def test_the_bins_are_scikit_learns(case: tuple[np.ndarray, np.ndarray], bins: int) -> None:
    scores, truth = case
    # scikit-learn closes its bins on the other side: no score on an edge.
    scores = np.clip(scores * 0.997 + 0.00123, 0, 1)
    ours = [b for b in reliability(scores, truth, bins=bins) if b.cases]
    if not truth.size:
        assert ours == []
        assert expected_calibration_error(reliability(scores, truth, bins=bins)) is None
        return
    if truth.all() or not truth.any():
        return
    frequency, confidence = calibration_curve(truth, scores, n_bins=bins)
    np.testing.assert_allclose([b.frequency for b in ours], frequency)
    np.testing.assert_allclose([b.confidence for b in ours], confidence)


def test_the_ends_of_the_range_have_a_bin() -> None:
    bins = reliability([0.0, 1.0, 0.3], [True, True, True], bins=10)
    assert [b.cases for b in bins] == [1, 0, 0, 1, 0, 0, 0, 0, 0, 1]
    with pytest.raises(ValueError, match="probabilities lie in"):
        reliability([1.1], [True])


def test_an_honest_forecast_has_a_small_error_and_a_loud_one_a_large_error() -> None:
    logits, labels = overconfident(20_000, 0)
    assert top_label(logits, labels) > 0.15
    assert top_label(logits, labels, 3.0) < 0.02


def test_the_temperature_that_made_the_data_is_found() -> None:
    logits, labels = overconfident(20_000, 1, temperature=2.5)
    assert fit_temperature(logits, labels) == pytest.approx(2.5, rel=0.03)


def test_scaling_lowers_the_error_on_held_out_data() -> None:
    logits, labels = overconfident(2_000, 2)
    temperature = fit_temperature(logits[:1000], labels[:1000])
    assert temperature is not None
    assert top_label(logits[1000:], labels[1000:], temperature) < top_label(logits[1000:], labels[1000:]) / 3


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.floats(0.3, 6))
def test_no_other_temperature_is_likelier(seed: int, true_temperature: float) -> None:
    logits, labels = overconfident(200, seed, temperature=true_temperature)

    def loss(temperature: float) -> float:
        return float(log_loss(labels, with_temperature(logits, temperature), labels=[0, 1, 2]))

    found = fit_temperature(logits, labels)
    assert found is not None
    best = minimize_scalar(loss, bounds=(0.05, 20), method="bounded")
    assert loss(found) <= best.fun + 1e-9


def test_a_weight_counts_like_as_many_cases() -> None:
    logits, labels = overconfident(50, 3)
    weights = np.arange(50) % 4
    repeated = np.repeat(np.arange(50), weights)
    assert fit_temperature(logits, labels, weights=weights) == pytest.approx(
        fit_temperature(logits[repeated], labels[repeated])
    )


@pytest.mark.parametrize("labels", [[], [1, 1, 1]])
def test_one_class_alone_settles_no_temperature(labels: list[int]) -> None:
    assert fit_temperature(np.ones((len(labels), 2)), labels) is None


def test_a_network_that_never_says_anything_has_no_temperature() -> None:
    assert fit_temperature(np.full((4, 2), 3.0), [0, 1, 0, 1]) is None


def test_data_that_ask_for_certainty_get_the_lowest_temperature() -> None:
    assert fit_temperature([[9.0, 0.0], [0.0, 9.0]], [0, 1]) == pytest.approx(0.05)


def test_what_does_not_match_is_refused() -> None:
    with pytest.raises(ValueError, match="one label and weight a row"):
        fit_temperature(np.ones((3, 2)), [0, 1])
    with pytest.raises(ValueError, match="finite"):
        fit_temperature([[np.inf, 0.0], [0.0, 0.0]], [0, 1])
    with pytest.raises(ValueError, match="labels go from 0 to 1"):
        fit_temperature([[0.0, 0.0], [0.0, 0.0]], [0, 2])
