"""A hospital that gives its own model where all hospitals of a job give theirs, and what the others sign."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from evaluation_cases import (
    TRAINERS,
    evaluation_job,
    evaluation_of,
    install,
    release_of,
    with_held_out,
)
from fedward.evaluation.kept_alone import keep_alone
from fedward.federation.consent import Consent, Weights, consent_to, hash_model
from fedward.hospital import Hospital
from fedward.identity.certificates import fingerprint
from fedward.identity.document import JobDocument
from fedward.identity.roster import Signer
from fedward.models.initial import initial_weights
from fedward.release.passport import parse_passport
from fedward.settings.job import EvaluationJob, TrainingJob
from fedward.site_evaluation import PAGES
from hospital_cases import ROOT, SITES, Site, make_site, signed
from tiny_federation import training_job
from trust_cases import pem, pem_of, rsa_key

JOB = training_job(rounds=2, minimum=2)
RELEASED = initial_weights(JOB)
OWN, EASTS = RELEASED + np.float32(0.01), RELEASED - np.float32(0.01)
LINE = "allow_non_private = true"
MATRIX = EvaluationJob.model_validate(evaluation_job().model_dump() | {"local_models": True})


CERTIFICATES = {name: ROOT.leaf(name) for name in ("north", "east", "west")}


def signer(name: str) -> Signer:
    return Signer(name, rsa_key(name), pem(CERTIFICATES[name]))


def yes_of(document: JobDocument, weights: Weights | None = EASTS, *, name: str = "east", by: str = "") -> Consent:
    made = consent_to(document, signer(by or name), model_sha256=None if weights is None else hash_model(weights))
    return made.model_copy(update={"site": name})


def giving_site(folder: Path) -> Site:
    """A hospital that gives its own model to who asks all hospitals for theirs."""
    made = with_held_out(make_site(folder))
    (folder / "client.key").write_bytes(pem_of(rsa_key("north")))
    (folder / "client.crt").write_bytes(pem(CERTIFICATES["north"]))
    line = '{{ name = "{0}", organisation = "{0}", fingerprint = "{1}" }}'
    peers = ", ".join(line.format(name, fingerprint(CERTIFICATES[name])) for name in SITES)
    made.edit(lambda text: re.sub(r"hospitals = \[.*\]", f"hospitals = [{peers}]", text))
    made.edit(lambda text: text.replace(LINE, f"{LINE}\nshare_local_model = true"))
    made.edit(lambda text: f'{text}certificate = "client.crt"\nprivate_key = "client.key"\n')
    return made


def opened(
    site: Site, job: EvaluationJob = MATRIX, own: Weights | None = OWN, training: TrainingJob = JOB
) -> tuple[Hospital, JobDocument]:
    hospital, parts = site.open(), release_of(training)
    install(hospital, parts, weights_sha256=parse_passport(parts.passport).weights_sha256)
    if own is not None:
        keep_alone(hospital.site.state, JOB, own, patient_keys=TRAINERS)
    return hospital, hospital.accept(signed(evaluation_of(job, parts)))


def numbers_of(site: Site) -> Any:
    (folder,) = (site.folder / "state" / PAGES).iterdir()
    return json.loads((folder / "evaluation.json").read_text())
