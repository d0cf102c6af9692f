"""What a hospital would have without the federation: the same network and steps on its own patients alone.

To train alone and to keep what came of it a hospital needs nobody. To score on all hospitals needs every hospital's
images at once: for phantoms, public sets and benchmarks, never across real hospitals.
"""

from __future__ import annotations

import io
import signal
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fedward.errors import StoreError
from fedward.evaluation.cases import score_cases
from fedward.evaluation.summary import CaseScore
from fedward.files import write_bytes
from fedward.imaging.cases import SiteData
from fedward.models.initial import initial_weights
from fedward.models.networks import build
from fedward.models.runtime import Runtime, choose_runtime
from fedward.models.weights import layout_of
from fedward.settings.algorithms import FEDAVG
from fedward.settings.job import TrainingJob
from fedward.settings.networks import AnyNetwork
from fedward.settings.site import Compute, SiteSettings
from fedward.settings.tasks import AnyTask
from fedward.training.local import train

Scores = Mapping[str, tuple[CaseScore, ...]]

#: Below the site's state folder.
FOLDER = "alone"


def runtime_of(job: TrainingJob, compute: Compute) -> Runtime:
    """Choose how the job's network runs on this machine."""
    return choose_runtime(
        compute,
        network=job.network,
        task=job.task,
        patch_size=job.training.patch_size,
        batch_size=job.training.batch_size,
    )


def train_alone(site: SiteSettings, job: TrainingJob) -> NDArray[np.float32]:
    """Train the job's network on one site's training patients, as many steps as in the federation.

    Returns:
        The last weights, flat float32.

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
    return weights


def keep_alone(state: Path, job: TrainingJob, weights: NDArray[np.float32]) -> Path:
    """Keep a model that was trained alone in the hospital's own folder, under the job's name.

    Raises:
        StoreError: the disk cannot take it.
    """
    buffer = io.BytesIO()
    layout = layout_of(build(job.network, task=job.task)).digest
    np.savez(buffer, allow_pickle=False, weights=weights, layout=np.frombuffer(layout.encode(), np.uint8))
    write_bytes(_path(state, job.name), buffer.getvalue())
    return _path(state, job.name)


def local_weights(state: Path, name: str, *, network: AnyNetwork, task: AnyTask) -> NDArray[np.float32] | None:
    """Give the model that was kept under a name, if there is one and it is of that network.

    Raises:
        StoreError: ``cannot_read``: the file is damaged.
    """
    path = _path(state, name)
    if not path.exists():
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as parts:
            weights, layout = np.asarray(parts["weights"], np.float32), parts["layout"].tobytes().decode()
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise StoreError("cannot_read", f"{path.name} is damaged: {error}") from error
    return weights if layout == layout_of(build(network, task=task)).digest else None


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
    weights = train_alone(site, job)
    keep_alone(site.state, job, weights)
    return score_on_sites(weights, sites, job)


def _path(state: Path, name: str) -> Path:
    return state / FOLDER / f"{name}.npz"


def prepare_worker() -> None:
    """Make this process one of several that share the machine: one thread, and interrupts are its parent's affair."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
