"""Shamir's threshold sharing of 32-byte secrets over a prime field (Shamir 1979).

Chosen over a library's sharing in GF(2^128): coefficients come from ``Secret``, a secret is shared whole, and the
weights of an interpolation are computed once for all secrets of a round.

An altered share gives a wrong secret without an error: whoever combines holds the result against a commitment.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fedward.randomness import Secret

#: The smallest prime above 2^256.
PRIME = 2**256 + 297

SECRET_SIZE = 32
SHARE_SIZE = 33

#: Bytes drawn for a coefficient: reduced by the prime, they are uniform up to 2^-127.
_DRAWN = 48


def split(secret: bytes, *, threshold: int, count: int, randomness: Secret) -> tuple[bytes, ...]:
    """Give ``count`` shares of 33 bytes, for the points 1 to ``count``; any ``threshold`` of them give the secret.

    Fewer say nothing about it.

    Raises:
        ValueError: the secret is not 32 bytes long, or 1 <= threshold <= count does not hold.
    """
    if len(secret) != SECRET_SIZE or not 1 <= threshold <= count:
        raise ValueError(f"cannot share {len(secret)} bytes among {count} with threshold {threshold}")
    drawn = randomness.take(_DRAWN * (threshold - 1))
    coefficients = [int.from_bytes(secret, "big")]
    coefficients += [int.from_bytes(drawn[at : at + _DRAWN], "big") % PRIME for at in range(0, len(drawn), _DRAWN)]
    return tuple(_value_at(point, coefficients).to_bytes(SHARE_SIZE, "big") for point in range(1, count + 1))


def weights_at_zero(points: Sequence[int]) -> tuple[int, ...]:
    """Give Lagrange's weights: the value at 0 is their product with the values at ``points``.

    Raises:
        ValueError: a point is not positive, or is given twice.
    """
    if len(set(points)) != len(points) or any(point < 1 for point in points):
        raise ValueError(f"points are positive and differ, got {list(points)}")
    weights = []
    for point in points:
        above, below = 1, 1
        for other in points:
            if other != point:
                above = above * other % PRIME
                below = below * (other - point) % PRIME
        weights.append(above * pow(below, -1, PRIME) % PRIME)
    return tuple(weights)


def combine(shares: Iterable[bytes], weights: Sequence[int]) -> bytes:
    """Give the secret of ``shares``, whose points have these :func:`weights_at_zero`.

    A value that is no 32-byte secret becomes an empty one.
    """
    total = sum(int.from_bytes(share, "big") * weight for share, weight in zip(shares, weights, strict=True)) % PRIME
    return total.to_bytes(SECRET_SIZE, "big") if total >> 256 == 0 else b""


def _value_at(point: int, coefficients: Sequence[int]) -> int:
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * point + coefficient) % PRIME
    return value
