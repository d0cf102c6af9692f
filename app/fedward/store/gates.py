"""What this site itself has said at release gates."""

from __future__ import annotations

from datetime import datetime

from fedward.store.database import Database
from fedward.store.tables import GateAnswer


def remember_answer(database: Database, *, job_id: str, weights_sha256: str, non_inferior: bool, now: datetime) -> None:
    """Keep the bit that is about to leave; a gate has one."""
    with database.transaction() as session:
        if session.get(GateAnswer, job_id) is None:
            session.add(
                GateAnswer(job_id=job_id, weights_sha256=weights_sha256, non_inferior=non_inferior, given_at=now)
            )


def own_answer(database: Database, *, job_id: str, weights_sha256: str) -> bool | None:
    """Give the bit that this site gave for these weights at a gate; None where it gave none."""
    with database.transaction() as session:
        given = session.get(GateAnswer, job_id)
        return given.non_inferior if given is not None and given.weights_sha256 == weights_sha256 else None
