"""What a hospital would have without the federation: the same network and steps on its own patients alone.

To train alone and to keep what came of it a hospital needs nobody. To score on all hospitals needs every hospital's
images at once: for phantoms, public sets and benchmarks, never across real hospitals.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from fedward.evaluation.cases import score_cases
from fedward.evaluation.kept_alone import keep_alone
from fedward.evaluation.summary import CaseScore
from fedward.imaging.cases import SiteData
from fedward.models.initial import initial_weights
from fedward.models.runtime import Runtime, choose_runtime
from fedward.settings.algorithms import FEDAVG
from fedward.settings.job import TrainingJob
from fedward.settings.site import Compute, SiteSettings
from fedward.training.local import train

Scores = Mapping[str, tuple[CaseScore, ...]]


@dataclass(frozen=True, eq=False)
class Alone:
    """What training alone has given.

    Attributes:
        weights: The last ones, flat float32.
        patient_keys: Of all who trained them.
    """

    weights: NDArray[np.float32]
    patient_keys: frozenset[str]


def runtime_of(job: TrainingJob, compute: Compute) -> Runtime:
    """Choose how the job's network runs on this machine."""
    return choose_runtime(
        compute,
        network=job.network,
        task=job.task,
        patch_size=job.training.patch_size,
        batch_size=job.training.batch_size,
    )


def train_alone(site: SiteSettings, job: TrainingJob) -> Alone:
    """Train the job's network on one site's training patients, as many steps as in the federation.

    Raises:
        SourceError: the site has nothing to train on.
    """
    # Alone there is no global model to be held near.
    job = job.model_copy(update={"algorithm": FEDAVG})
    runtime = runtime_of(job, site.compute)
    data = SiteData.open(site, job, parts=["train"])
    weights, state = initial_weights(job), None
    for number in range(1, job.training.rounds + 1):
        result = train(weights, data, job, round_number=number, runtime=runtime, optimiser_state=state)
        weights, state = weights + result.update, result.optimiser_state
    return Alone(weights, frozenset(case.patient_key for case in data.train))


def score_on_sites(weights: NDArray[np.float32], sites: Sequence[SiteSettings], job: TrainingJob) -> Scores:
    """Score weights on the held-out test patients of each site; patients carry their site's name."""
    scores: dict[str, tuple[CaseScore, ...]] = {}
    for site in sites:
        runtime = runtime_of(job, site.compute)
        cases = SiteData.open(site, job, parts=["test"]).test
        scores[site.name] = tuple(
            replace(score, patient=f"{site.name}/{score.patient}")
            for score in score_cases(weights, cases, job, runtime=runtime)
        )
    return scores


def score_alone(name: str, sites: Sequence[SiteSettings], job: TrainingJob) -> Scores:
    """Train on the site ``name`` alone, keep the model there, and score it on all ``sites``' held-out patients."""
    site = next(site for site in sites if site.name == name)
    alone = train_alone(site, job)
    keep_alone(site.state, job, alone.weights, patient_keys=alone.patient_keys)
    return score_on_sites(alone.weights, sites, job)


def prepare_worker() -> None:
    """Make this process one of several that share the machine: one thread, and interrupts are its parent's affair."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
