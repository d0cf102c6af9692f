from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_st

from fedward.errors import RoundFailed, SumRefused, UpdateRefused
from fedward.federation.averaging import weighted_mean
from fedward.federation.quantise import Quantiser
from fedward.randomness import Secret

SECRET = Secret()
SIZE = 9


def quantiser(sites: int = 3, cap: int = 1000, **more: object) -> Quantiser:
    return Quantiser.finest(SIZE, clip=0.5, weight_cap=cap, sites=sites, **more)  # type: ignore[arg-type]


UPDATES = numpy_st.arrays(np.float32, SIZE, elements=st.floats(-0.5, 0.5, width=32))
WEIGHTS = st.integers(1, 100).map(lambda tens: 10 * tens)


@settings(deadline=None)
@given(st.lists(st.tuples(UPDATES, WEIGHTS), min_size=1, max_size=8), st.integers(8, 64))
def test_the_decoded_sum_is_fedavg_within_the_step(given: list[tuple[np.ndarray, int]], sites: int) -> None:
    coder = quantiser(sites)
    vectors = [coder.encode(update, weight=weight, metrics={}, secret=SECRET).vector for update, weight in given]
    decoded = coder.decode(np.sum(vectors, axis=0, dtype=np.uint32), contributors=len(given))
    updates = {str(at): update for at, (update, _) in enumerate(given)}
    weights = {str(at): weight for at, (_, weight) in enumerate(given)}
    assert decoded.weight == sum(weights.values())
    assert decoded.update.dtype == np.float32
    # Each site rounds by less than a step of ten patients; the mean divides by the tens of all.
    bound = len(given) * coder.step / (decoded.weight / 10) + 1e-7 * coder.clip
    np.testing.assert_allclose(decoded.update, weighted_mean(updates, weights), rtol=0, atol=bound)


