from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_st
from pydantic import TypeAdapter

from fedward.errors import RoundFailed
from fedward.federation.algorithms import RoundFacts, Server, coordinate_median, server_of, trimmed_mean
from fedward.federation.averaging import weighted_mean
from fedward.settings.algorithms import AnyAlgorithm, algorithm_faults
from fedward.training.local_terms import next_control
from unlike_sites import UNLIKE, Quadratic, optimum, run

ADAPTER: TypeAdapter[Any] = TypeAdapter(AnyAlgorithm)
NAMES = ["fedavg", "fedavgm", "fedadam", "fedyogi", "fedprox", "scaffold", "fedbn", "median", "trimmed_mean"]
LINEAR = NAMES[:7]
FLAT = numpy_st.arrays(np.float32, 5, elements=st.floats(-100, 100, width=32))


def server(name: str, **changes: object) -> Server:
    return server_of(ADAPTER.validate_python({"name": name, **changes}))


def distance(x: np.ndarray, sites: dict[str, Quadratic] = UNLIKE) -> float:
    return float(np.linalg.norm(x - optimum(sites)))


@pytest.mark.parametrize(
    ("name", "neutral"),
    [
        ("fedavgm", {"momentum": 0.0}),
        ("fedadam", {"first_decay": 0.0, "second_decay": 1.0, "adaptivity": 0.5, "server_learning_rate": 1.0}),
        ("fedyogi", {"first_decay": 0.0, "second_decay": 1.0, "adaptivity": 0.5, "server_learning_rate": 1.0}),
        ("fedprox", {"proximal": 0.0}),
        ("scaffold", {}),
        ("fedbn", {}),
    ],
)
def test_each_is_fedavg_at_its_neutral_numbers(name: str, neutral: dict[str, float]) -> None:
    plain, other = run(server("fedavg"), rounds=12), run(server(name, **neutral), rounds=12)
    np.testing.assert_allclose(other, plain, rtol=1e-5, atol=1e-6)
    assert np.abs(plain[-1]).max() > 1


def test_with_one_step_a_round_fedavg_is_gradient_descent_on_the_sum() -> None:
    assert distance(run(server("fedavg"), rounds=400, steps=1, rate=0.3)[-1]) < 1e-4


def test_with_many_steps_unlike_sites_pull_fedavg_off_the_optimum() -> None:
    history = run(server("fedavg"), rounds=300, steps=20)
    np.testing.assert_allclose(history[-1], history[-2], atol=1e-6)
    assert distance(history[-1]) > 0.5


def test_scaffold_reaches_the_optimum_where_fedavg_does_not() -> None:
    assert distance(run(server("scaffold"), rounds=300, steps=20, corrects=True)[-1]) < 1e-3


def test_the_servers_control_is_the_mean_of_the_sites_controls_though_none_is_sent() -> None:
    generator = np.random.default_rng(0)
    own = {name: generator.normal(size=4).astype(np.float32) for name in "abc"}
    weights = {"a": 10, "b": 20, "c": 30}
    of_server = weighted_mean(own, weights)
    updates = {name: generator.normal(size=4).astype(np.float32) for name in "abc"}
    after = {name: own[name] - of_server - updates[name] / 0.8 for name in "abc"}
    _, (control,) = server("scaffold").apply(
        (of_server,), np.zeros(4, np.float32), weighted_mean(updates, weights), RoundFacts(local_distance=0.8)
    )
    np.testing.assert_allclose(control, weighted_mean(after, weights), rtol=1e-5, atol=1e-6)


def test_half_the_sites_move_the_servers_control_half_as_far() -> None:
    update, zero = np.ones(2, np.float32), np.zeros(2, np.float32)
    for share in (1.0, 0.5):
        _, (control,) = server("scaffold").apply((zero,), zero, update, RoundFacts(share, local_distance=2.0))
        np.testing.assert_allclose(control, -0.5 * share)


