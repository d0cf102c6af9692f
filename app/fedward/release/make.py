"""From a finished training job to a signed release: what the coordinator does."""

from __future__ import annotations

import hashlib
import math
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from fedward.errors import ModelError, ReleaseRefused
from fedward.evaluation.ranges import covered_ranges
from fedward.federation.record import JobRecord, RoundRecord
from fedward.identity.certificates import fingerprint
from fedward.identity.document import JobDocument
from fedward.imaging.traits import traits_of
from fedward.models.networks import build
from fedward.models.weights import Layout, flattened, layout_of
from fedward.release.gate import GateStatement
from fedward.release.package import ReleaseParts, parameters_of, sign_release
from fedward.release.passport import Passport, PrivacyStatement, SiteSpend, TrainedOn, TrainedRange, check_parent
from fedward.settings.algorithms import FedBN
from fedward.settings.job import TrainingJob


def make_release(
    model: bytes,
    document: JobDocument,
    record: JobRecord,
    *,
    number: int,
    gate: GateStatement,
    parent: Passport | None = None,
    now: datetime,
    key: PrivateKeyTypes,
    certificate: x509.Certificate,
) -> ReleaseParts:
    """Write and sign the passport of a job's best model.

    Args:
        model: The content of ``model.safetensors`` as the server's controller kept it.
        document: The job that was run.
        record: The controller's record of it.
        number: The release's number; it must rise.
        gate: What the release gate says of the model.
        parent: The passport of the release that the job started from, if it did.
        now: The time of signing, with time zone.
        key: The release key.
        certificate: Its certificate.

    Raises:
        ReleaseRefused: ``unfinished_job``: the record is not that of this job, completed and with a model;
            ``altered_model``: the model is not the one that the record names; ``wrong_descent``: the job started from
            another release than ``parent``.
        IdentityError: the key is not the certificate's.
    """
    job, best = document.job, _best_round(record)
    is_done = record.id == document.id and record.status == "completed"
    if not isinstance(job, TrainingJob) or not is_done or best is None:
        raise ReleaseRefused(
            "unfinished_job", f"job {document.id} has no model to release: {record.id}, {record.kind}, {record.status}"
        )
    check_parent(document, parent)
    layout = layout_of(build(job.network, task=job.task))
    weights_sha256 = _weights_sha256(layout, model)
    if weights_sha256 != record.weights_sha256:
        raise ReleaseRefused("altered_model", f"the model of job {record.id} is not the one that its record names")
    passport = Passport(
        project=document.project,
        name=job.name,
        number=number,
        created=now,
        task=job.task,
        input=job.input,
        network=job.network,
        patch_size=job.training.patch_size,
        model_sha256=hashlib.sha256(model).hexdigest(),
        weights_sha256=weights_sha256,
        layout_digest=layout.digest,
        job_id=document.id,
        job_sha256=document.digest,
        rounds=best.number,
        participants=_participants(record, best, asked=document.sites),
        metrics=_metrics(best),
        exchange=job.exchange.mode,
        privacy=_privacy(record, job, asked=document.sites),
        trained_on=_trained_on(record, job),
        norms_at_site=True if isinstance(job.algorithm, FedBN) else None,
        stands_on=parent.descent() if parent else (),
        gate=gate,
        signer=fingerprint(certificate),
    )
    return sign_release(model, passport, key=key, certificate=certificate)


def _best_round(record: JobRecord) -> RoundRecord | None:
    """Give the round that the kept model ended; the server wrote the record, so the round may not be there."""
    return next((entry for entry in record.rounds if entry.number == record.best_round), None)


def _weights_sha256(layout: Layout, model: bytes) -> str:
    try:
        return hashlib.sha256(flattened(layout, parameters_of(model)).tobytes()).hexdigest()
    except ModelError as error:
        raise ReleaseRefused("altered_model", f"the model does not fit the job's network: {error.detail}") from error


def _participants(record: JobRecord, best: RoundRecord, *, asked: tuple[str, ...]) -> tuple[str, ...]:
    """Give the sites whose updates went into the model; the server's record may name only those that were asked."""
    gave = {site for entry in record.rounds if entry.number <= best.number for site in entry.weights}
    return tuple(sorted(gave & set(asked)))


def _privacy(record: JobRecord, job: TrainingJob, *, asked: tuple[str, ...]) -> PrivacyStatement | None:
    """Give what the job has cost at each site by its end: rounds after the best one have left their sites too."""
    if job.privacy is None:
        return None
    spent: dict[str, SiteSpend] = {}
    for entry in record.rounds:
        for site in set(entry.privacy) & set(asked):
            spent[site] = SiteSpend(epsilon=entry.privacy[site].epsilon, delta=entry.privacy[site].delta)
    silent = {site for entry in record.rounds for site in entry.weights} - set(spent)
    if silent or not spent:
        raise ReleaseRefused("unfinished_job", f"no privacy spend is recorded for {', '.join(sorted(silent)) or 'any'}")
    return PrivacyStatement(sites=spent)


def _trained_on(record: JobRecord, job: TrainingJob) -> TrainedOn | None:
    """Give the ranges that the sites' counts in the first round tell of."""
    if not record.trained_on:
        return None
    noise = (job.privacy.range_noise_multiplier if job.privacy else None) or 0.0
    sites = max((len(entry.weights) for entry in record.rounds if entry.number == 1), default=1)
    deviation = noise * math.sqrt(len(traits_of(job.input)) * sites)
    ranges = covered_ranges(record.trained_on, job.input, deviation=deviation)
    return TrainedOn(
        noised=job.privacy is not None,
        ranges=tuple(TrainedRange(trait=one.trait, unit=one.unit, low=one.low, high=one.high) for one in ranges),
    )


def _metrics(best: RoundRecord) -> dict[str, float]:
    values = {"validation_score": best.score, "validation_false_positives": best.false_positives}
    return {name: value for name, value in values.items() if value is not None}
