from __future__ import annotations

import math

import pytest

from fedward.federation.best import Best, global_metric

WEIGHTS = {"a": 10, "b": 30}


def test_a_global_metric_is_the_weighted_mean() -> None:
    metrics = {"a": {"validation_score": 0.2}, "b": {"validation_score": 0.6}}
    assert global_metric(metrics, WEIGHTS) == pytest.approx(0.5)


def test_only_sites_that_share_it_count() -> None:
    assert global_metric({"a": {"validation_score": 0.2}, "b": {}}, WEIGHTS) == 0.2


def test_it_is_unknown_where_nobody_shares_it() -> None:
    assert global_metric({"a": {}, "b": {"validation_cases": 3}}, WEIGHTS) is None
    assert global_metric({}, WEIGHTS) is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.1, 1.01, 1e308])
def test_one_sites_nonsense_does_not_choose_the_model(value: float) -> None:
    metrics = {"a": {"validation_score": value}, "b": {"validation_score": 0.6}}
    assert global_metric(metrics, WEIGHTS) == pytest.approx(0.6)


def test_other_metrics_may_be_larger_than_one() -> None:
    metrics = {"a": {"validation_false_positives": 4.0}, "b": {"validation_false_positives": 1e300}}
    assert global_metric(metrics, WEIGHTS, "validation_false_positives") == 4.0


@pytest.mark.parametrize(
    ("best", "later", "is_beaten"),
    [(0.5, 0.6, True), (0.5, 0.5, True), (0.5, 0.4, False), (0.5, None, False), (None, 0.1, True), (None, None, True)],
)
def test_a_later_model_wins_unless_it_is_known_to_be_worse(
    best: float | None, later: float | None, is_beaten: bool
) -> None:
    assert Best(round_number=3, score=best).is_beaten_by(later) is is_beaten
