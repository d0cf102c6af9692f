"""From the sites' updates to the next model: each algorithm as a value with a pure ``init`` and ``apply``.

Nothing here remembers anything: what an algorithm carries from round to round is the state that ``apply`` gives.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fedward.errors import RoundFailed
from fedward.federation.averaging import weighted_mean
from fedward.settings.algorithms import AnyAlgorithm, FedAvgM, FedOpt, Scaffold, TrimmedMean

Flat = NDArray[np.float32]

#: What an algorithm remembers: arrays of the network's size, in an order that is the algorithm's own business.
State = tuple[Flat, ...]


@dataclass(frozen=True)
class RoundFacts:
    """What ``apply`` may know of a round beside the combined update.

    Attributes:
        share: The part of all sites' weight that took part, in (0, 1].
        known: The part of all sites' weight that had taken part in any round before; the others' controls were zero.
        local_distance: The sum of the learning rates of a site's steps in this round, the same at every site; SCAFFOLD
            alone reads it.
    """

    share: float = 1.0
    known: float = 1.0
    local_distance: float | None = None


@dataclass(frozen=True, eq=False)
class Control:
    """What SCAFFOLD sends beside a round's model.

    Attributes:
        numbers: The server's control, flat float32 of the network's size.
        counted: The last round of each site whose update entered the model; a site goes on from the control that it
            had after it, since the server's knows of no other.
    """

    numbers: Flat
    counted: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class RoundStart:
    """What a round begins with, the same at every site.

    Attributes:
        number: The round.
        weights: The global model, flat float32.
        control: Of the server; None without SCAFFOLD, and in the closing validation.
    """

    number: int
    weights: Flat
    control: Control | None = None

    @cached_property
    def weights_sha256(self) -> str:
        """Of the model."""
        return hashlib.sha256(self.weights.tobytes()).hexdigest()

    @cached_property
    def sha256(self) -> str:
        """Of all of it: sites that sum together must have begun with the same, or the server could tell one apart."""
        if self.control is None:
            return self.weights_sha256
        counted = json.dumps(sorted(self.control.counted.items())).encode()
        parts = (self.weights.tobytes(), self.control.numbers.tobytes(), counted)
        return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


@dataclass(frozen=True)
class Server:
    """The server's side of an algorithm.

    Attributes:
        init: Gives the first state, of the weights that the job starts from.
        combine: Gives one update of the sites' updates and weights; raises ``RoundFailed`` where there is none.
        apply: Gives the next weights and state of the state, the weights and the combined update.
        is_linear: Whether ``combine`` is the weighted mean: an encrypted sum then stands for it.
    """

    init: Callable[[Flat], State]
    combine: Callable[[Mapping[str, Flat], Mapping[str, int]], Flat]
    apply: Callable[[State, Flat, Flat, RoundFacts], tuple[Flat, State]]
    is_linear: bool


def server_of(algorithm: AnyAlgorithm) -> Server:
    """Give the server's side of what a job asks for."""
    if isinstance(algorithm, FedAvgM):
        return _summing(_one_zero, _momentum(algorithm))
    if isinstance(algorithm, FedOpt):
        return _summing(_moments(algorithm), _adaptive(algorithm))
    if isinstance(algorithm, Scaffold):
        return _summing(_one_zero, _controlled(algorithm))
    if isinstance(algorithm, TrimmedMean):
        share = algorithm.trimmed_share
        return Server(_nothing, lambda updates, _: trimmed_mean(updates, share=share), _plain(1.0), is_linear=False)
    if algorithm.name == "median":
        return Server(_nothing, lambda updates, _: coordinate_median(updates), _plain(1.0), is_linear=False)
    return _summing(_nothing, _plain(algorithm.server_learning_rate))


def coordinate_median(updates: Mapping[str, Flat]) -> Flat:
    """Give each number's median over the sites; weights do not count, so that no site can give itself many votes.

    Raises:
        RoundFailed: ``zero_weight``: there is no update.

    Source:
        Yin et al., Byzantine-Robust Distributed Learning, ICML 2018, definition 1.
    """
    return np.asarray(np.median(_stacked(updates), axis=0), np.float32)


