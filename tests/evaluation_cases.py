"""A hospital with an installed release of one optimiser-free model, and an evaluation of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fedward.federation.consent import Weights
from fedward.hospital import Hospital
from fedward.identity.document import JobDocument, new_job_document
from fedward.models.initial import initial_weights
from fedward.models.networks import build
from fedward.models.weights import layout_of, named
from fedward.release.package import ReleaseParts, model_bytes, sign_release
from fedward.settings.job import CountsExchange, CountsPrivacy, EvaluatedTask, EvaluationJob, Sites, TrainingJob
from fedward.store.jobs import remember_job, witness
from hospital_cases import SITES, Site
from release_cases import KEY, passport
from trust_cases import NOW, PROJECT

#: Who trained a hospital's own model; they need not be in the archive any more.
TRAINERS = ("gone 1", "gone 2", "gone 3", "gone 4")


def with_held_out(site: Site, *, shares: bool = False) -> Site:
    """Keep more of the dozen patients for testing; ``shares`` lets the exact counts leave."""
    site.edit(lambda text: text.replace("test = 0.1", "test = 0.4").replace("validation = 0.3", "validation = 0.2"))
    if shares:
        site.edit(lambda text: text.replace('"validation_cases"]', '"validation_cases", "evaluation"]'))
    return site


def forget_who_trained(path: Path) -> None:
    """Make of a hospital's own model one whose file does not say on whom it was trained."""
    _rewrite(path, lambda parts: parts.pop("patients"))


def put_weights(path: Path, weights: Weights) -> None:
    """Put weights into the file of a hospital's own model that nobody would keep."""
    _rewrite(path, lambda parts: parts.update(weights=weights))


def _rewrite(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    with np.load(path) as found:
        parts = dict(found)
    change(parts)
    np.savez(path, **parts)


def evaluation_job(task: EvaluatedTask = "lesions", *, mode: Any = "plain", noise: float = 2.0) -> EvaluationJob:
    return EvaluationJob(
        kind="evaluate",
        name="evaluation",
        sites=Sites(minimum=2 if mode == "plain" else 3, deadline_s=120),
        release="ball",
        number=1,
        task=task,
        exchange=CountsExchange(mode=mode),
        privacy=CountsPrivacy(noise_multiplier=noise),
    )


def release_of(job: TrainingJob, weights: np.ndarray | None = None) -> ReleaseParts:
    """Sign the job's initial weights, or others, as release ball-1."""
    flat = initial_weights(job) if weights is None else weights
    layout = layout_of(build(job.network, task=job.task))
    model = model_bytes(named(layout, flat))
    made = passport(
        job=job,
        model=model,
        weights_sha256=hashlib.sha256(flat.tobytes()).hexdigest(),
        layout_digest=layout.digest,
    )
    return sign_release(model, made, key=KEY, certificate=_certificate())


def install(hospital: Hospital, parts: ReleaseParts, *, weights_sha256: str) -> None:
    """Install a release whose model the hospital has received in the job that its passport names."""
    remember_job(hospital.database, job_id="d" * 32, kind="train", name="ball", digest="e" * 64, now=NOW)
    witness(hospital.database, job_id="d" * 32, number=1, weights_sha256=weights_sha256, now=NOW)
    hospital.install_parts(parts)


def evaluation_of(job: EvaluationJob, parts: ReleaseParts) -> JobDocument:
    return new_job_document(job, project=PROJECT, sites=SITES, now=NOW, release=parts.hashes)


def _certificate() -> Any:
    from release_cases import CERTIFICATE

    return CERTIFICATE
