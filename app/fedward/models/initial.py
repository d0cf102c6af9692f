"""The weights that a job starts from."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from fedward.models.networks import build
from fedward.models.weights import read_weights
from fedward.randomness import Seeded
from fedward.settings.job import TrainingJob


def initial_weights(job: TrainingJob) -> NDArray[np.float32]:
    """Draw the job's initial weights from its seed, flat float32; PyTorch's own generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(Seeded(job.training.seed).seed_of("initial weights"))
        return read_weights(build(job.network, task=job.task))
