"""A masked or encrypted vector in NVFLARE's messages."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from nvflare.apis.shareable import Shareable

from fedward.errors import SumRefused
from fedward.federation.ckks import Encrypted
from fedward.federation.secure_messages import Masked, Receipt

_RECEIPT, _VECTOR = "fedward.receipt", "fedward.vector"
_BLOCKS, _ENDS = "fedward.blocks", "fedward.block_ends"


def add_masked(message: Shareable, masked: Masked | Encrypted) -> None:
    """Put a masked or encrypted vector into a message."""
    message[_RECEIPT] = masked.receipt.to_bytes()
    if isinstance(masked, Masked):
        message[_VECTOR] = masked.vector
    else:
        add_blocks(message, masked.blocks)


def masked_of(answer: Shareable) -> Masked | Encrypted | None:
    """Give the masked or encrypted vector of an answer, if it holds one.

    Raises:
        SumRefused: ``malformed_message``.
    """
    if _RECEIPT not in answer:
        return None
    receipt, vector = answer[_RECEIPT], answer.get(_VECTOR)
    if isinstance(receipt, bytes) and _BLOCKS in answer:
        return Encrypted(Receipt.from_bytes(receipt), blocks_of(answer))
    if (
        not isinstance(receipt, bytes)
        or not isinstance(vector, np.ndarray)
        or vector.dtype != np.uint32
        or vector.ndim != 1
    ):
        raise SumRefused("malformed_message", "expected a receipt and a vector of uint32")
    return Masked(Receipt.from_bytes(receipt), vector)


def add_blocks(message: Shareable, blocks: Sequence[bytes]) -> None:
    """Put ciphertexts into a message, as one array: NVFLARE sends that as a stream."""
    message[_BLOCKS] = np.frombuffer(b"".join(blocks), np.uint8)
    message[_ENDS] = np.cumsum([len(block) for block in blocks], dtype=np.int64)


def blocks_of(message: Shareable) -> tuple[bytes, ...]:
    """Give the ciphertexts of a message.

    Raises:
        SumRefused: ``malformed_message``.
    """
    content, ends = message.get(_BLOCKS), message.get(_ENDS)
    are_arrays = isinstance(content, np.ndarray) and isinstance(ends, np.ndarray)
    if not are_arrays or content.dtype != np.uint8 or ends.dtype != np.int64 or (content.ndim, ends.ndim) != (1, 1):
        raise SumRefused("malformed_message", "expected ciphertexts and where each ends")
    bounds = [0, *ends.tolist()]
    if any(start >= end for start, end in pairwise(bounds)) or bounds[-1] != content.size:
        raise SumRefused("malformed_message", "the ciphertexts do not end where they should")
    return tuple(content[start:end].tobytes() for start, end in pairwise(bounds))
