"""Sums under one homomorphic key (CKKS: Cheon, Kim, Kim and Song 2017), by TenSEAL, which is an optional extra.

What is encrypted are the whole numbers of :mod:`~fedward.federation.quantise`, and what is decrypted is rounded back to
whole numbers. So the sum that leaves a site is exact: an approximate one would carry the ciphertext's noise, and with
it the key (Li and Micciancio 2021).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedward.errors import RoundFailed, SettingsError, SumRefused
from fedward.federation.secure_agreement import Agreement
from fedward.federation.secure_messages import Receipt

#: Numbers in a ciphertext.
SLOTS = 4096

#: 128-bit security holds up to 218 bits of modulus at this degree (homomorphicencryption.org, 2018). Sums need no more
#: than one prime for the data and one for the keys.
_DEGREE = 2 * SLOTS
_MODULUS_BITS = (60, 60)

#: Sums up to 2^31 stay below the data's prime, and the noise of thousands of ciphertexts below a thousandth of 1.
_SCALE = 2.0**26

#: A decrypted number lies this close to a whole one, or the ciphertext is no sum of ours.
_LARGEST_ERROR = 2.0**-6

#: No block is larger (bytes).
_LARGEST_BLOCK = 1 << 18


@dataclass(frozen=True, eq=False)
class Encrypted:
    """A vector in blocks of :data:`SLOTS` encrypted numbers, the last one filled up with zeros.

    Attributes:
        receipt: What its site signed about it; the hash is :func:`hash_blocks`.
        blocks: One ciphertext each.
    """

    receipt: Receipt
    blocks: tuple[bytes, ...]


def require_tenseal() -> ModuleType:
    """Give TenSEAL.

    Raises:
        SettingsError: ``missing_extra``: it is not installed.
    """
    try:
        import tenseal
    except ImportError as error:
        raise SettingsError("missing_extra", "exchange mode ckks needs TenSEAL: pip install 'fedward[ckks]'") from error
    module: ModuleType = tenseal
    return module


def make_context() -> bytes:
    """Make a fresh secret key with its parameters; the bytes are secret.

    Raises:
        SettingsError: ``missing_extra``.
    """
    return _serialized(_fresh_context(), is_secret=True)


@cache
def public_context() -> bytes:
    """Give the parameters alone, with which ciphertexts are added and none is read.

    Raises:
        SettingsError: ``missing_extra``.
    """
    return _serialized(_fresh_context(), is_secret=False)


def check_secret(context: bytes) -> None:
    """Refuse what is no secret context of ours.

    Raises:
        SumRefused: ``wrong_context``.
    """
    _secret_context(context)


def encrypt(vector: NDArray[np.uint32], context: bytes) -> tuple[bytes, ...]:
    """Encrypt a vector of the ring of 2^32, read as signed numbers.

    Raises:
        SumRefused: ``wrong_context``: the context has no secret key, or other parameters.
    """
    tenseal, loaded = require_tenseal(), _secret_context(context)
    signed = vector.view(np.int32).astype(np.float64)
    padded = np.zeros(_blocks(vector.size) * SLOTS)
    padded[: signed.size] = signed
    return tuple(tenseal.ckks_vector(loaded, part).serialize() for part in padded.reshape(-1, SLOTS))


def decrypt(blocks: Sequence[bytes], context: bytes, *, length: int) -> NDArray[np.uint32]:
    """Give the vector, or the sum of vectors, that ``blocks`` hold.

    Args:
        blocks: As :meth:`ServerSum.close` gives them.
        context: The secret one.
        length: How many numbers the vector has.

    Raises:
        SumRefused: ``wrong_context`` or ``wrong_vector``.
        RoundFailed: ``sum_unreadable``: what decrypts are no whole numbers of 32 bits, so the blocks were altered or
            encrypted under another key.
    """
    tenseal, loaded = require_tenseal(), _secret_context(context)
    _check_count(blocks, length)
    values = np.concatenate([_load(tenseal, loaded, block).decrypt() for block in blocks])
    whole = np.rint(values)
    if np.abs(values - whole).max() > _LARGEST_ERROR or np.abs(whole).max() >= 2.0**31 or whole[length:].any():
        raise RoundFailed("sum_unreadable", "what decrypts are no whole numbers: altered, or under another key")
    total: NDArray[np.uint32] = whole[:length].astype(np.int32).view(np.uint32)
    return total


def hash_blocks(blocks: Sequence[bytes]) -> str:
    """Give SHA-256 of the blocks' own hashes, one after the other, hexadecimal."""
    return hashlib.sha256(b"".join(hashlib.sha256(block).digest() for block in blocks)).hexdigest()


