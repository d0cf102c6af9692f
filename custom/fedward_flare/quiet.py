"""Keep NVFLARE's prints and log records off the console, which belongs to the user and to scripts."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any, TextIO


class _OtherThreads:
    """A stream that drops what one thread writes and passes on what the others write."""

    def __init__(self, stream: TextIO, silenced: int) -> None:
        self._stream = stream
        self._silenced = silenced

    def write(self, text: str) -> int:
        """Write ``text`` unless this is the silenced thread."""
        return len(text) if threading.get_ident() == self._silenced else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Drop what the calling thread prints inside the block; a live table in another thread goes on.

    NVFLARE's log records go nowhere unless somebody has set up logging.
    """
    logger = logging.getLogger("nvflare")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    before = sys.stdout, sys.stderr
    thread = threading.get_ident()
    sys.stdout, sys.stderr = (_OtherThreads(stream, thread) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
