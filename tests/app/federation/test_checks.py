from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_st

from fedward.errors import UpdateRefused
from fedward.federation.checks import check_update, check_weight, public_weight

FLAT = numpy_st.arrays(np.float32, st.integers(1, 40), elements=st.floats(-100, 100, width=32))


@settings(deadline=None)
@given(FLAT, st.floats(0.1, 500))
def test_norm_is_at_most_the_bound(update: np.ndarray, bound: float) -> None:
    norm = float(np.linalg.norm(update.astype(np.float64)))
    assume(abs(norm - bound) > 1e-9 * bound)
    if norm < bound:
        check_update(update, size=update.size, max_norm=bound)
    else:
        with pytest.raises(UpdateRefused, match="norm_exceeded"):
            check_update(update, size=update.size, max_norm=bound)


def test_a_norm_of_exactly_the_bound_is_accepted() -> None:
    check_update(np.array([3, 4], np.float32), size=2, max_norm=5.0)


@settings(deadline=None)
@given(FLAT, st.integers(min_value=0), st.sampled_from([np.nan, np.inf, -np.inf]))
def test_one_value_that_is_not_finite_is_found_anywhere(update: np.ndarray, place: int, value: float) -> None:
    update[place % update.size] = value
    with pytest.raises(UpdateRefused, match="not_finite"):
        check_update(update, size=update.size, max_norm=1e6)


def test_infinities_of_both_signs_do_not_cancel() -> None:
    with pytest.raises(UpdateRefused, match="not_finite"):
        check_update(np.array([np.inf, -np.inf], np.float32), size=2, max_norm=1e6)


def test_the_largest_finite_values_are_too_large_and_not_infinite() -> None:
    update = np.full(1000, np.finfo(np.float32).max, np.float32)
    with pytest.raises(UpdateRefused, match="norm_exceeded"):
        check_update(update, size=1000, max_norm=1e6)


@pytest.mark.parametrize(
    "update",
    [
        np.zeros(3, np.float32),
        np.zeros(5, np.float32),
        np.zeros((4, 1), np.float32),
        np.zeros((2, 2), np.float32),
        np.zeros(4, np.float64),
        np.zeros(4, np.float16),
        np.zeros(4, np.int32),
        np.zeros(4, ">f4"),
        np.zeros(4, np.complex64),
        np.array([None] * 4),
    ],
    ids=lambda update: f"{update.dtype.str}{update.shape}",
)
def test_another_layout_is_refused(update: np.ndarray) -> None:
    with pytest.raises(UpdateRefused, match="wrong_layout"):
        check_update(update, size=4, max_norm=1.0)


@settings(deadline=None)
@given(st.integers(0, 10**7), st.integers(10, 100_000))
def test_a_public_weight_is_coarse_capped_and_passes_its_own_check(patients: int, cap: int) -> None:
    weight = public_weight(patients, cap=cap)
    check_weight(weight, cap=cap, pinned=weight)
    assert weight == 10 or weight <= patients


@pytest.mark.parametrize(
    ("patients", "weight"), [(0, 10), (9, 10), (10, 10), (19, 10), (20, 20), (999, 990), (1001, 990)]
)
def test_patients_are_rounded_down_to_tens(patients: int, weight: int) -> None:
    assert public_weight(patients, cap=999) == weight


@pytest.mark.parametrize("weight", [0, -10, 5, 11, 15, 1010, 10**30, 20.0, True, "20", None, np.int64(20)])
def test_any_other_weight_is_refused(weight: object) -> None:
    with pytest.raises(UpdateRefused, match="weight_invalid"):
        check_weight(weight, cap=1000, pinned=None)  # type: ignore[arg-type]


def test_a_site_keeps_its_first_weight() -> None:
    check_weight(30, cap=1000, pinned=30)
    with pytest.raises(UpdateRefused, match="weight_changed"):
        check_weight(40, cap=1000, pinned=30)
