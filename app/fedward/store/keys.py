"""The site's own secret keys: made once, owner-only, never replaced by a second maker."""

from __future__ import annotations

import os
from pathlib import Path

from fedward.errors import StoreError
from fedward.files import explained_writes, write_bytes
from fedward.randomness import Secret

_BYTES = 32


def read_key(path: Path) -> bytes:
    """Read the 32 bytes of a key file; the first call makes it.

    Raises:
        StoreError: ``unreadable_key``: the file is not a key; or the folder cannot be written.
    """
    if not path.exists():
        _make(path)
    key = path.read_bytes()
    if len(key) != _BYTES:
        raise StoreError("unreadable_key", f"{path.name}: a key has {_BYTES} bytes, found {len(key)}")
    return key


def _make(path: Path) -> None:
    randomness = Secret()
    temporary = path.with_name(f".{path.name}.{randomness.token()}")
    write_bytes(temporary, randomness.take(_BYTES))
    with explained_writes(path):
        try:
            os.link(temporary, path)
        except FileExistsError:
            return  # another process was first: its key holds
        finally:
            temporary.unlink()
