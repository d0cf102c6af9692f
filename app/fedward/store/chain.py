"""The privacy ledger's lines: appended, chained by their hashes, never changed."""

from __future__ import annotations

import hashlib

from sqlalchemy import select
from sqlalchemy.orm import Session

from fedward.errors import StoreError
from fedward.store.tables import LedgerEntry

#: What the first line's hash is chained to.
_START = "0" * 64


def read_chain(session: Session) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Give every line's content and hash, the oldest first.

    Raises:
        StoreError: ``broken_ledger``: a line was changed, removed or moved.
    """
    contents, digests = [], []
    previous = _START
    for number, entry in enumerate(session.scalars(select(LedgerEntry).order_by(LedgerEntry.sequence)), start=1):
        if entry.sequence != number or entry.digest != chained(previous, entry.content):
            raise StoreError("broken_ledger", f"line {number} of the privacy ledger is not what was written there")
        previous = entry.digest
        contents.append(entry.content)
        digests.append(entry.digest)
    return tuple(contents), tuple(digests)


def append(session: Session, *, length: int, last: str | None, content: str) -> str:
    """Add a line after the ``length`` that are there, the last of which has the hash ``last``; give its hash."""
    digest = chained(last or _START, content)
    session.add(LedgerEntry(sequence=length + 1, content=content, digest=digest))
    session.flush()
    return digest


def chained(previous: str, content: str) -> str:
    """Give a line's hash: SHA-256 of the hash before it and its own content."""
    return hashlib.sha256(f"{previous}\n{content}".encode()).hexdigest()
