"""What privacy costs a step: time, memory and the secret noise's share, against training without it.

The demo's network and patch on the hippocampus; a step of either kind takes the same number of crops. Each kind runs in
a process of its own, so that one's peak memory is not the other's, and both start from the same prepared cases.
"""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import time
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from fedward.imaging.cases import SiteData
from fedward.models.initial import initial_weights
from fedward.models.runtime import Runtime
from fedward.randomness import Secret, add_noise
from fedward.settings.job import PrivateTraining, TrainingJob
from fedward.settings.site import read_site_settings
from fedward.training.local import train
from fedward.training.private import train_private

PATIENTS = 6
CROPS = 8
NOISE_MULTIPLIER = 1.0

#: The first step, with its imports and allocations, does not count.
STEPS = 12


@dataclass(frozen=True)
class Cost:
    """What one kind of training takes.

    Attributes:
        step_s: Median seconds of a step.
        peak_bytes: The process's peak above what it held before training.
        noise_s: Median seconds that one step's secret noise takes to draw and add; 0 without privacy.
    """

    step_s: float
    peak_bytes: int
    noise_s: float = 0.0


def measure(job: TrainingJob, site_file: Path) -> dict[str, float]:
    """Give the ratios of a private step of ``job``'s network over one without privacy.

    Args:
        job: Network and patch.
        site_file: Of a hospital with at least ``PATIENTS`` training patients.
    """
    plain, private = (_in_new_process(job, site_file, is_private=is_private) for is_private in (False, True))
    return {
        "step_time_ratio": private.step_s / plain.step_s,
        "peak_memory_ratio": private.peak_bytes / plain.peak_bytes,
        "noise_share": private.noise_s / private.step_s,
        "private_step_s": private.step_s,
        "plain_step_s": plain.step_s,
        "private_peak_mb": private.peak_bytes / 1e6,
        "plain_peak_mb": plain.peak_bytes / 1e6,
    }


def _in_new_process(job: TrainingJob, site_file: Path, *, is_private: bool) -> Cost:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_cost, (job, site_file, is_private))


def _cost(job: TrainingJob, site_file: Path, is_private: bool) -> Cost:
    job = _one_round(job, is_private=is_private)
    data = SiteData.open(read_site_settings(site_file), job, parts=["train"])
    chosen = sorted({case.patient_key for case in data.train})[:PATIENTS]
    data = replace(data.only(chosen), name="measured")
    assert len(data.training_cases) == PATIENTS
    weights = initial_weights(job)
    ended: list[float] = []
    before = _peak_bytes()

    def progress(_done: int, _of: int) -> None:
        ended.append(time.perf_counter())

    if is_private:
        train_private(
            weights,
            data,
            job,
            round_number=1,
            runtime=Runtime(),
            noise_multiplier=NOISE_MULTIPLIER,
            secret=Secret(),
            progress=progress,
        )
    else:
        train(weights, data, job, round_number=1, runtime=Runtime(), progress=progress)
    peak = _peak_bytes() - before
    step_s = statistics.median(after - start for start, after in pairwise(ended))
    return Cost(step_s, peak, _noise_s(weights.size) if is_private else 0.0)


def _one_round(job: TrainingJob, *, is_private: bool) -> TrainingJob:
    privacy = PrivateTraining(
        sampling_rate=1.0,
        noise_multiplier=NOISE_MULTIPLIER,
        clip_norm=1.0,
        expected_patients=PATIENTS,
        crops_per_patient=CROPS,
    )
    training = job.training.model_copy(
        update={"rounds": 1, "steps_per_round": STEPS, "batch_size": PATIENTS * CROPS, "positive_share": 0.5}
    )
    return job.model_copy(update={"training": training, "privacy": privacy if is_private else None})


def _noise_s(size: int) -> float:
    secret, values, taken = Secret(), np.zeros(size), []
    for _ in range(STEPS):
        start = time.perf_counter()
        add_noise(values, secret.gaussian(size, NOISE_MULTIPLIER), deviation=NOISE_MULTIPLIER)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:])


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
