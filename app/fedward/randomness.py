"""The two types of randomness.

``Seeded`` gives numbers that anyone with the seed can repeat: augmentation, initial weights, the phantom. Its seed may
come from a job. ``Secret`` gives numbers that nobody can repeat: ids, keys, noise. It takes no seed anywhere. A
function that asks for one type cannot be handed the other.
"""

from __future__ import annotations

import hashlib
import os

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

#: Between the parts of a stream's path.
_SEPARATOR = "\x1f"


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

    def token(self) -> str:
        """Give a random id of 128 bits as 32 hexadecimal digits."""
        return self.take(16).hex()
