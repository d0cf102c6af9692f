"""The two types of randomness.

``Seeded`` gives numbers that anyone with the seed can repeat: augmentation, initial weights, the phantom. Its seed may
come from a job. ``Secret`` gives numbers that nobody can repeat: ids, keys, noise. It takes no seed anywhere. A
function that asks for one type cannot be handed the other.
"""

from __future__ import annotations

import hashlib
import math
import os

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from numpy.typing import NDArray

#: Between the parts of a stream's path.
_SEPARATOR = "\x1f"

#: Noise is drawn in blocks of so many numbers, which bounds the memory that it takes beside its result.
_BLOCK = 1 << 16


class Seeded:
    """Repeatable randomness: one seed, and an independent stream for every path of names and numbers.

    Args:
        seed: 0 or more.

    Example:
        >>> Seeded(7).seed_of("round", 3) == Seeded(7).seed_of("round", 3)
        True
        >>> Seeded(7).seed_of("round", 3) == Seeded(7).seed_of("round", 4)
        False
    """

    def __init__(self, seed: int) -> None:
        if seed < 0:
            raise ValueError(f"a seed is 0 or more, got {seed}")
        self._seed = seed

    def seed_of(self, *path: str | int) -> int:
        """Give the 63-bit seed of the stream at ``path``, whose names hold no control characters."""
        if any(isinstance(part, str) and _SEPARATOR in part for part in path):
            raise ValueError(f"a stream's path holds no control character, got {path!r}")
        text = _SEPARATOR.join([str(self._seed), *(f"{type(part).__name__}:{part}" for part in path)])
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1

    def generator(self, *path: str | int) -> np.random.Generator:
        """Give a numpy generator for the stream at ``path``."""
        return np.random.default_rng(self.seed_of(*path))


class Secret:
    """Unrepeatable randomness: a ChaCha20 key stream keyed from the operating system.

    It refuses to run in a process other than the one that made it: two processes with one stream would share their
    secrets.
    """

    def __init__(self) -> None:
        self._process = os.getpid()
        self._stream: CipherContext = Cipher(ChaCha20(os.urandom(32), os.urandom(16)), mode=None).encryptor()

    def __reduce__(self) -> tuple[object, ...]:
        """Refuse to be copied to another process."""
        raise TypeError("secret randomness cannot be pickled or copied")

    def take(self, count: int) -> bytes:
        """Give ``count`` secret bytes.

        Raises:
            RuntimeError: this is not the process that made the stream.
        """
        if os.getpid() != self._process:
            raise RuntimeError("secret randomness does not survive a fork: make a new Secret in this process")
        return self._stream.update(bytes(count))

    def uniform(self, count: int) -> NDArray[np.float64]:
        """Give ``count`` numbers in [0, 1), each a multiple of 2^-53."""
        bits = np.frombuffer(self.take(8 * count), dtype=np.uint64) >> np.uint64(11)
        return bits.astype(np.float64) * 2.0**-53

    def bernoulli(self, count: int, rate: float) -> NDArray[np.bool_]:
        """Decide ``count`` times, true with probability ``rate`` in [0, 1].

        Raises:
            ValueError: ``rate`` is not a probability.
        """
        if not 0 <= rate <= 1:
            raise ValueError(f"a probability lies in [0, 1], got {rate}")
        return self.uniform(count) < rate

    def gaussian(self, count: int, deviation: float) -> NDArray[np.float32]:
        """Give ``count`` normal numbers of mean 0 and this standard deviation.

        Each is half the sum of four independent ones, rounded to float32 at the end: from what is left of one number's
        floating-point grid nobody can tell what it was added to (Holohan and Braghin 2021).

        Raises:
            ValueError: ``deviation`` is negative or not finite.
        """
        if not (math.isfinite(deviation) and deviation >= 0):
            raise ValueError(f"a standard deviation is finite and 0 or more, got {deviation}")
        noise = np.empty(count, np.float32)
        for start in range(0, count, _BLOCK):
            part = noise[start : start + _BLOCK]
            np.multiply(self._normal_sum(part.size), deviation / 2, out=part, casting="same_kind")
        return noise

    def round(self, values: NDArray[np.floating]) -> NDArray[np.int64]:
        """Round each value up or down at random, so that its mean stays what it is."""
        exact = np.asarray(values, dtype=np.float64)
        below = np.floor(exact)
        is_up = self.uniform(exact.size).reshape(exact.shape) < exact - below
        return below.astype(np.int64) + is_up

    def _normal_sum(self, count: int) -> NDArray[np.float64]:
        """Give sums of four standard normal numbers (Box and Muller 1958, the cosine half of four pairs)."""
        total = np.zeros(count)
        for _ in range(4):
            radius = np.sqrt(-2 * np.log1p(-self.uniform(count)))
            total += radius * np.cos(2 * np.pi * self.uniform(count))
        return total

    def token(self) -> str:
        """Give a random id of 128 bits as 32 hexadecimal digits."""
        return self.take(16).hex()
