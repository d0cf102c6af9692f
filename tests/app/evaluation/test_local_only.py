"""A hospital's own model: kept under the job's name, for its own eyes, and taken for no other network's."""

from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pytest

from fedward.errors import StoreError
from fedward.evaluation.local_only import keep_alone, local_weights
from fedward.models.initial import initial_weights
from tiny_federation import classifying, training_job

JOB = training_job()


def test_a_kept_model_comes_back(tmp_path: Path) -> None:
    assert local_weights(tmp_path, "ball", network=JOB.network, task=JOB.task) is None
    path = keep_alone(tmp_path, JOB, initial_weights(JOB))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = local_weights(tmp_path, "ball", network=JOB.network, task=JOB.task)
    np.testing.assert_array_equal(again, initial_weights(JOB))


def test_another_networks_model_is_not_taken(tmp_path: Path) -> None:
    other = classifying(JOB)
    keep_alone(tmp_path, other, initial_weights(other))
    assert local_weights(tmp_path, "ball", network=JOB.network, task=JOB.task) is None


def test_a_damaged_model_is_an_error(tmp_path: Path) -> None:
    path = keep_alone(tmp_path, JOB, initial_weights(JOB))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StoreError, match="cannot_read"):
        local_weights(tmp_path, "ball", network=JOB.network, task=JOB.task)
