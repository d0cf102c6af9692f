"""A masked vector in NVFLARE's messages."""

from __future__ import annotations

import numpy as np
from nvflare.apis.shareable import Shareable

from fedward.errors import SumRefused
from fedward.federation.secure_messages import Masked, Receipt

_RECEIPT, _VECTOR = "fedward.receipt", "fedward.vector"


def add_masked(message: Shareable, masked: Masked) -> None:
    """Put a masked vector into a message."""
    message[_RECEIPT], message[_VECTOR] = masked.receipt.to_bytes(), masked.vector


def masked_of(answer: Shareable) -> Masked | None:
    """Give the masked vector of an answer, if it holds one.

    Raises:
        SumRefused: ``malformed_message``.
    """
    if _RECEIPT not in answer:
        return None
    receipt, vector = answer[_RECEIPT], answer.get(_VECTOR)
    if (
        not isinstance(receipt, bytes)
        or not isinstance(vector, np.ndarray)
        or vector.dtype != np.uint32
        or vector.ndim != 1
    ):
        raise SumRefused("malformed_message", "expected a receipt and a vector of uint32")
    return Masked(Receipt.from_bytes(receipt), vector)
