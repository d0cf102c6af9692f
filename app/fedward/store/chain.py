"""Lines of the privacy ledger and of the audit: appended, chained by their hashes, never changed."""

from __future__ import annotations

import hashlib

from sqlalchemy import select
from sqlalchemy.orm import Session

from fedward.errors import StoreError
from fedward.store.tables import ChainedLine, LedgerEntry

#: What the first line's hash is chained to.
_START = "0" * 64


def read_chain(
    session: Session, table: type[ChainedLine] = LedgerEntry, *, code: str = "broken_ledger"
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Give the content and the hash of every line of ``table``, the oldest first.

    Raises:
        StoreError: ``code``: a line was changed, removed or moved.
    """
    contents, digests = [], []
    previous = _START
    for number, entry in enumerate(session.scalars(select(table).order_by(table.sequence)), start=1):
        if entry.sequence != number or entry.digest != chained(previous, entry.content):
            raise StoreError(code, f"line {number} of {table.__tablename__} is not what was written there")
        previous = entry.digest
        contents.append(entry.content)
        digests.append(entry.digest)
    return tuple(contents), tuple(digests)


def append(
    session: Session, *, length: int, last: str | None, content: str, table: type[ChainedLine] = LedgerEntry
) -> str:
    """Add a line after the ``length`` that are there, the last of which has the hash ``last``; give its hash."""
    digest = chained(last or _START, content)
    session.add(table(sequence=length + 1, content=content, digest=digest))
    session.flush()
    return digest


def chained(previous: str, content: str) -> str:
    """Give a line's hash: SHA-256 of the hash before it and its own content."""
    return hashlib.sha256(f"{previous}\n{content}".encode()).hexdigest()
