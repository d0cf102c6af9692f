from __future__ import annotations

import gc
import itertools
import weakref

import numpy as np
import pytest

from fedward.errors import RoundFailed
from fedward.federation.round import Contribution, Failure, Participation, Round, Rules

SITES = ("east", "north", "south", "west")
RULES = Rules(size=2, max_update_norm=10.0, weight_cap=100, minimum=2)
UPDATES = {site: np.array([place, -place], np.float32) for place, site in enumerate(SITES, start=1)}
WEIGHTS = {site: 10 * place for place, site in enumerate(SITES, start=1)}


def contribution(site: str, **more: object) -> Contribution:
    return Contribution(**{"update": UPDATES[site], "weight": WEIGHTS[site], **more})  # type: ignore[arg-type]


def opened(*, silent: tuple[str, ...] = (), minimum: int = 2, weights: dict[str, int] | None = None) -> Round:
    rules = Rules(size=2, max_update_norm=10.0, weight_cap=100, minimum=minimum)
    participation = Participation(sites=SITES, silent=frozenset(silent), weights=weights or {})
    return Round(number=5, rules=rules, participation=participation)


def after(current: Round, answers: dict[str, Contribution | Failure]) -> Round:
    for site, answer in answers.items():
        current = current.receive(site, answer)
    return current


@pytest.mark.parametrize("pattern", list(itertools.product("cfs", repeat=4)), ids="".join)
def test_every_pattern_of_contribution_failure_and_silence(pattern: tuple[str, ...]) -> None:
    giving = [site for site, what in zip(SITES, pattern, strict=True) if what == "c"]
    failures = {site: "no_space" for site, what in zip(SITES, pattern, strict=True) if what == "f"}
    silent = {site: "deadline_missed" for site, what in zip(SITES, pattern, strict=True) if what == "s"}
    current = after(opened(), {site: contribution(site) for site in giving})
    current = after(current, {site: Failure(code) for site, code in failures.items()})

    assert current.is_complete == (not silent)
    assert current.all_failures() == {**failures, **silent}
    assert current.next_participation().silent == set(silent)
    if len(giving) < 2:
        with pytest.raises(RoundFailed, match="too_few_sites") as caught:
            current.close()
        assert all(site in caught.value.detail for site in {**failures, **silent})
        return
    outcome = current.close()
    total = sum(WEIGHTS[site] for site in giving)
    expected = sum(WEIGHTS[site] * UPDATES[site].astype(np.float64) for site in giving) / total
    np.testing.assert_allclose(outcome.update, expected, rtol=1e-6)
    assert outcome.weights == {site: WEIGHTS[site] for site in giving}
    assert outcome.failures == {**failures, **silent}
    assert outcome.number == 5


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"update": np.array([np.nan, 0], np.float32)}, "not_finite"),
        ({"update": np.array([np.inf, 0], np.float32)}, "not_finite"),
        ({"update": np.zeros(3, np.float32)}, "wrong_layout"),
        ({"update": np.zeros(2, np.float64)}, "wrong_layout"),
        ({"update": np.array([8, 8], np.float32)}, "norm_exceeded"),
        ({"weight": 0}, "weight_invalid"),
        ({"weight": 15}, "weight_invalid"),
        ({"weight": 110}, "weight_invalid"),
        ({"weight": 20}, "weight_changed"),
    ],
)
def test_a_bad_answer_costs_its_site_alone(more: dict[str, object], code: str) -> None:
    current = opened(weights=WEIGHTS).receive("west", contribution("west", **more))
    current = after(current, {site: contribution(site) for site in SITES[:3]})
    assert current.is_complete
    outcome = current.close()
    assert outcome.failures == {"west": code}
    assert sorted(outcome.weights) == list(SITES[:3])
    assert np.isfinite(outcome.update).all()


def test_a_second_answer_changes_nothing() -> None:
    first = after(opened(), {"east": contribution("east"), "north": Failure("no_space")})
    again = after(first, {"east": contribution("west"), "north": contribution("north")})
    again = again.receive("east", Failure("aborted"))
    assert again is first


def test_nobody_answers_who_was_not_asked() -> None:
    current = opened()
    assert current.receive("stranger", contribution("east")) is current


def test_an_open_round_is_a_value() -> None:
    before = opened()
    before.receive("east", contribution("east"))
    assert before.answered == frozenset()


def test_the_order_of_answers_changes_no_bit() -> None:
    closed = {
        after(opened(), {site: contribution(site) for site in order}).close().update.tobytes()
        for order in itertools.permutations(SITES)
    }
    assert len(closed) == 1


def test_a_silent_site_is_not_waited_for_but_counts_when_it_comes() -> None:
    current = after(opened(silent=("west",)), {site: contribution(site) for site in SITES[:3]})
    assert current.is_complete
    assert current.next_participation().silent == {"west"}
    with_west = current.receive("west", contribution("west"))
    assert sorted(with_west.close().weights) == sorted(SITES)
    assert with_west.next_participation().silent == frozenset()


def test_a_silent_site_is_waited_for_again_once_it_was_heard() -> None:
    participation = Participation(sites=SITES, silent=frozenset({"west", "east"})).heard("west")
    assert participation.waited_for == ("north", "south", "west")


def test_an_error_is_an_answer() -> None:
    current = opened(silent=("west",)).receive("west", Failure("deadline_missed"))
    assert "west" not in current.next_participation().silent


def test_below_the_minimum_silent_sites_get_the_whole_deadline() -> None:
    current = opened(silent=("south", "west"), minimum=3)
    current = after(current, {"east": contribution("east"), "north": contribution("north")})
    assert not current.is_complete
    assert current.receive("south", contribution("south")).is_complete


def test_everybody_is_waited_for_when_everybody_is_silent() -> None:
    current = opened(silent=SITES)
    assert not current.is_complete
    assert current.participation.waited_for == SITES


def test_the_first_weight_of_a_site_holds_for_the_job() -> None:
    first = after(opened(), {"east": contribution("east"), "north": contribution("north", weight=50)})
    participation = first.next_participation()
    assert participation.weights == {"east": 10, "north": 50}
    second = Round(number=6, rules=RULES, participation=participation)
    second = after(second, {"north": contribution("north", weight=60), "west": contribution("west")})
    assert second.failures == {"north": "weight_changed"}
    assert second.next_participation().weights == {"east": 10, "north": 50, "west": 40}


def test_metrics_come_from_contributors_alone() -> None:
    current = after(
        opened(),
        {
            "east": contribution("east", metrics={"validation_score": 0.5}),
            "north": contribution("north", weight=7, metrics={"validation_score": 0.9}),
            "south": contribution("south"),
        },
    )
    assert current.close().metrics == {"east": {"validation_score": 0.5}, "south": {}}


def test_an_outcome_keeps_no_single_update() -> None:
    updates = {site: UPDATES[site].copy() for site in SITES}
    seen = [weakref.ref(update) for update in updates.values()]
    current = after(opened(), {site: contribution(site, update=update) for site, update in updates.items()})
    outcome, participation = current.close(), current.next_participation()
    del current, updates
    gc.collect()
    assert [reference() for reference in seen] == [None] * 4
    assert outcome.weights == participation.weights
