from __future__ import annotations

import numpy as np
import pytest

from fedward.privacy.shares import noised_shares, summed_shares
from fedward.randomness import Secret


def test_one_more_patient_moves_the_sum_by_at_most_the_bound() -> None:
    others = [np.array([1.0, 0.0, 1.0])] * 4
    for share in ([1e9, -1e9, 1e9], [0.3, 0.3, 0.1], [0.0, 0.0, 0.0], [np.nan, 1.0, 0.0], [np.inf, 0.0, 0.0]):
        moved = summed_shares([*others, np.array(share)], bound=1.5) - summed_shares(others, bound=1.5)
        assert np.linalg.norm(moved) <= 1.5 + 1e-9
    within = np.array([0.3, 0.3, 0.1])
    np.testing.assert_allclose(summed_shares([within, within], bound=1.5), 2 * within)


def test_the_noise_is_the_multiple_of_the_bound_that_the_ledger_charges() -> None:
    shares = [np.ones(2000) / np.sqrt(2000)] * 3
    noised = noised_shares(shares, bound=2.0, noise_multiplier=4.0, secret=Secret())
    left = noised - summed_shares(shares, bound=2.0)
    assert left.std() == pytest.approx(8.0, rel=0.1)
    assert abs(left.mean()) < 1.0
    again = noised_shares(shares, bound=2.0, noise_multiplier=4.0, secret=Secret())
    assert not np.array_equal(noised, again)
