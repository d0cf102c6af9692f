"""The accountant against independent routes, and on the safe side."""

from __future__ import annotations

import json
import math

import dp_accounting
import numpy as np
import pytest
from dp_accounting.pld.privacy_loss_distribution import from_gaussian_mechanism
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants.analysis.rdp import compute_rdp, get_privacy_spent

from fedward.privacy.accounting import ORDERS, budget, calibrate, epsilon, renyi, renyi_cost
from fedward.privacy.mechanisms import Gaussian, Mechanism, SampledGaussian, Unprotected, as_data, from_data

RATES = st.floats(0.005, 1.0)
NOISES = st.floats(0.5, 20.0)
DELTAS = st.floats(-8.0, -3.0).map(lambda exponent: 10.0**exponent)
STEPS = st.integers(1, 5000)


def moments(rate: float, noise: float, order: int) -> float:
    """The sampled Gaussian's divergence by the binomial sum of Mironov, Talwar and Zhang 2019, section 3.3."""
    if rate == 1:
        return order / (2 * noise**2)
    logs = [
        math.lgamma(order + 1) - math.lgamma(k + 1) - math.lgamma(order - k + 1)
        + k * math.log(rate) + (order - k) * math.log1p(-rate) + (k * k - k) / (2 * noise**2)
        for k in range(order + 1)
    ]  # fmt: skip
    return float(np.logaddexp.reduce(logs)) / (order - 1)


@settings(max_examples=40, deadline=None)
@given(rate=RATES, noise=NOISES, steps=STEPS, delta=DELTAS)
def test_epsilon_is_that_of_an_independent_sum_over_the_same_orders(
    rate: float, noise: float, steps: int, delta: float
) -> None:
    independent = min(
        steps * moments(rate, noise, order) + math.log1p(-1 / order) - math.log(delta * order) / (order - 1)
        for order in ORDERS
    )
    ours = epsilon([SampledGaussian(rate, noise, steps)], delta)
    assert ours == pytest.approx(max(0.0, independent), rel=0.01, abs=1e-6)


@pytest.mark.filterwarnings("ignore:Optimal order is the")
@settings(max_examples=40, deadline=None)
@given(rate=RATES, noise=NOISES, steps=STEPS, delta=DELTAS)
def test_epsilon_is_that_of_opacus_given_the_same_orders(rate: float, noise: float, steps: int, delta: float) -> None:
    divergences = compute_rdp(q=rate, noise_multiplier=noise, steps=steps, orders=ORDERS)
    theirs, _ = get_privacy_spent(orders=ORDERS, rdp=divergences, delta=delta)
    assert epsilon([SampledGaussian(rate, noise, steps)], delta) == pytest.approx(max(0.0, theirs), rel=0.01, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(rate=RATES, noise=NOISES, steps=STEPS, delta=DELTAS)
def test_epsilon_is_never_below_an_optimistic_estimate(rate: float, noise: float, steps: int, delta: float) -> None:
    ours = epsilon([SampledGaussian(rate, noise, steps)], delta)
    if ours > 100:
        return  # far beyond any cap; the estimate's table of losses would not fit in memory
    optimistic = from_gaussian_mechanism(
        noise,
        sampling_prob=rate,
        pessimistic_estimate=False,
        value_discretization_interval=1e-3,
        neighboring_relation=dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE,
    )
    assert ours >= optimistic.self_compose(steps).get_epsilon_for_delta(delta)


@settings(max_examples=15, deadline=None)
@given(target=st.floats(0.5, 12.0), rate=st.floats(0.05, 1.0), steps=st.integers(10, 500), delta=DELTAS)
def test_calibration_never_gives_less_privacy_than_asked(target: float, rate: float, steps: int, delta: float) -> None:
    noise = calibrate(target, delta, lambda noise: [SampledGaussian(rate, noise, steps)])
    reached = epsilon([SampledGaussian(rate, noise, steps)], delta)
    assert reached <= target
    assert epsilon([SampledGaussian(rate, noise * 0.998, steps)], delta) > target


def test_releases_of_metrics_add_to_the_training() -> None:
    training, metrics = SampledGaussian(0.3, 1.5, 100), Gaussian(5.0, 10)
    assert renyi_cost([training, metrics], 4) == pytest.approx(renyi_cost([training], 4) + renyi_cost([metrics], 4))
    assert renyi_cost([metrics], 4) == pytest.approx(10 * 4 / (2 * 5.0**2))


def test_what_is_not_protected_costs_everything() -> None:
    assert math.isinf(renyi_cost([SampledGaussian(0.1, 10.0, 1), Unprotected()], 4))
    assert math.isinf(epsilon([Unprotected()], 1e-5))


@pytest.mark.parametrize(
    "mechanisms", [(), (SampledGaussian(0.25, 1.5, 30), Gaussian(4.0, 2)), (Unprotected(),)], ids=len
)
def test_mechanisms_are_the_same_after_json(mechanisms: tuple[Mechanism, ...]) -> None:
    assert from_data(json.loads(json.dumps(as_data(mechanisms)))) == mechanisms


def test_nothing_costs_nothing() -> None:
    assert epsilon([], 1e-5) == 0
    assert epsilon([SampledGaussian(0.5, 1.0, 0)], 1e-5) == 0
    assert not renyi([]).any()


@pytest.mark.parametrize("delta", [1e-3, 1e-5, 1e-8])
def test_a_budget_spent_to_the_full_gives_the_epsilon_that_it_was_made_for(delta: float) -> None:
    allowance = budget(8.0, delta, 8)
    noise = calibrate(8.0, delta, lambda noise: [SampledGaussian(1.0, noise, 1)])
    assert math.isfinite(noise)
    spent = [SampledGaussian(1.0, math.sqrt(8 / (2 * allowance)), 1)]  # its cost at order 8 is the whole allowance
    assert renyi_cost(spent, 8) == pytest.approx(allowance)
    assert epsilon(spent, delta) <= 8.0 + 1e-9


def test_the_fixed_order_costs_little_at_the_default_cap() -> None:
    """At epsilon 8 and delta 1e-5 a filter at one order lets through nearly what all orders would."""
    best = max(budget_in_steps(order) for order in range(3, 12))
    assert budget_in_steps(4) >= 0.95 * best


def budget_in_steps(order: int) -> float:
    return budget(8.0, 1e-5, order) / renyi_cost([SampledGaussian(0.5, 5.0, 1)], order)


@pytest.mark.parametrize(("target", "delta", "order"), [(0.5, 1e-5, 4), (8.0, 0.0, 4), (8.0, 1.0, 4)])
def test_an_impossible_budget_is_refused(target: float, delta: float, order: int) -> None:
    with pytest.raises(ValueError, match="delta"):
        budget(target, delta, order)


@pytest.mark.parametrize(
    "make",
    [
        lambda: SampledGaussian(0.0, 1.0, 1),
        lambda: SampledGaussian(1.1, 1.0, 1),
        lambda: SampledGaussian(0.5, 0.0, 1),
        lambda: SampledGaussian(0.5, float("nan"), 1),
        lambda: SampledGaussian(0.5, 1.0, -1),
        lambda: Gaussian(float("inf"), 1),
    ],
)
def test_numbers_out_of_range_make_no_mechanism(make: object) -> None:
    with pytest.raises(ValueError, match="got"):
        make()  # type: ignore[operator]
