"""Masks and sealed boxes: what keys become. Every key is derived for one purpose and one context (RFC 5869)."""

from __future__ import annotations

from typing import Literal

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from fedward.errors import SumRefused
from fedward.randomness import Secret

#: The version of the protocol, which every derived key depends on.
PROTOCOL = "fedward/secure-sum/v1"

KEY_SIZE = 32
_NONCE_SIZE = 12

#: Numbers masked at a time: mask and vector stay in the processor's cache.
_SLICE = 1 << 17

Purpose = Literal["pair", "self", "box"]


def public_key_of(private_key: bytes) -> bytes:
    """Give the X25519 public key (RFC 7748) of 32 secret bytes."""
    return X25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()


def agree(private_key: bytes, public_key: bytes) -> bytes:
    """Give the secret that two X25519 keys share.

    Raises:
        SumRefused: ``weak_key``: the other side's key is no key, or makes every shared secret the same.
    """
    try:
        peer = X25519PublicKey.from_public_bytes(public_key)
        return X25519PrivateKey.from_private_bytes(private_key).exchange(peer)
    except ValueError as error:
        raise SumRefused("weak_key", "a peer's X25519 key gives no shared secret") from error


def derive(secret: bytes, *, purpose: Purpose, context: bytes) -> bytes:
    """Give the key that ``secret`` becomes for one purpose in one context (HKDF-SHA256)."""
    info = f"{PROTOCOL}/{purpose}\0".encode() + context
    return HKDF(SHA256(), KEY_SIZE, salt=None, info=info).derive(secret)


def add_mask(vector: NDArray[np.uint32], key: bytes, *, sign: int) -> None:
    """Add ``sign`` (1 or -1) times the ChaCha20 stream of ``key`` to ``vector`` in place, modulo 2^32.

    A key masks one vector in its life.
    """
    stream = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor()
    nothing = bytes(4 * _SLICE)
    drawn = bytearray(4 * _SLICE)
    mask = np.frombuffer(drawn, "<u4")
    combine = np.add if sign > 0 else np.subtract
    for start in range(0, vector.size, _SLICE):
        part = vector[start : start + _SLICE]
        stream.update_into(memoryview(nothing)[: 4 * part.size], drawn)
        combine(part, mask[: part.size], out=part)


def seal(content: bytes, key: bytes, *, about: bytes, secret: Secret) -> bytes:
    """Encrypt ``content`` and bind it to ``about`` (ChaCha20-Poly1305, RFC 8439)."""
    nonce = secret.take(_NONCE_SIZE)
    return nonce + ChaCha20Poly1305(key).encrypt(nonce, content, about)


def unseal(box: bytes, key: bytes, *, about: bytes) -> bytes:
    """Give back what :func:`seal` was given.

    Raises:
        SumRefused: ``share_altered``.
    """
    try:
        return ChaCha20Poly1305(key).decrypt(box[:_NONCE_SIZE], box[_NONCE_SIZE:], about)
    except (InvalidTag, ValueError) as error:
        raise SumRefused("share_altered", "a peer's shares do not decrypt: altered, or sealed for another") from error