def test_a_site_that_joins_later_brings_a_control_of_zero() -> None:
    # Two sites of weight 10 had controls of mean 3; a third of weight 20 joins and all take part.
    own = {"a": np.full(2, 2.0, np.float32), "b": np.full(2, 4.0, np.float32), "c": np.zeros(2, np.float32)}
    weights, of_server = {"a": 10, "b": 10, "c": 20}, np.full(2, 3.0, np.float32)
    updates = {"a": np.full(2, 1.0, np.float32), "b": np.full(2, -2.0, np.float32), "c": np.full(2, 0.5, np.float32)}
    after = {name: next_control(own[name], of_server, updates[name], local_distance=0.5) for name in own}
    _, (control,) = server("scaffold").apply(
        (of_server,),
        np.zeros(2, np.float32),
        weighted_mean(updates, weights),
        RoundFacts(share=1.0, known=0.5, local_distance=0.5),
    )
    np.testing.assert_allclose(control, weighted_mean(after, weights), rtol=1e-5)


def test_scaffold_without_the_rounds_learning_rates_is_refused() -> None:
    zero = np.zeros(2, np.float32)
    with pytest.raises(ValueError, match="sum of a round's learning rates"):
        server("scaffold").apply((zero,), zero, zero, RoundFacts())


def test_a_stronger_proximal_term_ends_nearer_to_the_optimum() -> None:
    ends = [distance(run(server("fedprox"), rounds=3000, steps=20, proximal=mu)[-1]) for mu in (0.0, 1.0, 5.0)]
    assert ends[0] > 1.4 * ends[1] > 4 * ends[2]


def test_with_a_strong_proximal_term_the_loss_falls_in_every_round() -> None:
    def loss(x: np.ndarray) -> float:
        return sum(float(s.weight * (s.curvature * (x - s.centre) ** 2).sum()) for s in UNLIKE.values())

    losses = [loss(x) for x in run(server("fedprox"), rounds=100, steps=20, proximal=5.0)]
    assert all(later < earlier for earlier, later in itertools.pairwise(losses))


@pytest.mark.parametrize("name", ["fedadam", "fedyogi"])
def test_an_adaptive_server_comes_near_the_optimum_and_nearer_at_a_smaller_rate(name: str) -> None:
    ends = [
        distance(run(server(name, server_learning_rate=rate), rounds=6000, steps=1, rate=0.1)[-1])
        for rate in (0.05, 0.005)
    ]
    assert ends[0] < 0.3
    assert ends[1] < 0.03


@pytest.mark.parametrize("name", ["fedadam", "fedyogi"])
def test_an_adaptive_server_moves_numbers_whose_gradients_are_tiny(name: str) -> None:
    tiny = np.array([1.0, 1e-3, 1e-3])
    sites = {k: Quadratic(site.centre, site.curvature * tiny, site.weight) for k, site in UNLIKE.items()}
    plain = run(server("fedavg"), sites, rounds=400, steps=1)[-1]
    adaptive = run(server(name, server_learning_rate=0.02, adaptivity=1e-6), sites, rounds=400, steps=1)[-1]
    assert distance(plain, sites) > 2.5
    assert distance(adaptive, sites) < 0.5


def test_an_adams_first_round_by_hand() -> None:
    start, update = np.zeros(1, np.float32), np.array([0.2], np.float32)
    chosen = server("fedadam", server_learning_rate=0.1, first_decay=0.9, second_decay=0.99, adaptivity=0.01)
    x, (first, second) = chosen.apply(chosen.init(start), start, update, RoundFacts())
    assert first[0] == pytest.approx(0.02)
    assert second[0] == pytest.approx(0.99 * 1e-4 + 0.01 * 0.04)
    assert x[0] == pytest.approx(0.1 * 0.02 / (np.sqrt(0.000499) + 0.01), rel=1e-5)


