"""Files of which no more is read than there is.

pydicom asks for as many bytes as a length in the file says, and Python sets so much memory aside before it looks: one
wrong digit in a header would cost four gigabytes.
"""

from __future__ import annotations

import io
from pathlib import Path


class BoundedReader(io.BufferedReader):
    """A file open for reading; a request for more than is left gives what is left."""

    def __init__(self, path: Path) -> None:
        super().__init__(path.open("rb", buffering=0))
        self._size = path.stat().st_size

    def read(self, size: int | None = -1, /) -> bytes:
        """Give the next ``size`` bytes, or as many as there are."""
        if size is None or size < 0:
            return super().read()
        return super().read(min(size, max(0, self._size - self.tell())))
