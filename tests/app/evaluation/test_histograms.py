from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedward.evaluation.calibration import expected_calibration_error, fit_temperature, reliability
from fedward.evaluation.classification import auc, operating_point
from fedward.evaluation.histograms import ScoreHistogram
from score_cases import scored

Scored = tuple[np.ndarray, np.ndarray]
BINS = st.integers(1, 64)


@settings(deadline=None)
@given(st.lists(scored(most=20), min_size=1, max_size=4), BINS)
def test_the_sum_of_the_sites_is_the_histogram_of_all(sites: list[Scored], bins: int) -> None:
    summed = reduce(lambda one, other: one + other, [ScoreHistogram.of(*site, bins=bins) for site in sites])
    pooled = ScoreHistogram.of(*(np.concatenate(part) for part in zip(*sites, strict=True)), bins=bins)
    np.testing.assert_array_equal(summed.positives, pooled.positives)
    np.testing.assert_array_equal(summed.negatives, pooled.negatives)


@settings(deadline=None)
@given(scored(), BINS)
def test_the_exact_auc_lies_within_the_bound(case: Scored, bins: int) -> None:
    exact, ours = auc(*case), ScoreHistogram.of(*case, bins=bins).auc()
    assert (exact is None) == (ours is None)
    if exact is not None and ours is not None:
        assert abs(ours.value - exact) <= ours.error + 1e-12


def test_more_bins_hide_less_of_the_auc() -> None:
    generator = np.random.default_rng(0)
    truth = generator.random(2000) < 0.3
    scores = np.clip(generator.normal(0.4 + 0.15 * truth, 0.15), 0, 1)
    errors = [ScoreHistogram.of(scores, truth, bins=bins).auc().error for bins in (8, 32, 128)]  # type: ignore[union-attr]
    assert errors[0] > 3 * errors[1] > 9 * errors[2]
    assert errors[2] < 0.01


@settings(deadline=None)
@given(scored(), BINS)
def test_the_exact_calibration_error_lies_within_half_a_bin(case: Scored, bins: int) -> None:
    exact = expected_calibration_error(reliability(*case, bins=bins))
    ours = ScoreHistogram.of(*case, bins=bins).expected_calibration_error()
    assert (exact is None) == (ours is None)
    if exact is not None and ours is not None:
        assert abs(ours.value - exact) <= ours.error + 1e-12


@settings(deadline=None)
@given(scored(), BINS)
def test_the_curve_is_exact_at_the_bins_edges(case: Scored, bins: int) -> None:
    scores, truth = case
    curve = ScoreHistogram.of(scores, truth, bins=bins).roc()
    if truth.all() or not truth.any():
        assert curve is None
        return
    assert curve is not None
    for threshold, false_positive_rate, sensitivity in zip(
        curve.thresholds, curve.false_positive_rate, curve.sensitivity, strict=True
    ):
        point = operating_point(scores, truth, threshold=threshold)
        assert point.sensitivity == pytest.approx(sensitivity)
        assert point.specificity == pytest.approx(1 - false_positive_rate)


@settings(deadline=None)
@given(scored(), st.integers(0, 19))
def test_a_point_at_an_edge_is_exact(case: Scored, edge: int) -> None:
    assert ScoreHistogram.of(*case, bins=20).operating_point(edge / 20) == operating_point(*case, threshold=edge / 20)


def test_a_threshold_above_the_last_edge_reads_the_last_edge() -> None:
    point = ScoreHistogram.of([0.8, 1.0], [True, True], bins=4).operating_point(1.0)
    assert (point.threshold, point.true_positives) == (0.75, 2.0)


def test_a_temperature_comes_from_the_counts_alone() -> None:
    generator = np.random.default_rng(4)
    honest = generator.normal(0, 1, 5000)
    truth = generator.random(5000) < 1 / (1 + np.exp(-honest))
    loud = 2.0 * honest
    exact = fit_temperature(np.column_stack([np.zeros(5000), loud]), truth.astype(int))
    ours = ScoreHistogram.of(1 / (1 + np.exp(-loud)), truth, bins=64).temperature()
    assert exact == pytest.approx(2.0, rel=0.1)
    assert ours == pytest.approx(exact, rel=0.03)


def test_noise_below_zero_is_taken_as_nothing() -> None:
    noised = ScoreHistogram(np.array([-2.0, 10.0]), np.array([10.0, -1.0]))
    ours = noised.auc()
    assert ours is not None
    assert (ours.value, ours.error) == (1.0, 0.0)
    assert noised.operating_point(0.5).sensitivity == 1.0


@pytest.mark.parametrize("counts", [np.zeros(4), -np.ones(4)])
def test_nothing_counted_says_nothing(counts: np.ndarray) -> None:
    empty = ScoreHistogram(counts, counts)
    assert (empty.auc(), empty.roc(), empty.expected_calibration_error(), empty.temperature()) == (None,) * 4


def test_one_class_alone_says_nothing_about_order() -> None:
    one = ScoreHistogram(np.zeros(4), np.array([1.0, 2.0, 0.0, 1.0]))
    assert (one.auc(), one.roc(), one.temperature()) == (None, None, None)
    assert one.expected_calibration_error() is not None


def test_what_does_not_match_is_refused() -> None:
    with pytest.raises(ValueError, match="the same bins"):
        ScoreHistogram(np.zeros(3), np.zeros(4))
    with pytest.raises(ValueError, match="counts must be finite"):
        ScoreHistogram(np.array([np.nan]), np.zeros(1))
    with pytest.raises(ValueError, match="histograms of 2 and 3 bins"):
        ScoreHistogram(np.zeros(2), np.zeros(2)) + ScoreHistogram(np.zeros(3), np.zeros(3))
    with pytest.raises(ValueError, match="probabilities lie in"):
        ScoreHistogram.of([-0.1], [True], bins=4)
