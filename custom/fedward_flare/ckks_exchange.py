"""The messages of a sum under a homomorphic key: packed here, and doubted here when they come."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from nvflare.apis.shareable import Shareable

from fedward.errors import SumRefused
from fedward.federation.secure_messages import Receipt, hash_vector
from fedward_flare import sum_exchange
from fedward_flare.sum_masks import add_blocks, blocks_of

_ROUND, _DIGEST, _TOTAL = "fedward.round", "fedward.total_sha256", "fedward.total"
_HASH = re.compile(r"[0-9a-f]{64}")


def pack_sum(number: int, receipts: Sequence[Receipt], blocks: Sequence[bytes]) -> Shareable:
    """Bring the sum's ciphertexts to a site."""
    message = sum_exchange.pack_survivors(number, receipts)
    add_blocks(message, blocks)
    return message


def unpack_sum(message: Shareable) -> tuple[int, tuple[Receipt, ...], tuple[bytes, ...]]:
    """Give round, receipts and ciphertexts.

    Raises:
        SumRefused: ``malformed_message``.
    """
    number, receipts, _ = sum_exchange.unpack_survivors(message)
    return number, receipts, blocks_of(message)


def pack_digest(total: NDArray[np.uint32]) -> Shareable:
    """Answer with the hash of what was decrypted."""
    return _message(_DIGEST, hash_vector(total))


def unpack_digest(answer: Shareable) -> str:
    """Give the hash.

    Raises:
        SumRefused: ``malformed_message``.
    """
    digest = answer.get(_DIGEST)
    if not isinstance(digest, str) or not _HASH.fullmatch(digest):
        raise SumRefused("malformed_message", "expected a hash of what was decrypted")
    return digest


def pack_ask(number: int) -> Shareable:
    """Ask one site for what it has decrypted in a round."""
    return _message(_ROUND, number)


def unpack_ask(message: Shareable) -> int:
    """Give the round.

    Raises:
        SumRefused: ``malformed_message``.
    """
    number = message.get(_ROUND)
    if type(number) is not int:
        raise SumRefused("malformed_message", f"expected a round's number, got {number!r}")
    return number


def pack_total(total: NDArray[np.uint32]) -> Shareable:
    """Answer with what was decrypted."""
    return _message(_TOTAL, total)


def unpack_total(answer: Shareable) -> NDArray[np.uint32]:
    """Give what was decrypted.

    Raises:
        SumRefused: ``malformed_message``.
    """
    total = answer.get(_TOTAL)
    if not isinstance(total, np.ndarray) or total.dtype != np.uint32 or total.ndim != 1:
        raise SumRefused("malformed_message", "expected a vector of uint32")
    return total


def _message(key: str, value: object) -> Shareable:
    message = Shareable()
    message[key] = value
    return message
