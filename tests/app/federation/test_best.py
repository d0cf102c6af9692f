from __future__ import annotations

import math

import pytest

from fedward.federation.best import Best, Choice, global_metric

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


def chosen(*scores: float | None) -> int:
    choice = Choice()
    for number, score in enumerate(scores, start=1):
        choice = choice.after(number, score)
    assert choice.best is not None
    assert choice.best.score == scores[choice.best.round_number - 1]
    return choice.best.round_number


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ((0.5, 0.6), 2),
        ((0.5, 0.5), 2),
        ((0.5, 0.4), 1),
        ((0.5, None), 1),
        ((0.5, 0.6, None), 2),
        ((None, 0.1), 2),
        ((None, None), 2),
        ((0.5, 0.3, 0.6, 0.7), 4),
    ],
)
def test_a_later_model_wins_unless_it_is_known_to_be_worse(scores: tuple[float | None, ...], best: int) -> None:
    assert chosen(*scores) == best


def test_one_lucky_round_does_not_choose_the_model() -> None:
    assert chosen(0.50, 0.52, 0.75, 0.67, 0.69, 0.70, 0.70) == 7


def test_a_model_that_gets_worse_and_stays_so_is_not_chosen() -> None:
    assert chosen(0.50, 0.70, 0.72, 0.60, 0.55, 0.50) == 3


def test_patience_counts_scored_rounds_since_the_best() -> None:
    choice = Choice()
    assert not choice.has_stalled(patience=1)
    for number, score in ((1, 0.2), (2, 0.8), (3, 0.1), (4, None), (5, 0.1)):
        choice = choice.after(number, score)
    assert choice.best == Best(2, 0.8)
    assert [choice.has_stalled(patience=patience) for patience in (None, 1, 3, 4)] == [False, True, True, False]
    assert not choice.after(6, 1.0).has_stalled(patience=1)


def test_a_job_without_scores_never_stalls() -> None:
    choice = Choice()
    for number in range(1, 9):
        choice = choice.after(number, None)
    assert not choice.has_stalled(patience=1)
