"""The hospital's own record of what came, what left, what was refused and what was changed.

A line is a kind and facts: codes, names, hashes and whole numbers, no text from elsewhere and no patient. Lines are
only appended; each holds the hash of the one before, and the head of the chain lies outside the database under a key of
the site's own. So a line that was changed, moved or removed is found, at the end of the chain too.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from fedward.errors import StoreError
from fedward.files import write_text
from fedward.store.chain import append, read_chain
from fedward.store.database import Database
from fedward.store.keys import read_key
from fedward.store.tables import AuditEntry

KEY, HEAD = "audit.key", "audit.head"

#: What a line is about.
Kind = Literal["job", "approval", "sent", "release", "gate", "inference", "evaluation", "refusal", "policy"]
Fact = str | int

_WORD = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_ROLLED_BACK = "audit_rolled_back"


@dataclass(frozen=True)
class Line:
    """One line: when (with a time zone), what kind, and its facts."""

    at: datetime
    kind: str
    facts: dict[str, Fact]


@dataclass(frozen=True)
class Audit:
    """The audit of the site whose ``database`` and ``state`` folder these are."""

    database: Database
    state: Path
    clock: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))

    def note(self, kind: Kind, **facts: Fact) -> None:
        """Append a line; it is on the disk when this returns.

        A fact that is not one word is written as ``other``: no foreign text enters.

        Raises:
            StoreError: ``audit_rolled_back``: the end of the audit is not what was written; or the database cannot.
        """
        words = {name: _word(value) for name, value in sorted(facts.items())}
        text = json.dumps({"at": self.clock().isoformat(timespec="seconds"), "kind": kind, **words})
        with self.database.transaction() as session:
            last = _last(session)
            length, digest = (last.sequence, last.digest) if last else (0, None)
            head = self._head()
            if head is not None and not self._goes_on(head, session, length):
                raise StoreError(_ROLLED_BACK, f"the audit has {length} lines, its head was at {head[0]}")
            if head is None and last is not None:
                raise StoreError(_ROLLED_BACK, f"{HEAD} is missing: nobody can tell whether lines were lost")
            digest = append(session, length=length, last=digest, content=text, table=AuditEntry)
        self._write_head(length + 1, digest)

    def lines(self) -> tuple[Line, ...]:
        """Check the whole chain and give its lines, the oldest first.

        Raises:
            StoreError: ``broken_audit`` or ``audit_rolled_back``.
        """
        with self.database.transaction() as session:
            contents, digests = read_chain(session, AuditEntry, code="broken_audit")
            head = self._head()
            if head is None and digests:
                raise StoreError(_ROLLED_BACK, f"{HEAD} is missing: nobody can tell whether lines were lost")
            if head is not None and not self._goes_on(head, session, len(digests)):
                raise StoreError(_ROLLED_BACK, f"the audit has {len(digests)} lines, its head was at {head[0]}")
        return tuple(_parse(content) for content in contents)

    def note_policy(self, digest: str) -> None:
        """Append a line when the site file, whose SHA-256 is ``digest``, is not the one that held before."""
        query = select(AuditEntry.content).where(AuditEntry.content.contains('"kind": "policy"'))
        with self.database.transaction() as session:
            before = session.scalars(query.order_by(AuditEntry.sequence.desc())).first()
        if before is None or json.loads(before).get("site_file") != digest:
            self.note("policy", site_file=digest)

    def _goes_on(self, head: tuple[int, str], session: Session, length: int) -> bool:
        """Whether the chain still holds the line at which the head stood; a line after it may have lost its head."""
        number, keyed_hash = head
        if number > length:
            return False
        entry = session.get(AuditEntry, number)
        return entry is not None and hmac.compare_digest(keyed_hash, self._keyed(number, entry.digest))

    def _head(self) -> tuple[int, str] | None:
        try:
            head = json.loads((self.state / HEAD).read_text(encoding="utf-8"))
            return int(head["length"]), str(head["hash"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(_ROLLED_BACK, f"{HEAD} cannot be read: {error}") from error

    def _write_head(self, length: int, digest: str) -> None:
        """Move the head on, after the commit; a head of another process that is already further stays."""
        before = self._head()
        if before is not None and before[0] >= length:
            return
        head = {"length": length, "hash": self._keyed(length, digest)}
        write_text(self.state / HEAD, json.dumps(head), mode=0o600)

    def _keyed(self, length: int, digest: str) -> str:
        return hmac.digest(read_key(self.state / KEY), f"{length}:{digest}".encode(), "sha256").hex()


@dataclass(frozen=True)
class Sent:
    """What left in messages of one kind: how many, and their bytes together."""

    messages: int
    bytes: int


def what_left(lines: Iterable[Line], *, start: datetime, end: datetime) -> dict[str, Sent]:
    """Add up, by kind of message, what left the hospital from ``start`` until before ``end``."""
    found: dict[str, Sent] = {}
    for line in lines:
        if line.kind == "sent" and start <= line.at < end:
            message = str(line.facts.get("message", "other"))
            before = found.get(message, Sent(0, 0))
            found[message] = Sent(before.messages + 1, before.bytes + int(line.facts.get("bytes", 0)))
    return found


def _last(session: Session) -> AuditEntry | None:
    return session.scalars(select(AuditEntry).order_by(AuditEntry.sequence.desc()).limit(1)).first()


def _parse(content: str) -> Line:
    value = json.loads(content)
    return Line(at=datetime.fromisoformat(value.pop("at")), kind=value.pop("kind"), facts=value)


def _word(value: Fact) -> Fact:
    if isinstance(value, int):
        return int(value)
    return value if _WORD.fullmatch(value) else "other"
