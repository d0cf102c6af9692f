"""Sites with quadratic losses of unlike shape and place: small enough that the true optimum is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fedward.federation.algorithms import RoundFacts, Server
from fedward.training.local_terms import next_control

Flat = np.ndarray
#: Adds to a site's gradient: of its name, its weights now, and the round's global weights.
Term = Callable[[str, Flat, Flat], Flat]


@dataclass(frozen=True)
class Quadratic:
    """Loss ``curvature / 2 * (x - centre) ** 2``, summed over the numbers."""

    centre: Flat
    curvature: Flat
    weight: int


UNLIKE = {
    "north": Quadratic(np.array([4.0, -2.0, 0.0]), np.array([1.0, 0.2, 1.0]), 10),
    "south": Quadratic(np.array([-2.0, 3.0, 1.0]), np.array([0.1, 1.0, 0.5]), 30),
    "west": Quadratic(np.array([0.0, 5.0, -6.0]), np.array([0.6, 0.4, 0.05]), 20),
}


def optimum(sites: dict[str, Quadratic]) -> Flat:
    """The weighted sum of the losses is smallest here."""
    weights = {name: site.weight * site.curvature for name, site in sites.items()}
    return sum(weights[name] * site.centre for name, site in sites.items()) / sum(weights.values())


def local_update(site: Quadratic, start: Flat, *, steps: int, rate: float, term: Callable[[Flat], Flat]) -> Flat:
    x = start.astype(np.float64)
    for _ in range(steps):
        x = x - rate * (site.curvature * (x - site.centre) + term(x))
    return (x - start).astype(np.float32)


def run(
    server: Server,
    sites: dict[str, Quadratic] = UNLIKE,
    *,
    rounds: int,
    steps: int = 10,
    rate: float = 0.1,
    proximal: float = 0.0,
    corrects: bool = False,
) -> list[Flat]:
    """Give the global weights after each round."""
    x = np.zeros(3, np.float32)
    state = server.init(x)
    own = {name: np.zeros(3, np.float32) for name in sites}
    weights = {name: site.weight for name, site in sites.items()}
    facts = RoundFacts(local_distance=steps * rate)
    history = []
    for _ in range(rounds):
        of_server = state[0] if corrects else np.zeros(3, np.float32)
        updates = {}
        for name, site in sites.items():
            correction = of_server - own[name] if corrects else np.zeros(3)
            anchor = x.copy()
            updates[name] = local_update(
                site,
                x,
                steps=steps,
                rate=rate,
                term=lambda now, anchor=anchor, correction=correction: proximal * (now - anchor) + correction,
            )
            if corrects:
                own[name] = next_control(own[name], of_server, updates[name], local_distance=steps * rate)
        x, state = server.apply(state, x, server.combine(updates, weights), facts)
        history.append(x)
    return history
