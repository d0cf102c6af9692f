"""What privacy costs a step: time, memory and the secret noise's share, against training without it.

The demo's network and patch on the hippocampus; a step of either kind takes the same number of crops. For the time both
kinds take turns in one process, so that whatever else the machine does falls on both; for the memory each runs in a
process of its own, so that one's peak is not the other's.
"""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

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

#: Turns of each kind, and the steps of a turn; the first one, with its allocations, does not count.
TURNS = 8
STEPS = 5


def measure(job: TrainingJob, site_file: Path) -> dict[str, float]:
    """Give the ratios of a private step of ``job``'s network over one without privacy.

    ``step_time_ratio`` compares the fastest step of either kind, which other work on the machine disturbs least;
    ``step_time_ratio_of_medians`` all of them.

    Args:
        job: Network, input and patch.
        site_file: Of a hospital with at least ``PATIENTS`` training patients.
    """
    plain_bytes, private_bytes = (_in_new_process(_peak, job, site_file, kind) for kind in (False, True))
    plain_s, private_s, noise_s = _in_new_process(_times, job, site_file)
    return {
        "step_time_ratio": min(private_s) / min(plain_s),
        "step_time_ratio_of_medians": statistics.median(private_s) / statistics.median(plain_s),
        "peak_memory_ratio": private_bytes / plain_bytes,
        "noise_share": min(noise_s) / min(private_s),
        "noise_share_of_medians": statistics.median(noise_s) / statistics.median(private_s),
        "private_step_s": min(private_s),
        "plain_step_s": min(plain_s),
        "private_peak_mb": private_bytes / 1e6,
        "plain_peak_mb": plain_bytes / 1e6,
    }


def _in_new_process(function: Callable[..., Any], *arguments: object) -> Any:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def _times(job: TrainingJob, site_file: Path) -> tuple[list[float], list[float], list[float]]:
    """Give the seconds of the steps without privacy, of the private ones, and of one step's noise by itself."""
    data = _patients(job, site_file)
    plain, private, noise = [], [], []
    for _ in range(TURNS):
        plain += _steps_s(job, data, is_private=False)
        private += _steps_s(job, data, is_private=True)
        noise += _noise_s(initial_weights(job).size)
    return plain, private, noise


def _peak(job: TrainingJob, site_file: Path, is_private: bool) -> int:
    """Give the process's peak in bytes above what it held before training."""
    data = _patients(job, site_file)
    before = _peak_bytes()
    _steps_s(job, data, is_private=is_private)
    return _peak_bytes() - before


def _patients(job: TrainingJob, site_file: Path) -> SiteData:
    data = SiteData.open(read_site_settings(site_file), job, parts=["train"])
    data = data.only(sorted({case.patient_key for case in data.train})[:PATIENTS])
    assert len(data.training_cases) == PATIENTS
    return data


def _steps_s(job: TrainingJob, data: SiteData, *, is_private: bool) -> list[float]:
    job = _one_round(job, is_private=is_private)
    ended: list[float] = []
    where = {"round_number": 1, "runtime": Runtime(), "progress": lambda *_: ended.append(time.perf_counter())}
    if is_private:
        train_private(initial_weights(job), data, job, noise_multiplier=NOISE_MULTIPLIER, secret=Secret(), **where)
    else:
        train(initial_weights(job), data, job, **where)
    return [after - start for start, after in pairwise(ended)]


def _one_round(job: TrainingJob, *, is_private: bool) -> TrainingJob:
    privacy = PrivateTraining(
        sampling_rate=1.0,
        noise_multiplier=NOISE_MULTIPLIER,
        clip_norm=1.0,
        expected_patients=PATIENTS,
        crops_per_patient=CROPS,
    )
    training = job.training.model_copy(update={"rounds": 1, "steps_per_round": STEPS, "batch_size": PATIENTS * CROPS})
    return job.model_copy(update={"training": training, "privacy": privacy if is_private else None})


def _noise_s(size: int) -> list[float]:
    secret, values, ended = Secret(), np.zeros(size), [time.perf_counter()]
    for _ in range(STEPS):
        add_noise(values, secret.gaussian(size, NOISE_MULTIPLIER), deviation=NOISE_MULTIPLIER)
        ended.append(time.perf_counter())
    return [after - start for start, after in pairwise(ended[1:])]


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
