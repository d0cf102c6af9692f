from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy import isprime

from fedward.federation.shamir import PRIME, SHARE_SIZE, combine, split, weights_at_zero
from fedward.randomness import Secret

SECRET = Secret()
SECRETS = st.binary(min_size=32, max_size=32)


def test_the_modulus_is_a_prime_above_every_secret() -> None:
    assert PRIME > 2**256
    assert isprime(PRIME)


@settings(deadline=None, max_examples=30)
@given(SECRETS, st.integers(1, 8), st.integers(0, 4))
def test_every_choice_of_enough_shares_gives_the_secret(secret: bytes, threshold: int, spare: int) -> None:
    shares = split(secret, threshold=threshold, count=threshold + spare, randomness=SECRET)
    assert {len(share) for share in shares} == {SHARE_SIZE}
    for points in itertools.combinations(range(1, threshold + spare + 1), threshold):
        assert combine([shares[point - 1] for point in points], weights_at_zero(points)) == secret


@settings(deadline=None, max_examples=30)
@given(SECRETS, SECRETS, st.integers(2, 8))
def test_one_share_too_few_fits_every_secret(secret: bytes, other: bytes, threshold: int) -> None:
    """Shares 1 to t-1 and any value at 0 lie on one polynomial of degree t-1, whose t-th share is a share too."""
    shares = split(secret, threshold=threshold, count=threshold, randomness=SECRET)
    weights = weights_at_zero(range(1, threshold + 1))
    known = sum(int.from_bytes(share, "big") * weight for share, weight in zip(shares[:-1], weights, strict=False))
    missing = (int.from_bytes(other, "big") - known) * pow(weights[-1], -1, PRIME) % PRIME
    assert combine([*shares[:-1], missing.to_bytes(SHARE_SIZE, "big")], weights) == other


def test_a_line_by_hand() -> None:
    """f(x) = 7 + 5x: f(1) = 12, f(3) = 22; at 0 the weights are 3/2 and -1/2."""
    half = pow(2, -1, PRIME)
    assert weights_at_zero([1, 3]) == (3 * half % PRIME, -half % PRIME)
    shares = [value.to_bytes(SHARE_SIZE, "big") for value in (12, 22)]
    assert combine(shares, weights_at_zero([1, 3])) == (7).to_bytes(32, "big")


def test_two_sharings_of_one_secret_have_no_share_in_common() -> None:
    first, second = (split(bytes(32), threshold=3, count=5, randomness=SECRET) for _ in range(2))
    assert set(first) & set(second) == set()


def test_an_altered_share_gives_another_secret_without_an_error() -> None:
    shares = list(split(bytes(range(32)), threshold=3, count=3, randomness=SECRET))
    shares[1] = bytes(SHARE_SIZE)
    assert combine(shares, weights_at_zero([1, 2, 3])) != bytes(range(32))


def test_a_value_that_no_secret_has_becomes_an_empty_one() -> None:
    assert combine([(2**256).to_bytes(SHARE_SIZE, "big")], (1,)) == b""


@pytest.mark.parametrize(("size", "threshold", "count"), [(31, 2, 3), (33, 2, 3), (32, 0, 3), (32, 4, 3)])
def test_an_impossible_sharing_is_a_programming_fault(size: int, threshold: int, count: int) -> None:
    with pytest.raises(ValueError, match="cannot share"):
        split(bytes(size), threshold=threshold, count=count, randomness=SECRET)


@pytest.mark.parametrize("points", [[1, 1], [0, 1], [-1, 2]])
def test_points_are_positive_and_differ(points: list[int]) -> None:
    with pytest.raises(ValueError, match="points are positive"):
        weights_at_zero(points)
