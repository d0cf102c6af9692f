from __future__ import annotations

import numpy as np
import pytest

from fedward.models.initial import initial_weights
from fedward.settings.algorithms import FEDAVG, AnyAlgorithm, FedBN, Scaffold
from fedward.settings.job import TrainingJob
from fedward.training.optimiser import local_distance
from fedward.training.own import Start, end_of, norms_of, personal, start_of
from small_cases import job_with


def job_of(algorithm: AnyAlgorithm, mode: str = "plain", clip: float = 1.0) -> TrainingJob:
    job = job_with(optimiser="sgd", learning_rate=0.1)
    exchange = job.exchange.model_copy(update={"mode": mode, "clip": clip})
    return job.model_copy(update={"algorithm": algorithm, "exchange": exchange})


BN, SCAFFOLD = job_of(FedBN(name="fedbn")), job_of(Scaffold(name="scaffold"))
WEIGHTS = initial_weights(BN)
ONES = np.ones_like(WEIGHTS)


def test_averaging_keeps_nothing_at_a_site() -> None:
    job = job_of(FEDAVG)
    start = start_of(job, WEIGHTS, None)
    assert start.weights is WEIGHTS
    assert start.correction is None
    update, own = end_of(job, start, ONES, number=1, own=None)
    assert update is ONES
    assert own is None


def test_norms_stay_at_the_site_and_come_back_in_its_next_round() -> None:
    mask = norms_of(BN)
    update, own = end_of(BN, start_of(BN, WEIGHTS, None), ONES, number=1, own=None)
    assert not update[mask].any()
    assert (update[~mask] == 1).all()
    assert own is not None
    np.testing.assert_array_equal(own, WEIGHTS[mask] + 1)
    of_others = WEIGHTS + 5
    start = start_of(BN, of_others, own).weights
    np.testing.assert_array_equal(start[mask], own)
    np.testing.assert_array_equal(start[~mask], of_others[~mask])
    np.testing.assert_array_equal(personal(BN, of_others, own), start)
    np.testing.assert_array_equal(personal(SCAFFOLD, of_others, own), of_others)


def test_a_first_round_corrects_by_the_servers_control_and_later_ones_by_the_difference() -> None:
    first = start_of(SCAFFOLD, WEIGHTS, None, 3 * ONES)
    assert first.weights is WEIGHTS
    np.testing.assert_array_equal(first.correction, 3 * ONES)
    np.testing.assert_array_equal(start_of(SCAFFOLD, WEIGHTS, ONES, 3 * ONES).correction, 2 * ONES)


def test_a_sites_control_becomes_its_own_mean_gradient() -> None:
    distance = local_distance(2, SCAFFOLD.training)
    # Plain descent along a gradient of 4, corrected by 3 - 1.
    update = np.asarray(-distance * (4 + 2) * ONES, np.float32)
    sent, own = end_of(SCAFFOLD, Start(WEIGHTS), update, number=2, own=ONES, of_server=3 * ONES)
    assert sent is update
    np.testing.assert_allclose(own, 4 * ONES, rtol=1e-5)


@pytest.mark.parametrize(("mode", "change"), [("plain", -50.0), ("secure-sum", -0.5)])
def test_what_an_encrypted_sum_cuts_off_is_in_no_control(mode: str, change: float) -> None:
    job = job_of(Scaffold(name="scaffold"), mode, clip=0.5)
    _, own = end_of(job, Start(WEIGHTS), -50 * ONES, number=1, own=None, of_server=0 * ONES)
    np.testing.assert_allclose(own, -change / local_distance(1, job.training) * ONES, rtol=1e-5)
