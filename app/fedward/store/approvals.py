"""Jobs about which a person at the site decides: queued by the hash of the signed document, approved or rejected.

A decision is on one document, whose hash covers its random id, its sites, its numbers and its end date: no other job
can use it, and it ends when the job does.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from fedward.errors import JobRefused
from fedward.identity.document import JobDocument, parse_document
from fedward.store.database import Database
from fedward.store.tables import QueuedJob

Decision = Literal["approved", "rejected"]

#: No more jobs than this wait at a time: a coordinator could sign any number.
MAX_WAITING = 100

#: So many characters of a hash are enough to name a job on the console.
SHORTEST_HASH = 8


@dataclass(frozen=True)
class Queued:
    """A job in the queue.

    Attributes:
        digest: SHA-256 of the canonical document, hexadecimal.
        document: What would run.
        signer: The coordinator's fingerprint.
        asked_at: When it first came.
        decision: What a person said; None while it waits.
    """

    digest: str
    document: JobDocument
    signer: str
    asked_at: datetime
    decision: Decision | None

    def state(self, now: datetime) -> str:
        """Say how it stands: waiting, approved, rejected or expired."""
        return "expired" if now > self.document.expires else self.decision or "waiting"


def ask(database: Database, document: JobDocument, *, signer: str, now: datetime) -> tuple[Decision | None, bool]:
    """Give what a person has decided about a verified job, and whether it has just entered the queue.

    Raises:
        JobRefused: ``too_many_jobs``: so many wait already that no further one is queued.
    """
    with database.transaction() as session:
        known = session.get(QueuedJob, document.digest)
        if known is not None:
            return _decision(known), False
        if _waiting(session, now) >= MAX_WAITING:
            raise JobRefused("too_many_jobs", f"{MAX_WAITING} jobs wait for a person already; see: fedward site jobs")
        session.add(
            QueuedJob(
                document_sha256=document.digest,
                content=document.content().decode(),
                signer=signer,
                asked_at=now,
                expires_at=document.expires,
            )
        )
    return None, True


def is_rejected(database: Database, digest: str) -> bool:
    """Whether a person has said no to the document with this hash, before or after it was let in."""
    with database.transaction() as session:
        known = session.get(QueuedJob, digest)
        return known is not None and known.decision == "rejected"


def queued_jobs(database: Database) -> tuple[Queued, ...]:
    """Give every job that was ever queued, the latest first."""
    query = select(QueuedJob).order_by(QueuedJob.asked_at.desc(), QueuedJob.document_sha256)
    with database.transaction() as session:
        return tuple(_read(job) for job in session.scalars(query))


def decide(database: Database, digest: str, decision: Decision, *, now: datetime) -> Queued:
    """Write down a person's decision about the job whose document's hash begins with ``digest``.

    Raises:
        JobRefused: ``unknown_job``: no queued job, or several, have this hash; ``expired_job``: its end date is past.
    """
    with database.transaction() as session:
        known = [job for job in session.scalars(select(QueuedJob)) if job.document_sha256.startswith(digest)]
        if len(digest) < SHORTEST_HASH or len(known) != 1:
            raise JobRefused(
                "unknown_job",
                f"{len(known)} queued jobs have a hash that begins with {digest!r}, of at least {SHORTEST_HASH} "
                "characters; see: fedward site jobs",
            )
        (job,) = known
        if now > job.expires_at:
            raise JobRefused("expired_job", f"the job could be used until {job.expires_at}")
        job.decision, job.decided_at = decision, now
        return _read(job)


def _waiting(session: Session, now: datetime) -> int:
    waiting = select(func.count()).select_from(QueuedJob)
    return session.scalars(waiting.where(QueuedJob.decision.is_(None), QueuedJob.expires_at >= now)).one()


def _read(job: QueuedJob) -> Queued:
    return Queued(
        digest=job.document_sha256,
        document=parse_document(job.content.encode()),
        signer=job.signer,
        asked_at=job.asked_at,
        decision=_decision(job),
    )


def _decision(job: QueuedJob) -> Decision | None:
    match job.decision:
        case "approved" | "rejected" as decision:
            return decision
    return None
