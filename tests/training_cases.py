"""Training on a site of small studies, as several tests need it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fedward.imaging.cases import SiteData
from fedward.models.initial import initial_weights
from fedward.models.networks import build
from fedward.models.runtime import Runtime
from fedward.settings.job import TrainingJob
from fedward.training.local import train
from fedward.training.private import PatientCrops, PatientSum
from fedward.training.task_loss import loss_of
from small_cases import site_at

RUNTIME = Runtime()


def site_data(folder: Path, studies: Sequence[Any], job: TrainingJob, *, validation: float = 0.0) -> SiteData:
    """Prepare the studies at a site whose split is the same in every run and holds none out for the test."""
    (folder / "state").mkdir(mode=0o700)
    (folder / "state" / "split.key").write_bytes(bytes(32))
    return SiteData.prepare(studies, site_at(folder, split={"validation": validation, "test": 0.0}), job)


def trained(data: SiteData, job: TrainingJob, *, rounds: int) -> tuple[np.ndarray, list[float]]:
    """Train so many rounds in a row; give the weights and each round's loss."""
    weights, state, losses = initial_weights(job), None, []
    for number in range(1, rounds + 1):
        result = train(weights, data, job, round_number=number, runtime=RUNTIME, optimiser_state=state)
        weights, state = weights + result.update, result.optimiser_state
        losses.append(result.loss)
    return weights, losses


def clipped_sum(job: TrainingJob, patients: Sequence[PatientCrops], *, batch_size: int, clip: float) -> np.ndarray:
    """Sum what the patients' crops say to one and the same untrained network, each patient clipped."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build(job.network, task=job.task)
    total = PatientSum(module, clip_norm=clip, loss=loss_of(job.task))
    for patient in patients:
        total.add(patient, batch_size=batch_size, runtime=RUNTIME)
    return total.take()
