"""The jobs that this site accepted, and the global models that it received in them."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from fedward.errors import JobRefused
from fedward.store.database import Database
from fedward.store.tables import AcceptedJob, WitnessedModel

_WEEK = timedelta(days=7)

#: In place of a round's number: the model that the job's document names as the one to begin with.
START = 0


def remember_job(
    database: Database,
    *,
    job_id: str,
    kind: str,
    name: str,
    digest: str,
    now: datetime,
    max_per_week: int | None = None,
) -> None:
    """Keep a job's id; the same document may come again while it has not ended (a process that was restarted).

    Raises:
        JobRefused: ``repeated_job``: it has ended here, or the id belongs to another document; ``too_many_jobs``:
            ``max_per_week`` others were accepted in the seven days before ``now``.
    """
    with database.transaction() as session:
        known = session.get(AcceptedJob, job_id)
        if known is None:
            if max_per_week is not None and _taken(session, now) >= max_per_week:
                raise JobRefused(
                    "too_many_jobs", f"[bounds] max_jobs_per_week is {max_per_week}, and so many were taken"
                )
            session.add(AcceptedJob(id=job_id, kind=kind, name=name, document_sha256=digest, accepted_at=now))
        elif known.document_sha256 != digest:
            raise JobRefused("repeated_job", f"job {job_id} was accepted with another document")
        elif known.ended_at is not None:
            raise JobRefused("repeated_job", f"job {job_id} ended here at {known.ended_at}; a job runs once")


def jobs_this_week(database: Database, *, now: datetime) -> int:
    """Give how many jobs were accepted in the seven days before ``now``."""
    with database.transaction() as session:
        return _taken(session, now)


def end_job(database: Database, *, job_id: str, now: datetime) -> None:
    """Note that a job has ended here."""
    with database.transaction() as session:
        job = session.get(AcceptedJob, job_id)
        if job is not None and job.ended_at is None:
            job.ended_at = now


def witness(database: Database, *, job_id: str, number: int, weights_sha256: str, now: datetime) -> None:
    """Keep the hash of the global model that a job's round began with.

    Raises:
        JobRefused: ``model_changed``: the same round came with another model before.
    """
    with database.transaction() as session:
        known = session.get(WitnessedModel, (job_id, number))
        if known is None:
            session.add(WitnessedModel(job_id=job_id, number=number, weights_sha256=weights_sha256, received_at=now))
        elif known.weights_sha256 != weights_sha256:
            raise JobRefused("model_changed", f"round {number} of job {job_id} came before with another model")


def witnessed_round(database: Database, *, job_id: str, weights_sha256: str) -> int | None:
    """Give the last round of a job that began with a model at this site; None where none did."""
    query = select(func.max(WitnessedModel.number)).where(
        WitnessedModel.job_id == job_id, WitnessedModel.weights_sha256 == weights_sha256
    )
    with database.transaction() as session:
        return session.scalars(query).one()


def witnessed_models(database: Database, *, job_id: str, numbers: Collection[int]) -> frozenset[str]:
    """Give the hashes of the models that this site received in some rounds of a job."""
    query = select(WitnessedModel.weights_sha256).where(
        WitnessedModel.job_id == job_id, WitnessedModel.number.in_(numbers)
    )
    with database.transaction() as session:
        return frozenset(session.scalars(query))


def accepted_digest(database: Database, *, job_id: str) -> str | None:
    """Give SHA-256 of the document of a job that this site accepted; None for any other."""
    with database.transaction() as session:
        job = session.get(AcceptedJob, job_id)
        return job.document_sha256 if job else None


def _taken(session: Session, now: datetime) -> int:
    recent = select(func.count()).select_from(AcceptedJob).where(AcceptedJob.accepted_at > now - _WEEK)
    return session.scalars(recent).one()


def was_witnessed(session: Session, *, job_id: str, weights_sha256: str) -> bool:
    """Whether this site itself received a model in a job."""
    query = select(WitnessedModel).where(
        WitnessedModel.job_id == job_id, WitnessedModel.weights_sha256 == weights_sha256
    )
    return session.scalars(query).first() is not None
