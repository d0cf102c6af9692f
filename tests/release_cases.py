"""A signed release of a tiny model, as several tests of the release room need it."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

import numpy as np
from cryptography import x509

from fedward.identity.certificates import fingerprint, load_certificate
from fedward.identity.release_identity import make_release_identity
from fedward.identity.signing import load_private_key
from fedward.release.gate import FIRST_RELEASE
from fedward.release.package import ReleaseParts, Trust, model_bytes, sign_release
from fedward.release.passport import Passport
from fedward.settings.job import TrainingJob
from trust_cases import NOW, PROJECT, Authority, training_job

ROOT = Authority()
KEY_PEM, CERTIFICATE_PEM = make_release_identity(PROJECT, ROOT.key, ROOT.certificate, now=NOW)
KEY, CERTIFICATE = load_private_key(KEY_PEM), load_certificate(CERTIFICATE_PEM)
JOB = training_job()
MODEL = model_bytes({"weight": np.arange(12, dtype=np.float32).reshape(3, 4), "bias": np.zeros(3, np.float32)})


def trust(**more: Any) -> Trust:
    return Trust(**{"root": ROOT.certificate, "project": PROJECT, "now": NOW, **more})


def passport(*, job: TrainingJob = JOB, model: bytes = MODEL, **more: Any) -> Passport:
    values: dict[str, Any] = {
        "project": PROJECT,
        "name": job.name,
        "number": 1,
        "created": NOW,
        "task": job.task,
        "input": job.input,
        "network": job.network,
        "patch_size": job.training.patch_size,
        "model_sha256": hashlib.sha256(model).hexdigest(),
        "weights_sha256": "b" * 64,
        "layout_digest": "c" * 64,
        "job_id": "d" * 32,
        "job_sha256": "e" * 64,
        "rounds": 3,
        "participants": ("east", "north"),
        "metrics": {"validation_score": 0.75},
        "exchange": "secure-sum",
        "gate": FIRST_RELEASE,
        "signer": fingerprint(CERTIFICATE),
    }
    return Passport(**{**values, **more})


def release_parts(
    *, model: bytes = MODEL, key: Any = KEY, certificate: x509.Certificate = CERTIFICATE, **more: Any
) -> ReleaseParts:
    made = passport(model=model, **{"signer": fingerprint(certificate), **more})
    return sign_release(model, made, key=key, certificate=certificate)


def release_identity(root: Authority, *, project: str = PROJECT, now: datetime = NOW) -> tuple[Any, x509.Certificate]:
    """Make another release key, of this or another root."""
    key, certificate = make_release_identity(project, root.key, root.certificate, now=now)
    return load_private_key(key), load_certificate(certificate)
