"""One value, one encoding: the JSON bytes that are hashed and signed.

Keys sorted, no spaces, UTF-8, no NaN. Reading is strict: bytes that are not exactly the encoding of what they say are
refused, so that no second text carries the same signature.
"""

from __future__ import annotations

import json
from typing import Any

from fedward.errors import IdentityError

#: No honest document comes near this (bytes).
MAX_DOCUMENT = 1024 * 1024


def encode(value: object) -> bytes:
    """Give the canonical bytes of a JSON value.

    Raises:
        IdentityError: ``not_canonical``: the value holds something that JSON cannot say, such as NaN.
    """
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise IdentityError("not_canonical", f"the value cannot be written as canonical JSON: {error}") from error


def decode(content: bytes, *, max_size: int = MAX_DOCUMENT) -> dict[str, Any]:
    """Read canonical bytes as an object.

    Raises:
        IdentityError: ``not_canonical``: too large, not JSON, not an object, or not the canonical encoding of itself.
    """
    if len(content) > max_size:
        raise IdentityError("not_canonical", f"expected at most {max_size} bytes, found {len(content)}")
    try:
        value = json.loads(content.decode())
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise IdentityError("not_canonical", f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise IdentityError("not_canonical", f"expected an object, found {type(value).__name__}")
    if encode(value) != content:
        raise IdentityError("not_canonical", "the bytes are not the canonical encoding of what they say")
    return value