class ServerSum:
    """One round at the server: a running sum of ciphertexts.

    Args:
        agreement: With its participants.
        round_number: Of the plan.
        model_sha256: Of the model that the sites received.
        context: From :func:`public_context`.

    Raises:
        SumRefused: ``wrong_context``: it holds a secret key, or other parameters.
    """

    def __init__(self, agreement: Agreement, round_number: int, *, model_sha256: str, context: bytes) -> None:
        self._tenseal, self._loaded = require_tenseal(), _context(context)
        if self._loaded.has_secret_key():
            raise SumRefused("wrong_context", "a secret key does not belong at the server")
        self._agreement = agreement
        self._number = round_number
        self._context = agreement.context(round_number, model_sha256)
        self._sum: list[Any] = []
        self._receipts: dict[str, Receipt] = {}

    def receive(self, site: str, encrypted: Encrypted) -> None:
        """Add a site's ciphertexts; the same ones again change nothing.

        Raises:
            SumRefused: ``wrong_sender``, ``wrong_vector``: not this length, no ciphertexts, or not what was signed;
                ``second_vector``, ``unknown_site``, ``wrong_round``, ``other_context``.
            IdentityError: ``bad_signature``.
        """
        receipt, blocks = encrypted.receipt, encrypted.blocks
        if receipt.site != site:
            raise SumRefused("wrong_sender", f"{site!r} sent a vector in the name of {receipt.site!r}")
        self._agreement.check_receipt(receipt, round_number=self._number, context=self._context)
        if site in self._receipts and receipt.vector_sha256 == self._receipts[site].vector_sha256:
            return
        if site in self._receipts:
            raise SumRefused("second_vector", f"{site!r} sent two different vectors in round {self._number}")
        _check_count(blocks, self._agreement.session.length)
        if hash_blocks(blocks) != receipt.vector_sha256:
            raise SumRefused("wrong_vector", f"the vector of {site!r} is not the one that it signed")
        loaded = [_load(self._tenseal, self._loaded, block) for block in blocks]
        if not self._sum:
            self._sum = loaded
        else:
            self._add(loaded)
        self._receipts[site] = receipt

    def close(self) -> tuple[tuple[Receipt, ...], tuple[bytes, ...]]:
        """Give the receipts of all that is in the sum, sorted by site, and the sum's blocks."""
        blocks = tuple(vector.serialize() for vector in self._sum)
        return tuple(self._receipts[name] for name in sorted(self._receipts)), blocks

    def _add(self, loaded: Sequence[Any]) -> None:
        try:
            # Into new ones: a block that cannot be added must not leave half a vector in the sum.
            self._sum = [one + other for one, other in zip(self._sum, loaded, strict=True)]
        except (ValueError, RuntimeError) as error:
            raise SumRefused("wrong_vector", "a block has another scale than ours") from error


def _fresh_context() -> Any:
    tenseal = require_tenseal()
    context = tenseal.context(
        tenseal.SCHEME_TYPE.CKKS,
        poly_modulus_degree=_DEGREE,
        coeff_mod_bit_sizes=list(_MODULUS_BITS),
        encryption_type=tenseal.ENCRYPTION_TYPE.SYMMETRIC,
    )
    context.global_scale = _SCALE
    return context


def _serialized(context: Any, *, is_secret: bool) -> bytes:
    content: bytes = context.serialize(
        save_public_key=False, save_secret_key=is_secret, save_galois_keys=False, save_relin_keys=False
    )
    return content


def _context(content: bytes) -> Any:
    try:
        context = require_tenseal().context_from(content)
        is_ours = _serialized(context, is_secret=False) == public_context()
    except (ValueError, RuntimeError) as error:
        raise SumRefused("wrong_context", "not a CKKS context") from error
    if not is_ours:
        raise SumRefused("wrong_context", "a CKKS context of other parameters than ours")
    return context


def _secret_context(content: bytes) -> Any:
    context = _context(content)
    if not context.has_secret_key():
        raise SumRefused("wrong_context", "the CKKS context has no secret key")
    return context


def _load(tenseal: ModuleType, context: Any, block: bytes) -> Any:
    try:
        vector = tenseal.ckks_vector_from(context, block)
    except (ValueError, RuntimeError) as error:
        raise SumRefused("wrong_vector", "a block is no ciphertext of ours") from error
    if vector.size() != SLOTS:
        raise SumRefused("wrong_vector", f"expected blocks of {SLOTS} numbers, found {vector.size()}")
    return vector


def _check_count(blocks: Sequence[bytes], length: int) -> None:
    if len(blocks) != _blocks(length) or any(len(block) > _LARGEST_BLOCK for block in blocks):
        raise SumRefused("wrong_vector", f"expected {_blocks(length)} blocks, found {len(blocks)} or larger ones")


def _blocks(length: int) -> int:
    return -(-length // SLOTS)