def test_yogi_forgets_a_large_update_slower_than_adam() -> None:
    start, large, small = np.zeros(1, np.float32), np.ones(1, np.float32), np.full(1, 1e-3, np.float32)
    left = {}
    for name in ("fedadam", "fedyogi"):
        chosen = server(name, second_decay=0.9)
        _, state = chosen.apply(chosen.init(start), start, large, RoundFacts())
        for _ in range(30):
            _, state = chosen.apply(state, start, small, RoundFacts())
        left[name] = float(state[1][0])
    assert left["fedyogi"] > 0.099 > 10 * left["fedadam"]


def test_momentum_goes_further_in_the_same_rounds() -> None:
    slow = {"rounds": 30, "steps": 1, "rate": 0.02}
    assert distance(run(server("fedavgm"), **slow)[-1]) < 0.6 * distance(run(server("fedavg"), **slow)[-1])


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from("abcdefg"), FLAT, min_size=3), FLAT)
def test_one_liar_moves_the_median_no_further_than_the_honest_sites_spread(
    honest: dict[str, np.ndarray], lie: np.ndarray
) -> None:
    stacked = np.stack(list(honest.values()))
    for found in (
        coordinate_median({**honest, "liar": 1e6 * lie}),
        trimmed_mean({**honest, "liar": 1e6 * lie}, share=0.3),
    ):
        assert (found >= stacked.min(axis=0) - 1e-3).all()
        assert (found <= stacked.max(axis=0) + 1e-3).all()


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from("abcdefg"), FLAT, min_size=1))
def test_a_mean_with_nothing_trimmed_is_fedavg_of_equal_weights(updates: dict[str, np.ndarray]) -> None:
    equal = weighted_mean(updates, dict.fromkeys(updates, 10))
    np.testing.assert_allclose(trimmed_mean(updates, share=0.0), equal, rtol=1e-5, atol=1e-5)


def test_a_trimmed_mean_by_hand() -> None:
    updates = {name: np.array([value], np.float32) for name, value in zip("abcde", (1, 2, 3, 6, 1000), strict=True)}
    assert trimmed_mean(updates, share=0.2)[0] == pytest.approx(11 / 3)
    assert coordinate_median(updates)[0] == 3


@pytest.mark.parametrize("name", ["median", "trimmed_mean"])
def test_nothing_to_combine_is_refused(name: str) -> None:
    with pytest.raises(RoundFailed, match="zero_weight"):
        server(name).combine({}, {})


@pytest.mark.parametrize("name", NAMES)
def test_what_an_algorithm_says_of_itself_is_true(name: str) -> None:
    generator = np.random.default_rng(1)
    updates = {site: generator.normal(size=6).astype(np.float32) for site in "abcd"}
    weights = {"a": 10, "b": 40, "c": 20, "d": 90}
    chosen = server(name)
    is_mean = np.allclose(chosen.combine(updates, weights), weighted_mean(updates, weights))
    assert chosen.is_linear == is_mean == ADAPTER.validate_python({"name": name}).is_linear == (name in LINEAR)


@pytest.mark.parametrize("name", NAMES)
def test_the_encrypted_sum_takes_the_linear_ones_and_the_refusal_says_why(name: str) -> None:
    algorithm = ADAPTER.validate_python({"name": name})
    assert algorithm_faults(algorithm, exchange_mode="plain") == ()
    faults = algorithm_faults(algorithm, exchange_mode="secure-sum")
    assert (faults == ()) == (name in LINEAR)
    assert all(fault.startswith(f"algorithm {name} must see each site's own update") for fault in faults)


@pytest.mark.parametrize("name", NAMES)
def test_state_and_arguments_stay_as_they_were(name: str) -> None:
    chosen, weights, update = server(name), np.ones(3, np.float32), np.full(3, 0.5, np.float32)
    state = chosen.init(weights)
    kept = [part.copy() for part in state]
    after, next_state = chosen.apply(state, weights, update, RoundFacts(local_distance=1.0))
    assert after.dtype == np.float32
    assert all(part.dtype == np.float32 for part in next_state)
    assert (weights == 1).all()
    assert (update == 0.5).all()
    for part, before in zip(state, kept, strict=True):
        np.testing.assert_array_equal(part, before)
