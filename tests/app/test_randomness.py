from __future__ import annotations

import copy
import inspect
import os
import pickle
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedward.randomness import Secret, Seeded

PATHS = st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=5) | st.integers(), max_size=4)


def test_a_seed_gives_the_same_numbers_on_every_machine() -> None:
    assert Seeded(7).seed_of("round", 3) == 4483321534000980977
    assert Seeded(7).generator("round", 3).integers(0, 1000, 4).tolist() == [611, 854, 923, 162]


@settings(deadline=None)
@given(PATHS, PATHS, st.integers(0, 2**63), st.integers(0, 2**63))
def test_every_seed_and_path_has_its_own_stream(
    first: list[str | int], second: list[str | int], seed: int, other: int
) -> None:
    same = first == second and seed == other
    assert (Seeded(seed).seed_of(*first) == Seeded(other).seed_of(*second)) is same


def test_a_number_and_its_text_are_two_paths() -> None:
    assert Seeded(1).seed_of("1") != Seeded(1).seed_of(1)


def test_a_path_cannot_be_made_to_look_like_another() -> None:
    with pytest.raises(ValueError, match="control"):
        Seeded(1).seed_of("a\x1fstr:b")


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="0 or more, got -1"):
        Seeded(-1)


def test_streams_of_one_seed_do_not_follow_each_other() -> None:
    draws = np.stack([Seeded(3).generator("patient", number).normal(size=500) for number in range(20)])
    correlation = np.corrcoef(draws) - np.eye(20)
    assert np.abs(correlation).max() < 0.25


def test_secret_randomness_takes_no_seed() -> None:
    assert list(inspect.signature(Secret).parameters) == []


def test_two_secrets_differ() -> None:
    assert Secret().take(32) != Secret().take(32)


def test_a_secret_never_repeats_itself() -> None:
    secret = Secret()
    tokens = {secret.token() for _ in range(1000)}
    assert len(tokens) == 1000
    assert all(len(token) == 32 and int(token, 16) >= 0 for token in tokens)


def test_secret_bytes_are_as_many_as_asked_and_even() -> None:
    content = Secret().take(100_000)
    assert len(content) == 100_000
    counts = np.bincount(np.frombuffer(content, np.uint8), minlength=256)
    chi_squared = float(((counts - 100_000 / 256) ** 2 / (100_000 / 256)).sum())
    assert 150 < chi_squared < 390, "255 degrees of freedom: six standard deviations either way"


def test_a_secret_is_not_copied() -> None:
    for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="pickled or copied"):
            duplicate(Secret())


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork on Windows")
def test_a_secret_does_not_survive_a_fork() -> None:
    secret = Secret()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            secret.take(1)
            os.write(writing, b"took")
        except RuntimeError as error:
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        assert "does not survive a fork" in pipe.read()
    assert len(secret.take(1)) == 1
