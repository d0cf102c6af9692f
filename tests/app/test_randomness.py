from __future__ import annotations

import copy
import inspect
import math
import os
import pickle
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

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


def test_secret_noise_is_normal() -> None:
    noise = Secret().gaussian(200_000, 3.0)
    assert noise.dtype == np.float32
    # Kolmogorov and Smirnov: a true normal sample of this size passes 0.0055 once in a hundred thousand runs.
    assert kstest(noise.astype(np.float64) / 3.0, "norm").statistic < 0.0055
    assert abs(np.corrcoef(noise[:-1], noise[1:])[0, 1]) < 0.012


def test_secret_noise_uses_the_whole_float32_grid() -> None:
    """A single Box-Muller draw in float32 leaves gaps near its mean that tell what was added to it."""
    noise = Secret().gaussian(200_000, 1.0)
    small = noise[np.abs(noise) < 2.0**-7]
    assert len(np.unique(small)) > 0.999 * len(small)


def test_noise_of_no_width_is_none() -> None:
    assert not Secret().gaussian(10, 0.0).any()


@pytest.mark.parametrize("deviation", [-1.0, math.nan, math.inf])
def test_noise_of_a_senseless_width_is_refused(deviation: float) -> None:
    with pytest.raises(ValueError, match="standard deviation"):
        Secret().gaussian(1, deviation)


@pytest.mark.parametrize("rate", [0.0, 0.03, 0.5, 1.0])
def test_secret_decisions_have_their_rate(rate: float) -> None:
    drawn = Secret().bernoulli(100_000, rate)
    assert abs(drawn.mean() - rate) <= 5 * math.sqrt(rate * (1 - rate) / 100_000)


def test_a_rate_is_a_probability() -> None:
    with pytest.raises(ValueError, match="probability"):
        Secret().bernoulli(1, 1.5)


def test_random_rounding_keeps_the_mean_and_goes_no_further_than_the_next_number() -> None:
    values = np.repeat([-1.25, 0.0, 2.5, 7.0], 50_000)
    rounded = Secret().round(values)
    assert np.abs(rounded - values).max() < 1
    means = rounded.reshape(4, -1).mean(axis=1)
    np.testing.assert_allclose(means, [-1.25, 0.0, 2.5, 7.0], atol=0.012)
    np.testing.assert_array_equal(rounded[150_000:], 7)


@pytest.mark.parametrize("draw", ["uniform", "bernoulli", "gaussian", "round"])
def test_no_secret_draw_takes_a_seed(draw: str) -> None:
    names = set(inspect.signature(getattr(Secret, draw)).parameters)
    assert names <= {"self", "count", "rate", "deviation", "values"}


def test_secret_draws_leave_the_known_generators_alone() -> None:
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    Secret().gaussian(1000, 1.0)
    np.testing.assert_array_equal(before, np.random.get_state()[1])


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
