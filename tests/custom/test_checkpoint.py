"""What a controller commits after a round is read back whole, or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedward.errors import StoreError
from fedward.federation.best import Choice
from fedward.federation.record import JobRecord, RoundRecord
from fedward.federation.round import Participation
from fedward_flare.checkpoint import Checkpoint, Committed


def committed(best: np.ndarray | None) -> Committed:
    record = JobRecord(id="a" * 32, name="tiny", kind="train", asked=("east", "north"))
    return Committed(
        number=3,
        weights=np.arange(5, dtype=np.float32),
        best_weights=best,
        state=(np.ones(5, np.float32), np.full(5, 2, np.float32)),
        record=record.with_round(RoundRecord(number=1, seconds=1.0, weights={"east": 10})),
        choice=Choice().after(1, 0.5),
        participation=Participation(("east", "north"), silent=frozenset({"north"}), weights={"east": 10}),
    )


@pytest.mark.parametrize("best", [None, np.full(5, 7, np.float32)], ids=["none", "best"])
def test_a_committed_round_comes_back_as_it_was(tmp_path: Path, best: np.ndarray | None) -> None:
    checkpoint, written = Checkpoint(tmp_path / "job"), committed(best)
    assert checkpoint.read() is None
    checkpoint.write(written)
    read = checkpoint.read()
    assert read is not None
    assert (read.number, read.record, read.choice) == (3, written.record, written.choice)
    assert read.participation == written.participation
    np.testing.assert_array_equal(read.weights, written.weights)
    np.testing.assert_array_equal(np.stack(read.state), np.stack(written.state))
    assert (read.best_weights is None) == (best is None)
    checkpoint.remove()
    assert checkpoint.read() is None


def test_no_attempt_has_a_number_that_a_site_has_seen(tmp_path: Path) -> None:
    assert [Checkpoint(tmp_path).next_attempt() for _ in range(3)] == [0, 1, 2]


def test_a_damaged_file_is_not_gone_on_from(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path)
    checkpoint.write(committed(None))
    path = tmp_path / "state.npz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StoreError, match="cannot_read"):
        checkpoint.read()
