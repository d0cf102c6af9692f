from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from fedward.training.batches import Placed, ahead


def items(count: int) -> Iterator[Placed]:
    for number in range(count):
        yield torch.tensor(number), torch.tensor(-number)


def test_items_come_out_in_order() -> None:
    with ahead(items(20), depth=3) as prepared:
        assert [(int(a), int(b)) for a, b in prepared] == [(n, -n) for n in range(20)]


def test_an_error_in_the_thread_comes_out() -> None:
    def failing() -> Iterator[Placed]:
        yield from items(1)
        raise OSError("the disk went away")

    with ahead(failing(), depth=2) as prepared:
        next(prepared)
        with pytest.raises(OSError, match="disk went away"):
            next(prepared)


def test_leaving_early_ends_the_thread() -> None:
    with ahead(items(10_000), depth=2) as prepared:
        next(prepared)
        names = [thread.name for thread in threading.enumerate()]
        assert "patches" in names
    assert "patches" not in [thread.name for thread in threading.enumerate()]