@settings(deadline=None)
@given(st.integers(1, 2000), st.integers(10, 100_000), st.integers(1, 2**31), st.integers(1, 2**31))
def test_no_accepted_format_can_overflow(sites: int, cap: int, levels: int, metric_levels: int) -> None:
    largest = sites * max(cap // 10 * levels, metric_levels)
    code = "overflow_possible" if largest >= 2**31 else "rounding_too_coarse"
    if largest >= 2**31 or min(levels, metric_levels) < 1000:
        with pytest.raises(SumRefused, match=code):
            Quantiser(1, 1.0, levels, cap, sites, ("m",), 1.0, metric_levels)
    else:
        assert Quantiser(1, 1.0, levels, cap, sites, ("m",), 1.0, metric_levels).step <= 1e-3


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("sites", [3, 8, 64])
def test_the_largest_honest_sum_decodes_to_the_clip(sign: int, sites: int) -> None:
    coder = quantiser(sites, metrics=("m",), metric_bound=7.0)
    extreme = np.full(SIZE, sign * 1e30, np.float32)
    encoded = coder.encode(extreme, weight=1000, metrics={"m": sign * 1e9}, secret=SECRET)
    total = np.zeros(coder.length, np.uint32)
    for _ in range(sites):
        total += encoded.vector
    decoded = coder.decode(total, contributors=sites)
    assert encoded.clipped == SIZE + 1
    np.testing.assert_allclose(decoded.update, sign * 0.5, rtol=1e-6)
    assert decoded.metrics["m"] == pytest.approx(sign * 7.0 * sites)


def test_one_site_too_many_could_overflow() -> None:
    coder = quantiser(8)
    assert replace(coder, metric_levels=1000).sites == 8
    with pytest.raises(SumRefused, match="overflow_possible"):
        replace(coder, metric_levels=1000, sites=9)
    with pytest.raises(SumRefused, match="overflow_possible"):
        replace(coder, levels=coder.levels + 1)
    with pytest.raises(SumRefused, match="overflow_possible"):
        replace(coder, metric_levels=coder.metric_levels + 1)


def test_steps_of_more_than_a_thousandth_of_the_clip_are_refused() -> None:
    assert quantiser(2000, 10_000).step <= 0.5e-3
    with pytest.raises(SumRefused, match="rounding_too_coarse"):
        quantiser(2000, 100_000)
    with pytest.raises(SumRefused, match="rounding_too_coarse"):
        replace(quantiser(), levels=999)


def test_steps_of_more_than_a_hundredth_of_the_noise_are_refused() -> None:
    coder = quantiser()
    coder.check_noise(coder.step * 100.001)
    with pytest.raises(SumRefused, match="rounding_too_coarse"):
        coder.check_noise(coder.step * 99)


def test_clipped_numbers_are_counted_and_clipped() -> None:
    update = np.array([0.5, -0.5, 0.6, -3, 0, 0.1, 0.2, 0.3, 0.4], np.float32)
    coder = quantiser()
    encoded = coder.encode(update, weight=10, metrics={}, secret=SECRET)
    assert encoded.clipped == 2
    decoded = coder.decode(encoded.vector, contributors=1)
    np.testing.assert_allclose(decoded.update, np.clip(update, -0.5, 0.5), atol=coder.step)


def test_rounding_has_no_bias_and_is_not_repeated() -> None:
    coder = replace(quantiser(), levels=1000)
    update = np.full(SIZE, 0.3 * coder.step, np.float32)
    decoded = [
        coder.decode(coder.encode(update, weight=10, metrics={}, secret=SECRET).vector, contributors=1).update
        for _ in range(2000)
    ]
    ups = np.array(decoded) / coder.step
    assert set(np.unique(np.rint(ups))) == {0.0, 1.0}
    assert len({part.tobytes() for part in decoded}) > 100
    # 18,000 draws of a coin of mean 0.3: five standard errors.
    assert ups.mean() == pytest.approx(0.3, abs=5 * (0.21 / 18_000) ** 0.5)


def test_metrics_are_summed_with_their_own_scale_and_in_no_weight() -> None:
    coder = quantiser(metrics=("total", "patients"), metric_bound=1e4)
    given = [({"total": -3.25, "patients": 12.5}, 10), ({"total": 17.75, "patients": 30.0}, 1000)]
    update = np.zeros(SIZE, np.float32)
    vectors = [coder.encode(update, weight=w, metrics=m, secret=SECRET).vector for m, w in given]
    decoded = coder.decode(vectors[0] + vectors[1], contributors=2)
    assert decoded.metrics == pytest.approx({"total": 14.5, "patients": 42.5}, abs=2 * coder.metric_step)
    assert coder.metric_step < 1e-4


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused(value: float) -> None:
    coder = quantiser(metrics=("m",))
    bad = np.zeros(SIZE, np.float32)
    bad[4] = value
    with pytest.raises(UpdateRefused, match="not_finite"):
        coder.encode(bad, weight=10, metrics={"m": 0.0}, secret=SECRET)
    with pytest.raises(UpdateRefused, match="not_finite"):
        coder.encode(np.zeros(SIZE, np.float32), weight=10, metrics={"m": value}, secret=SECRET)


@pytest.mark.parametrize("update", [np.zeros(SIZE), np.zeros(SIZE + 1, np.float32), np.zeros((SIZE, 1), np.float32)])
def test_another_layout_is_refused(update: np.ndarray) -> None:
    with pytest.raises(UpdateRefused, match="wrong_layout"):
        quantiser().encode(update, weight=10, metrics={}, secret=SECRET)


@pytest.mark.parametrize("weight", [0, 5, 15, 1010, 20.0])
def test_a_weight_that_is_not_public_is_refused(weight: int) -> None:
    with pytest.raises(UpdateRefused, match="weight_invalid"):
        quantiser().encode(np.zeros(SIZE, np.float32), weight=weight, metrics={}, secret=SECRET)


@pytest.mark.parametrize("metrics", [{}, {"n": 1.0}, {"m": 1.0, "n": 1.0}])
def test_other_metrics_than_the_jobs_are_refused(metrics: dict[str, float]) -> None:
    with pytest.raises(UpdateRefused, match="wrong_metrics"):
        quantiser(metrics=("m",)).encode(np.zeros(SIZE, np.float32), weight=10, metrics=metrics, secret=SECRET)


def test_noise_is_no_sum() -> None:
    """The weight alone passes with 300 of 2^32 chances."""
    coder = quantiser(metrics=("m",))
    generator = np.random.default_rng(1)
    for _ in range(100):
        with pytest.raises(RoundFailed, match="sum_unreadable"):
            coder.decode(generator.integers(0, 2**32, coder.length, np.uint32), contributors=3)


@pytest.mark.parametrize("place", [0, SIZE - 1, SIZE])
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_number_beyond_what_honest_sites_can_reach_is_refused(place: int, sign: int) -> None:
    coder = quantiser(metrics=("m",))
    total = np.zeros(coder.length, np.int64)
    total[-1] = 2
    total[place] = sign * 2 * (coder.levels if place < SIZE else coder.metric_levels)
    coder.decode(total.astype(np.uint32), contributors=2)
    total[place] += sign
    with pytest.raises(RoundFailed, match="sum_unreadable"):
        coder.decode(total.astype(np.uint32), contributors=2)


@pytest.mark.parametrize("units", [0, 1, 201, 2**32 - 1])
def test_a_weight_that_so_many_sites_cannot_have_is_refused(units: int) -> None:
    total = np.zeros(SIZE + 1, np.uint32)
    total[-1] = units
    with pytest.raises(RoundFailed, match="sum_unreadable"):
        quantiser().decode(total, contributors=2)


@pytest.mark.parametrize("total", [np.zeros(SIZE, np.uint32), np.zeros(SIZE + 1, np.int32)])
def test_a_sum_of_another_layout_is_refused(total: np.ndarray) -> None:
    with pytest.raises(RoundFailed, match="sum_unreadable"):
        quantiser().decode(total, contributors=1)


def test_every_parameter_is_in_the_digest() -> None:
    base = Quantiser(SIZE, 1.0, 5000, 1000, 8, ("a", "b"), 2.0, 6000)
    others = [
        replace(base, size=8), replace(base, clip=1.5), replace(base, levels=5001), replace(base, weight_cap=990),
        replace(base, sites=7), replace(base, metrics=("b", "a")), replace(base, metric_bound=2.5),
        replace(base, metric_levels=6001),
    ]  # fmt: skip
    assert len({coder.digest for coder in (base, *others)}) == 9
    assert replace(base).digest == base.digest


@pytest.mark.parametrize(
    "wrong", [{"size": 0}, {"clip": 0.0}, {"clip": float("inf")}, {"weight_cap": 9}, {"metrics": ("a", "a")}]
)
def test_a_format_that_means_nothing_is_a_programming_fault(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="got"):
        replace(quantiser(), **wrong)


def test_a_long_update_has_no_seams() -> None:
    coder = Quantiser.finest(200_001, clip=1.0, weight_cap=1000, sites=3)
    update = np.linspace(-1, 1, 200_001).astype(np.float32)
    decoded = coder.decode(coder.encode(update, weight=30, metrics={}, secret=SECRET).vector, contributors=1)
    np.testing.assert_allclose(decoded.update, update, atol=coder.step)
