from __future__ import annotations

import numpy as np
import pytest

from fedward.evaluation.bootstrap import mean_interval, paired_difference


def generator(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_the_estimate_is_the_mean_over_all_values_not_over_patients() -> None:
    result = mean_interval({"a": [0.0, 0.0, 0.0], "b": [1.0]}, generator())
    assert result.estimate == pytest.approx(0.25)
    assert (result.patients, result.values) == (2, 4)


def test_the_interval_is_the_normal_one_where_the_normal_one_holds() -> None:
    drawn = generator(5).normal(0.6, 0.2, size=400)
    result = mean_interval({str(k): [float(value)] for k, value in enumerate(drawn)}, generator(), level=0.90)
    half = 1.645 * drawn.std() / 20  # the standard error of a mean of 400
    assert result.low == pytest.approx(drawn.mean() - half, abs=0.1 * half)
    assert result.high == pytest.approx(drawn.mean() + half, abs=0.1 * half)


def test_alike_lesions_of_one_patient_do_not_make_the_interval_narrower() -> None:
    drawn = generator(3).normal(0.5, 0.2, size=30)
    single = mean_interval({str(k): [float(v)] for k, v in enumerate(drawn)}, generator())
    repeated = mean_interval({str(k): [float(v)] * 8 for k, v in enumerate(drawn)}, generator())
    assert repeated.high - repeated.low == pytest.approx(single.high - single.low)


def test_patients_without_a_value_change_nothing() -> None:
    values = {"a": [0.2], "b": [0.4, 0.9], "c": [0.5]}
    assert mean_interval({**values, "d": []}, generator()) == mean_interval(values, generator())


def test_a_difference_that_every_patient_shows_is_certain() -> None:
    first = {str(k): [0.1 * k + 0.05] for k in range(8)}
    second = {str(k): [0.1 * k] for k in range(8)}
    result = paired_difference(first, second, generator())
    assert (result.low, result.estimate, result.high) == pytest.approx((0.05, 0.05, 0.05))


def test_equal_models_differ_by_an_interval_around_zero() -> None:
    noise = generator(9).normal(0, 0.1, size=(2, 60))
    first, second = ({str(k): [0.5 + float(v)] for k, v in enumerate(row)} for row in noise)
    result = paired_difference(first, second, generator())
    assert result.low < 0 < result.high


def test_a_comparison_needs_the_same_patients_and_values() -> None:
    with pytest.raises(ValueError, match="same patients"):
        paired_difference({"a": [1.0]}, {"b": [1.0]}, generator())
    with pytest.raises(ValueError, match="same patients"):
        paired_difference({"a": [1.0]}, {"a": [1.0, 0.0]}, generator())


def test_no_value_and_no_level_are_refused() -> None:
    with pytest.raises(ValueError, match="no patient has a value"):
        mean_interval({"a": []}, generator())
    with pytest.raises(ValueError, match="between 0 and 1"):
        mean_interval({"a": [0.5]}, generator(), level=90)
