"""The server keeps a running sum: its memory grows with the model, not with the number of hospitals."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from fedward.federation.secure_sum import ServerRound
from secure_cases import MODEL, NAMES, session, set_up

LENGTH = 1_000_000


def peak_of(sites: int) -> float:
    """Give the server's peak memory in a round, in vectors."""
    federation = set_up(session(sites, length=LENGTH))
    vector = np.zeros(LENGTH, np.uint32)
    masked = {name: federation.sites[name].mask(1, vector) for name in NAMES[:sites]}
    tracemalloc.start()
    try:
        server = ServerRound(federation.agreement, 1, model_sha256=MODEL)
        for name in list(masked):
            server.receive(name, masked.pop(name))
        total = federation.finish(server, 1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert not total.any()
    return peak / vector.nbytes


def test_the_servers_memory_does_not_grow_with_the_number_of_hospitals() -> None:
    few, many = peak_of(3), peak_of(8)
    assert many < 2.5
    assert many == pytest.approx(few, abs=0.3)