def trimmed_mean(updates: Mapping[str, Flat], *, share: float) -> Flat:
    """Give each number's mean without the ``floor(share * sites)`` largest and smallest.

    Raises:
        RoundFailed: ``zero_weight``: there is no update.

    Source:
        Yin et al., ICML 2018, definition 2.
    """
    ordered = np.sort(_stacked(updates), axis=0)
    cut = int(share * len(ordered))
    return np.asarray(ordered[cut : len(ordered) - cut].mean(axis=0, dtype=np.float64), np.float32)


def _summing(
    init: Callable[[Flat], State], apply: Callable[[State, Flat, Flat, RoundFacts], tuple[Flat, State]]
) -> Server:
    return Server(init, weighted_mean, apply, is_linear=True)


def _nothing(_weights: Flat) -> State:
    return ()


def _one_zero(weights: Flat) -> State:
    return (np.zeros_like(weights),)


def _plain(rate: float) -> Callable[[State, Flat, Flat, RoundFacts], tuple[Flat, State]]:
    def apply(state: State, weights: Flat, update: Flat, _facts: RoundFacts) -> tuple[Flat, State]:
        return _moved(weights, update, rate), state

    return apply


def _momentum(algorithm: FedAvgM) -> Callable[[State, Flat, Flat, RoundFacts], tuple[Flat, State]]:
    """Hsu, Qi & Brown, 2019, section 4: ``v = momentum * v + update``; the step is ``v``."""

    def apply(state: State, weights: Flat, update: Flat, _facts: RoundFacts) -> tuple[Flat, State]:
        (velocity,) = state
        velocity = _float32(algorithm.momentum * velocity + update)
        return _moved(weights, velocity, algorithm.server_learning_rate), (velocity,)

    return apply


def _moments(algorithm: FedOpt) -> Callable[[Flat], State]:
    def init(weights: Flat) -> State:
        return np.zeros_like(weights), np.full_like(weights, algorithm.adaptivity**2)

    return init


def _adaptive(algorithm: FedOpt) -> Callable[[State, Flat, Flat, RoundFacts], tuple[Flat, State]]:
    """Reddi et al., Adaptive Federated Optimization, ICLR 2021, algorithm 2; no bias correction, as there."""

    def apply(state: State, weights: Flat, update: Flat, _facts: RoundFacts) -> tuple[Flat, State]:
        first, second = state
        squared = np.square(update)
        first = _float32(algorithm.first_decay * first + (1 - algorithm.first_decay) * update)
        keep = algorithm.second_decay
        if algorithm.name == "fedyogi":
            second = _float32(second - (1 - keep) * squared * np.sign(second - squared))
        else:
            second = _float32(keep * second + (1 - keep) * squared)
        step = _float32(first / (np.sqrt(second) + algorithm.adaptivity))
        return _moved(weights, step, algorithm.server_learning_rate), (first, second)

    return apply


def _controlled(algorithm: Scaffold) -> Callable[[State, Flat, Flat, RoundFacts], tuple[Flat, State]]:
    """Karimireddy et al., SCAFFOLD, ICML 2020, eq. 4 (option II) and 5.

    A site's new control is its old one, minus the server's, minus its update over the distance that its learning rates
    allow. The mean change of the controls is therefore a function of the mean update: no site sends its control.
    """

    def apply(state: State, weights: Flat, update: Flat, facts: RoundFacts) -> tuple[Flat, State]:
        (control,) = state
        if not facts.local_distance:
            raise ValueError("scaffold needs the sum of a round's learning rates")
        change = -control - update / facts.local_distance
        control = _float32(facts.known * control + facts.share * change)
        return _moved(weights, update, algorithm.server_learning_rate), (control,)

    return apply


def _stacked(updates: Mapping[str, Flat]) -> Flat:
    if not updates:
        raise RoundFailed("zero_weight", "there is no update to combine")
    return np.stack([updates[site] for site in sorted(updates)])


def _moved(weights: Flat, step: Flat, rate: float) -> Flat:
    return _float32(weights + rate * step)


def _float32(value: NDArray[np.floating]) -> Flat:
    return np.asarray(value, np.float32)
