"""The site's secret that fixes its split."""

from __future__ import annotations

import os
from pathlib import Path

from fedward.errors import SourceError
from fedward.files import explained_writes, write_bytes
from fedward.randomness import Secret

_BYTES = 32


def read_split_key(state: Path) -> bytes:
    """Read ``state/split.key``, owner-only; the first call makes it.

    Whoever loses this file loses the split: test patients of old models may then train new ones.

    Raises:
        SourceError: ``unreadable_source``: the file is not a key.
        StoreError: the folder cannot be written.
    """
    path = state / "split.key"
    if not path.exists():
        _make(path)
    key = path.read_bytes()
    if len(key) != _BYTES:
        raise SourceError("unreadable_source", f"{path.name}: a split key has {_BYTES} bytes, found {len(key)}")
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
