from __future__ import annotations

import copy
import inspect
import math
import os
import pickle
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from fedward import randomness
from fedward.randomness import Secret, Seeded, add_noise

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
    noise = Secret().gaussian(200_001, 3.0)
    assert noise.shape == (200_001,)
    # Kolmogorov and Smirnov: a true normal sample of this size passes 0.0055 once in a hundred thousand runs.
    assert kstest(noise / 3.0, "norm").statistic < 0.0055
    assert 1 - 0.02 < noise.std() / 3.0 < 1 + 0.02


@pytest.mark.parametrize("lag", [1, 2, 1 << 14, 1 << 15])
def test_secret_noise_does_not_follow_itself(lag: int) -> None:
    """Numbers that share their pairs of draws stand half a block apart."""
    noise = Secret().gaussian(200_000, 1.0)
    assert abs(np.corrcoef(noise[:-lag], noise[lag:])[0, 1]) < 0.014
    assert abs(np.corrcoef(noise[:-lag] ** 2, noise[lag:] ** 2)[0, 1]) < 0.014


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, -0.7])
def test_a_noised_number_does_not_tell_by_its_last_bits_what_it_was(value: float) -> None:
    """All sums lie on one grid, whatever was added to, and every residue of the grid is as likely as another."""
    secret = Secret()
    values = np.full(200_000, value, np.float32)
    released = add_noise(values, secret.gaussian(values.size, 0.01), deviation=0.01)
    steps = released / 2.0 ** math.floor(math.log2(0.01 * 2.0**-16))
    np.testing.assert_array_equal(steps, np.rint(steps))
    counts = np.bincount(steps.astype(np.int64) % 64, minlength=64)
    chi_squared = float(((counts - 3125) ** 2 / 3125).sum())
    assert chi_squared < 63 + 6 * math.sqrt(126)
    assert abs(released.mean() - value) < 5 * 0.01 / math.sqrt(values.size) + 1e-7


def test_noise_rounded_by_itself_would_tell() -> None:
    """Why the sum is rounded and not the noise: a plain float32 sum lies on a grid that the value chose."""
    secret = Secret()
    noise = secret.gaussian(200_000, 0.01).astype(np.float32)
    near_third = (np.float32(1 / 3) + noise) * 2.0**25
    np.testing.assert_array_equal(near_third, np.rint(near_third))
    near_zero = (np.float32(0) + noise) * 2.0**25
    assert (near_zero != np.rint(near_zero)).mean() > 0.9


@pytest.mark.parametrize("deviation", [0.0, -1.0, math.nan])
def test_nothing_leaves_with_noise_of_no_width(deviation: float) -> None:
    with pytest.raises(ValueError, match="deviation"):
        add_noise(np.zeros(3), np.zeros(3), deviation=deviation)


def test_noise_covers_every_number() -> None:
    with pytest.raises(ValueError, match="does not protect"):
        add_noise(np.zeros((3, 1)), np.zeros(1), deviation=1.0)


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


def test_random_rounding_keeps_the_mean_of_large_numbers_and_leaves_whole_ones_alone() -> None:
    values = np.repeat([2.0**30 + 0.75, -(2.0**30) - 0.75, -(2.0**31) + 1, 2.0**31 - 1], 50_000)
    rounded = Secret().round(values)
    means = (rounded - values).reshape(4, -1).mean(axis=1)
    np.testing.assert_allclose(means, 0, atol=0.012)
    np.testing.assert_array_equal(rounded[100_000:], values[100_000:])


def test_no_secret_draw_takes_a_seed() -> None:
    draws = {name: draw for name, draw in vars(Secret).items() if callable(draw) and not name.startswith("__")}
    assert {"take", "token", "uniform", "bernoulli", "gaussian", "round"} <= set(draws)
    for name, draw in draws.items():
        assert set(inspect.signature(draw).parameters) <= {"self", "count", "rate", "deviation", "values"}, name


def test_a_stream_takes_a_new_key_before_the_old_one_is_used_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(randomness, "_KEY_LIFE", 1000)
    keys: list[bytes] = []
    urandom = os.urandom
    monkeypatch.setattr(os, "urandom", lambda count: keys.append(urandom(count)) or keys[-1])
    secret = Secret()
    blocks = {secret.take(100) for _ in range(25)}
    assert len(blocks) == 25
    assert len(keys) == len(set(keys)) == 3
    assert all(len(key) == 32 for key in keys)


def test_threads_that_share_a_secret_never_share_a_number() -> None:
    secret = Secret()
    taken: list[list[bytes]] = [[], [], [], []]

    def work(mine: list[bytes]) -> None:
        mine.extend(secret.take(1 << 12) for _ in range(200))

    threads = [threading.Thread(target=work, args=(mine,)) for mine in taken]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    blocks = [block for mine in taken for block in mine]
    assert len(set(blocks)) == len(blocks) == 800


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
