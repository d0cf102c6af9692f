"""The two types of randomness.

``Seeded`` gives numbers that anyone with the seed can repeat: augmentation, initial weights, the phantom. Its seed may
come from a job. ``Secret`` gives numbers that nobody can repeat: ids, keys, noise. It takes no seed anywhere. A
function that asks for one type cannot be handed the other.
"""

from __future__ import annotations

import hashlib
import math
import os
import threading

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from numpy.typing import NDArray

#: Between the parts of a stream's path.
_SEPARATOR = "\x1f"

#: Noise is drawn in blocks of so many numbers, which bounds the memory that it takes beside its result.
_BLOCK = 1 << 16

#: A noised number is rounded to a power of two near this share of the noise's standard deviation.
_GRID = 2.0**-16

#: Bytes after which a stream takes a new key from the operating system.
_KEY_LIFE = 1 << 30


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

    Threads may share one. It refuses to run in a process other than the one that made it: two processes with one
    stream would share their secrets.
    """

    def __init__(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._rekey()

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
        with self._lock:
            self._taken += count
            if self._taken > _KEY_LIFE:
                self._rekey()
            return self._stream.update(bytes(count))

    def token(self) -> str:
        """Give a random id of 128 bits as 32 hexadecimal digits."""
        return self.take(16).hex()

    def uniform(self, count: int) -> NDArray[np.float64]:
        """Give ``count`` numbers in [0, 1), each a multiple of 2^-53."""
        bits = np.frombuffer(self.take(8 * count), dtype=np.uint64) >> np.uint64(11)
        numbers = bits.view(np.int64).astype(np.float64)
        numbers *= 2.0**-53
        return numbers

    def bernoulli(self, count: int, rate: float) -> NDArray[np.bool_]:
        """Decide ``count`` times, true with probability ``rate`` in [0, 1].

        Raises:
            ValueError: ``rate`` is not a probability.
        """
        if not 0 <= rate <= 1:
            raise ValueError(f"a probability lies in [0, 1], got {rate}")
        return self.uniform(count) < rate

    def gaussian(self, count: int, deviation: float) -> NDArray[np.float64]:
        """Give ``count`` normal numbers of mean 0 and this standard deviation, to be added by :func:`add_noise`.

        Each is half the sum of four independent ones, so that no single draw can be found from its result
        (Holohan and Braghin 2021, "Secure Random Sampling in Differential Privacy").

        Raises:
            ValueError: ``deviation`` is negative or not finite.
        """
        _check_deviation(deviation)
        noise = np.empty(count)
        for start in range(0, count, _BLOCK):
            part = noise[start : start + _BLOCK]
            np.multiply(self._normal_sum(part.size), deviation / 2, out=part)
        return noise

    def round(self, values: NDArray[np.float64]) -> NDArray[np.int32]:
        """Round each value, of a magnitude below 2^31, up or down at random; its mean stays what it is, up to 2^-32."""
        below = np.floor(values)
        # How far on the way up each value lies, in units of the drawn bits.
        threshold = values - below
        threshold *= 2.0**32
        rounded = below.astype(np.int32)
        rounded += np.frombuffer(self.take(4 * values.size), np.uint32).reshape(values.shape) < threshold
        return rounded

    def _normal_sum(self, count: int) -> NDArray[np.float64]:
        """Give sums of four standard normal numbers (Box and Muller 1958, both halves of each pair)."""
        pairs = (count + 1) // 2
        radii, cosines, sines = np.zeros((3, pairs))
        # In place: fresh memory for every intermediate costs as much as the arithmetic.
        for _ in range(4):
            radius, half = self.uniform(2 * pairs).reshape(2, pairs)
            np.log1p(np.negative(radius, out=radius), out=radius)
            radius *= -2
            np.sqrt(radius, out=radius)
            # With t the tangent of half the angle, cosine is 2 / (1 + t^2) - 1 and sine 2 t / (1 + t^2); numpy's own
            # are ten times slower.
            half -= 0.5
            half *= np.pi
            np.tan(half, out=half)
            radii += radius
            radius /= 1 + half * half
            cosines += radius
            half *= radius
            sines += half
        return np.concatenate([2 * cosines - radii, 2 * sines])[:count]

    def _rekey(self) -> None:
        self._stream: CipherContext = Cipher(ChaCha20(os.urandom(32), bytes(16)), mode=None).encryptor()
        self._taken = 0


def add_noise(values: NDArray[np.floating], noise: NDArray[np.float64], *, deviation: float) -> NDArray[np.float64]:
    """Add secret noise to what leaves, and round the sum to a grid that depends on ``deviation`` alone.

    A bare sum of floating-point numbers can hold only some of the numbers around it, and which ones tells what the
    noise was added to (Mironov 2012). On a grid that is this much coarser than float64 every number can come from
    every value. What is done to the result afterwards costs no privacy.

    Args:
        values: What the noise protects, any shape.
        noise: From :meth:`Secret.gaussian`, same shape.
        deviation: The noise's standard deviation, in the unit of ``values``.

    Returns:
        Multiples of the power of two next below ``deviation * 2**-16``.

    Raises:
        ValueError: the shapes differ, or ``deviation`` is not finite and above 0.
    """
    _check_deviation(deviation)
    if deviation == 0 or values.shape != noise.shape:
        raise ValueError(f"noise of deviation {deviation} and shape {noise.shape} does not protect {values.shape}")
    grid = 2.0 ** math.floor(math.log2(deviation * _GRID))
    noised = np.array(values, dtype=np.float64)
    noised += noise
    noised /= grid
    np.rint(noised, out=noised)
    noised *= grid
    return noised


def _check_deviation(deviation: float) -> None:
    if not (math.isfinite(deviation) and deviation >= 0):
        raise ValueError(f"a standard deviation is finite and 0 or more, got {deviation}")
