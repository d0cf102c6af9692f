from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_st

from fedward.errors import RoundFailed
from fedward.federation.averaging import apply_update, weighted_mean

UPDATES = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=4),
    st.tuples(
        numpy_st.arrays(np.float32, 7, elements=st.floats(-1e6, 1e6, width=32)),
        st.integers(1, 100).map(lambda tens: 10 * tens),
    ),
    min_size=1,
    max_size=6,
)


def test_a_mean_by_hand() -> None:
    updates = {"a": np.array([1, 0], np.float32), "b": np.array([4, 3], np.float32)}
    assert weighted_mean(updates, {"a": 20, "b": 10}).tolist() == [2.0, 1.0]


@settings(deadline=None)
@given(UPDATES)
def test_the_mean_is_numpys_weighted_average(given: dict[str, tuple[np.ndarray, int]]) -> None:
    updates = {site: update for site, (update, _) in given.items()}
    weights = {site: weight for site, (_, weight) in given.items()}
    stacked = np.stack([updates[site].astype(np.float64) for site in updates])
    expected = np.average(stacked, axis=0, weights=[weights[site] for site in updates])
    mean = weighted_mean(updates, weights)
    assert mean.dtype == np.float32
    np.testing.assert_allclose(mean, expected, rtol=1e-6, atol=1e-9 * float(np.abs(stacked).max()))


@settings(deadline=None)
@given(UPDATES)
def test_who_answers_first_changes_no_bit(given: dict[str, tuple[np.ndarray, int]]) -> None:
    weights = {site: weight for site, (_, weight) in given.items()}
    means = {
        weighted_mean({site: given[site][0] for site in order}, weights).tobytes()
        for order in itertools.islice(itertools.permutations(given), 24)
    }
    assert len(means) == 1


def test_equal_updates_are_their_own_mean_whatever_the_weights() -> None:
    update = np.linspace(-3, 3, 50).astype(np.float32)
    mean = weighted_mean({"a": update, "b": update, "c": update}, {"a": 10, "b": 70, "c": 1000})
    np.testing.assert_allclose(mean, update, rtol=1e-6)


def test_the_sum_keeps_what_float32_would_lose() -> None:
    big, small = np.array([2**25], np.float32), np.array([1], np.float32)
    mean = weighted_mean({"a": big, "b": small, "c": -big}, {"a": 10, "b": 10, "c": 10})
    assert mean[0] == pytest.approx(1 / 3, abs=1e-7)


def test_a_long_update_has_no_seams() -> None:
    updates = {"a": np.arange(200_001, dtype=np.float32), "b": np.zeros(200_001, np.float32)}
    mean = weighted_mean(updates, {"a": 10, "b": 10})
    assert np.array_equal(mean, np.arange(200_001, dtype=np.float32) / 2)


def test_the_updates_stay_as_they_were() -> None:
    update = np.ones(3, np.float32)
    weighted_mean({"a": update, "b": update}, {"a": 10, "b": 20})
    assert update.tolist() == [1, 1, 1]


@pytest.mark.parametrize(("updates", "weights"), [({}, {}), ({"a": np.ones(2, np.float32)}, {"a": 0})])
def test_nothing_to_divide_by_is_refused(updates: dict[str, np.ndarray], weights: dict[str, int]) -> None:
    with pytest.raises(RoundFailed, match="zero_weight"):
        weighted_mean(updates, weights)


def test_the_next_model_is_the_old_one_plus_the_update() -> None:
    weights, update = np.array([1, 2], np.float32), np.array([0.5, -2], np.float32)
    model = apply_update(weights, update)
    assert model.tolist() == [1.5, 0.0]
    assert model.dtype == np.float32
    assert weights.tolist() == [1, 2]
