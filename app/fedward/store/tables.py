"""What the hospital remembers: jobs, the global models it was sent, and the releases it holds."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import DateTime, String, Text, TypeDecorator
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

SCHEMA_VERSION = 4


class Table(DeclarativeBase):
    """The base of all tables."""


class _UtcTime(TypeDecorator[datetime]):
    """A moment in UTC; SQLite itself forgets time zones."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return None if value is None else value.replace(tzinfo=UTC)


class Schema(Table):
    """One row: the version of all tables."""

    __tablename__ = "schema"

    version: Mapped[int] = mapped_column(primary_key=True)


class AcceptedJob(Table):
    """A job that this site accepted; its id is kept for ever, so that it runs once."""

    __tablename__ = "accepted_job"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    name: Mapped[str] = mapped_column(String(64))
    document_sha256: Mapped[str] = mapped_column(String(64))
    accepted_at: Mapped[datetime] = mapped_column(_UtcTime)
    ended_at: Mapped[datetime | None] = mapped_column(_UtcTime)


class QueuedJob(Table):
    """A job about which a person at the site decides; the decision is on this one document."""

    __tablename__ = "queued_job"

    document_sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    content: Mapped[str] = mapped_column(Text)
    signer: Mapped[str] = mapped_column(String(71))
    asked_at: Mapped[datetime] = mapped_column(_UtcTime)
    expires_at: Mapped[datetime] = mapped_column(_UtcTime)
    decision: Mapped[str | None] = mapped_column(String(16))
    decided_at: Mapped[datetime | None] = mapped_column(_UtcTime)


class WitnessedModel(Table):
    """A global model that this site received in a job: one row a round."""

    __tablename__ = "witnessed_model"

    job_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    weights_sha256: Mapped[str] = mapped_column(String(64))
    received_at: Mapped[datetime] = mapped_column(_UtcTime)


class GateAnswer(Table):
    """The bit that this site has given at a release gate, so that no passport can say another."""

    __tablename__ = "gate_answer"

    job_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    weights_sha256: Mapped[str] = mapped_column(String(64))
    non_inferior: Mapped[bool]
    given_at: Mapped[datetime] = mapped_column(_UtcTime)


class ChainedLine(Table):
    """A line that holds the hash of the one before; none is ever changed or removed."""

    __abstract__ = True

    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    content: Mapped[str] = mapped_column(Text)
    digest: Mapped[str] = mapped_column(String(64))


class LedgerEntry(ChainedLine):
    """One line of the privacy ledger."""

    __tablename__ = "ledger_entry"


class AuditEntry(ChainedLine):
    """One line of the audit: what came, what left, what was refused, what was changed."""

    __tablename__ = "audit_entry"


class InstalledRelease(Table):
    """A release in the site's model store; it is a candidate until an :class:`Activation` names it."""

    __tablename__ = "installed_release"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    model_sha256: Mapped[str] = mapped_column(String(64))
    passport_sha256: Mapped[str] = mapped_column(String(64))
    installed_at: Mapped[datetime] = mapped_column(_UtcTime)


class Activation(Table):
    """A change of the running model, one row each; the last row says which model runs."""

    __tablename__ = "activation"

    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(String(64))
    number: Mapped[int]
    how: Mapped[str] = mapped_column(String(16))
    at: Mapped[datetime] = mapped_column(_UtcTime)
