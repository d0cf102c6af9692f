"""The release gate at one hospital: a trained model against the release that runs here, on held-out patients, one bit.

The two models are scored on the patients whom no training and no choice has seen. What leaves is made of a noised sum,
which the privacy ledger charges before it is drawn. Nothing is installed.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fedward.errors import JobRefused, ModelError, ReleaseRefused
from fedward.evaluation.cases import score_cases
from fedward.evaluation.paired import differences
from fedward.evaluation.summary import CaseScore
from fedward.federation.record import NON_INFERIOR, NOT_SHOWN
from fedward.hospital import Hospital
from fedward.identity.document import JobDocument, parse_document
from fedward.imaging.cases import SiteData
from fedward.inference.load import running_weights
from fedward.models.networks import build
from fedward.models.runtime import choose_runtime
from fedward.models.weights import flattened, layout_of
from fedward.privacy.ledger import JobId
from fedward.privacy.non_inferiority import is_non_inferior
from fedward.privacy.plan import TEST, check_delta, cost_of
from fedward.privacy.sealed import Answer, answer_once
from fedward.randomness import Secret
from fedward.release.gate import CandidateFiles
from fedward.release.model_store import load_installed
from fedward.release.package import Release, parameters_of
from fedward.release.passport import Passport
from fedward.settings.algorithms import FedBN
from fedward.settings.job import GateJob, TrainingJob
from fedward.site_own import trained_norms
from fedward.store.gates import remember_answer
from fedward.store.jobs import accepted_digest, end_job, was_witnessed
from fedward.store.releases import stored_releases
from fedward.store.vault import Vault
from fedward.training.own import personal

Weights = NDArray[np.float32]
ShouldStop = Callable[[], bool]

#: The name of the bit in the sealed answer.
_BIT = NON_INFERIOR

#: What two models that do one task may each have of their own.
_OWN = {"minimum_probability", "operating_point", "class_weights", "typical_diameter_mm"}


def gate(
    hospital: Hospital, document: JobDocument, files: CandidateFiles, *, should_stop: ShouldStop = lambda: False
) -> bool:
    """Say whether a model that this hospital helped to train is non-inferior to the release that runs here.

    Args:
        hospital: Where.
        document: The accepted gate.
        files: The model and its training job's document.
        should_stop: Asked between windows.

    Raises:
        JobRefused: ``unknown_job``: this hospital did not take part in that training; ``too_few_patients``,
            ``privacy_spent``, ``delta_too_large``: it cannot say; ``model_changed``, ``kind_not_allowed``.
        ReleaseRefused: ``altered_model``; ``not_witnessed``: it never received the model; ``no_active_model``: it has
            no release of that name; ``other_task``: it has one that answers another question;
            ``norms_missing``: one of the two leaves its norms to each hospital, and this one has none.
        SourceError, StoreError, Stopped: see :mod:`fedward.errors`.
    """
    job, named = document.job, document.candidate
    if not isinstance(job, GateJob) or named is None:
        raise JobRefused("kind_not_allowed", f"the job is of kind {job.kind}, the task belongs to a gate")
    trained, weights = _candidate(hospital, document, files)
    running = _running(hospital, trained.name)
    norms = hospital.own_norms(running)
    before = _as_job(trained, running.passport)
    data = SiteData.open(hospital.site, trained, parts=["test"], should_stop=should_stop)
    ledger, caps = hospital.ledger(), hospital.site.privacy
    patients = {case.patient_key for case in data.cases}
    check_delta(caps.delta, len(patients))
    noise, spend = max(job.noise_multiplier, caps.min_noise_multiplier), cost_of(job, caps).spend
    names = {key: ledger.pseudonym(key) for key in patients}
    admitted = ledger.reserve(
        JobId(document.id, job.name, document.digest, document.expires),
        patients=dict.fromkeys(names.values(), TEST),
        plan=spend,
        smallest_cohort={TEST: hospital.site.bounds.min_patients},
        after_unprotected=caps.allow_non_private,
    )
    taken = {key for key, name in names.items() if name in admitted}

    def make() -> Answer:
        again = SiteData.open(hospital.site, before, parts=["test"], should_stop=should_stop)
        new = _scores(weights, data.only(taken), trained, hospital, should_stop)
        old = _scores(running_weights(running, norms), again.only(taken), before, hospital, should_stop)
        bit = is_non_inferior(
            differences(new, old),
            margin=job.margin,
            confidence=job.confidence,
            noise_multiplier=noise,
            secret=Secret(),
        )
        return Answer(None, 1, {_BIT: float(bit)})

    folder = hospital.site.state / "jobs" / document.id
    answer = answer_once(
        ledger,
        folder,
        vault=Vault.open(hospital.site.sealing_key),
        job_id=document.id,
        number=1,
        model_sha256=named.weights_sha256,
        spend=spend,
        make=make,
    )
    bit = answer.metrics[_BIT] == 1.0
    _close(hospital, document, bit=bit)
    shutil.rmtree(folder, ignore_errors=True)
    return bit


def _scores(
    weights: Weights, data: SiteData, job: TrainingJob, hospital: Hospital, should_stop: ShouldStop
) -> tuple[CaseScore, ...]:
    runtime = choose_runtime(
        hospital.site.compute,
        network=job.network,
        task=job.task,
        patch_size=job.training.patch_size,
        batch_size=job.training.batch_size,
    )
    return score_cases(weights, data.test, job, runtime=runtime, should_stop=should_stop)


def _candidate(hospital: Hospital, document: JobDocument, files: CandidateFiles) -> tuple[TrainingJob, Weights]:
    """Give the training job and the weights that would run here, once both are what this hospital accepted and got."""
    named = document.candidate
    digest = accepted_digest(hospital.database, job_id=named.job_id) if named else None
    if named is None or digest is None or hashlib.sha256(files.document).hexdigest() != digest:
        raise JobRefused("unknown_job", "the model is not of a training job that this hospital took part in")
    job = parse_document(files.document).job
    if not isinstance(job, TrainingJob):
        raise JobRefused("unknown_job", f"the model's job {named.job_id} is of kind {job.kind}")
    try:
        weights = flattened(layout_of(build(job.network, task=job.task)), parameters_of(files.model))
    except ModelError as error:
        raise ReleaseRefused("altered_model", f"the model does not fit its job's network: {error.detail}") from error
    if hashlib.sha256(weights.tobytes()).hexdigest() != named.weights_sha256:
        raise JobRefused("model_changed", "the model is not the one that the gate's document names")
    with hospital.database.transaction() as session:
        if not was_witnessed(session, job_id=named.job_id, weights_sha256=named.weights_sha256):
            raise ReleaseRefused("not_witnessed", f"this site never received that model in job {named.job_id}")
    if not isinstance(job.algorithm, FedBN):
        return job, weights
    own = trained_norms(named.job_id, named.weights_sha256, site=hospital.site, database=hospital.database)
    return job, personal(job, weights, own)


def _running(hospital: Hospital, name: str) -> Release:
    """Give the release of a name that runs here; where none of that name does, the latest that was installed."""
    found = [stored for stored in stored_releases(hospital.database) if stored.name == name]
    if not found:
        raise ReleaseRefused("no_active_model", f"this site has no release named {name} to compare with")
    return load_installed(max(found, key=lambda stored: (stored.is_active, stored.number)), state=hospital.site.state)


def _as_job(trained: TrainingJob, passport: Passport) -> TrainingJob:
    """Give the job as which the running release is scored: its own network, input and operating point."""
    if passport.task.model_dump(exclude=_OWN) != trained.task.model_dump(exclude=_OWN):
        raise ReleaseRefused("other_task", f"{passport.name}-{passport.number} does another task than the candidate")
    training = trained.training.model_copy(update={"patch_size": passport.patch_size})
    changes = {"network": passport.network, "input": passport.input, "task": passport.task, "training": training}
    return trained.model_copy(update=changes)


def _close(hospital: Hospital, document: JobDocument, *, bit: bool) -> None:
    """Keep what is about to leave, and free what was reserved and not used."""
    named, now = document.candidate, hospital.clock()
    if named is not None:
        remember_answer(
            hospital.database, job_id=document.id, weights_sha256=named.weights_sha256, non_inferior=bit, now=now
        )
    hospital.ledger().close(document.id)
    end_job(hospital.database, job_id=document.id, now=now)
    hospital.audit.note("gate", job=document.id, answer=NON_INFERIOR if bit else NOT_SHOWN)
