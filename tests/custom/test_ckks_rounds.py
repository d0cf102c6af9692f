"""The server's side of a sum under a homomorphic key, with real hospitals and no network."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from itertools import count

import numpy as np
import pytest
from nvflare.apis.shareable import Shareable
from nvflare.fuel.utils import fobs
from nvflare.private.fed.utils.fed_utils import nvflare_fobs_initialize

from ckks_cases import CkksSite, set_up
from fedward.errors import RoundFailed, SumRefused
from fedward.federation.secure_job import quantiser_of, session_of
from fedward.hospital import Evaluated
from fedward.identity.document import new_job_document
from fedward.randomness import Secret
from fedward_flare import ckks_exchange, exchange, tasks
from fedward_flare.ckks_rounds import CkksRounds
from fedward_flare.sum_rounds import Carriers
from secure_cases import NAMES, refused, sha
from tiny_federation import training_job
from trust_cases import NOW, PROJECT, Authority

pytest.importorskip("tenseal")

SIZE = 6
UPDATES = {name: np.full(SIZE, place / 100, np.float32) for place, name in enumerate(NAMES[:4])}
MODEL = np.zeros(SIZE, np.float32)


@pytest.fixture(scope="module", autouse=True)
def _nvflare_encodings() -> None:
    nvflare_fobs_initialize()


def sent(message: Shareable) -> Shareable:
    """Through NVFLARE's own encoding and back."""
    return fobs.loads(fobs.dumps(message))


@dataclass
class Network:
    """Four hospitals that hold a key; ``altered`` say another sum than they decrypted, at the first or second task."""

    sites: dict[str, CkksSite]
    altered: dict[str, Collection[str]] = field(default_factory=dict)
    silent: dict[str, Collection[str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    totals: dict[str, np.ndarray] = field(default_factory=dict)

    def task(
        self, name: str, message: Shareable, targets: Collection[str], receive: Callable[[str, Shareable], None]
    ) -> None:
        for site in targets:
            if site not in self.silent.get(name, ()):
                receive(site, sent(self.answer(site, name, sent(message))))

    def answer(self, site: str, name: str, message: Shareable) -> Shareable:
        if name == tasks.DECRYPT_TASK:
            self.totals[site] = self.sites[site].decrypt(*ckks_exchange.unpack_sum(message))
        else:
            assert ckks_exchange.unpack_ask(message) == 1
            self.asked.append(site)
        total = self.totals[site] + np.uint32(site in self.altered.get(name, ()))
        return ckks_exchange.pack_digest(total) if name == tasks.DECRYPT_TASK else ckks_exchange.pack_total(total)


@pytest.fixture
def summed() -> tuple[CkksRounds, Network]:
    """Give a round in which all four hospitals' vectors are."""
    job = training_job(mode="ckks", rounds=1)
    document = new_job_document(job, project=PROJECT, sites=tuple(UPDATES), now=NOW)
    quantiser = quantiser_of(job, size=SIZE, sites=len(UPDATES))
    sites, agreement = set_up(session_of(document, job, quantiser, attempt=0, first=1))
    rounds = CkksRounds(document, job, size=SIZE, root=Authority().certificate, next_attempt=count().__next__)
    rounds._agreement, rounds._is_stale = agreement, False
    rounds.open_round(1, hashlib.sha256(MODEL.tobytes()).hexdigest())
    for name, site in sites.items():
        encoded = quantiser.encode(UPDATES[name], weight=10, metrics={}, secret=Secret())
        encrypted = site.encrypt(1, encoded.vector, model_sha256=sha_of(MODEL))
        answer = sent(exchange.pack_evaluated(Evaluated(weight=10, metrics={}, masked=encrypted)))
        assert rounds.receive(name, exchange.unpack_evaluated(answer).masked) is None
    return rounds, Network(sites)


def sha_of(weights: np.ndarray) -> str:
    return hashlib.sha256(weights.tobytes()).hexdigest()


def finish(rounds: CkksRounds, network: Network) -> np.ndarray:
    return rounds.finish(1, Carriers(task=network.task, direct=network.task)).update


def test_the_mean_of_all_sites_comes_from_one_of_them(summed: tuple[CkksRounds, Network]) -> None:
    rounds, network = summed
    np.testing.assert_allclose(finish(rounds, network), 0.015, atol=1e-6)
    assert network.asked == ["ada"]


def test_a_total_that_the_others_did_not_decrypt_is_not_taken(summed: tuple[CkksRounds, Network]) -> None:
    rounds, network = summed
    network.altered = {tasks.DECRYPT_TASK: {"ada"}, tasks.TOTAL_TASK: {"bea"}}
    network.silent = {tasks.TOTAL_TASK: {"cyd"}}
    np.testing.assert_allclose(finish(rounds, network), 0.015, atol=1e-6)
    assert network.asked == ["bea", "dot"]


def test_below_the_minimum_of_agreeing_sites_the_round_fails(summed: tuple[CkksRounds, Network]) -> None:
    rounds, network = summed
    network.altered = {tasks.DECRYPT_TASK: {"ada"}}
    network.silent = {tasks.DECRYPT_TASK: {"dot"}}
    with refused(RoundFailed, "sum_unreadable"):
        finish(rounds, network)


def test_a_sum_that_nobody_gives_fails_the_round(summed: tuple[CkksRounds, Network]) -> None:
    rounds, network = summed
    network.silent = {tasks.TOTAL_TASK: UPDATES}
    with refused(RoundFailed, "sum_unreadable"):
        finish(rounds, network)


@pytest.mark.parametrize("change", ["blocks", "block_ends"])
def test_ciphertexts_that_do_not_end_where_they_should_are_refused(
    change: str, summed: tuple[CkksRounds, Network]
) -> None:
    _, network = summed
    encrypted = network.sites["ada"].encrypt(1, np.zeros(SIZE + 1, np.uint32), model_sha256=sha("model"))
    answer = exchange.pack_evaluated(Evaluated(weight=10, metrics={}, masked=encrypted))
    key = f"fedward.{change}"
    whole = answer[key]
    for wrong in (whole[:-1], np.append(whole, whole[:1]), whole.astype(np.float32), None):
        answer[key] = wrong
        with refused(SumRefused, "malformed_message"):
            exchange.unpack_evaluated(answer)
