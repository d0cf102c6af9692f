"""A job's numbers over its rounds as TensorBoard curves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from torch.utils.tensorboard import SummaryWriter


class Curves:
    """Writes event files into one folder; each value is on the disk when :meth:`add` returns.

    Args:
        folder: Made when missing.

    Example:
        >>> import tempfile
        >>> with Curves(Path(tempfile.mkdtemp())) as curves:
        ...     curves.add(1, {"validation/score": 0.5})
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._writer = SummaryWriter(str(folder))

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Add one point to each named curve at ``step`` (a round or an optimiser step)."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
