"""Which releases this site holds and which one runs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from fedward.errors import ReleaseRefused
from fedward.store.database import Database
from fedward.store.tables import Activation, InstalledRelease


@dataclass(frozen=True)
class StoredRelease:
    """One release at this site.

    Attributes:
        is_active: Whether it is the running model.
        was_active: Whether it ran at any time; else it is a candidate.
    """

    name: str
    number: int
    model_sha256: str
    passport_sha256: str
    installed_at: datetime
    is_active: bool
    was_active: bool


def remember_release(
    session: Session, *, name: str, number: int, model_sha256: str, passport_sha256: str, now: datetime
) -> None:
    """Keep a release as a candidate; its number must rise.

    Raises:
        ReleaseRefused: ``already_installed``, or ``older_release`` when a later number of the name is here.
    """
    numbers = session.scalars(select(InstalledRelease.number).where(InstalledRelease.name == name)).all()
    if number in numbers:
        raise ReleaseRefused("already_installed", f"release {name} {number} is installed here already")
    if numbers and number < max(numbers):
        raise ReleaseRefused(
            "older_release",
            f"release {name} {max(numbers)} is installed here; {number} is older (fedward model rollback goes back)",
        )
    session.add(
        InstalledRelease(
            name=name, number=number, model_sha256=model_sha256, passport_sha256=passport_sha256, installed_at=now
        )
    )
    session.flush()


def activate(database: Database, *, name: str, number: int, now: datetime) -> None:
    """Make an installed release the running model.

    Raises:
        ReleaseRefused: ``not_installed``.
    """
    with database.transaction() as session:
        if session.get(InstalledRelease, (name, number)) is None:
            raise ReleaseRefused("not_installed", f"release {name}-{number} is not installed here")
        session.add(Activation(name=name, number=number, how="activate", at=now))


def release_before(database: Database) -> StoredRelease:
    """Give the release that ran before the running one.

    Raises:
        ReleaseRefused: ``no_active_model``: nothing ran before.
    """
    with database.transaction() as session:
        name, number = _before(session)
    return find_release(database, name, number)


def roll_back(database: Database, *, now: datetime) -> tuple[str, int]:
    """Make the model that ran before the running one run again, and give its name and number.

    Each roll-back goes one step further back through what was activated.

    Raises:
        ReleaseRefused: ``no_active_model``: nothing ran before.
    """
    with database.transaction() as session:
        name, number = _before(session)
        session.add(Activation(name=name, number=number, how="rollback", at=now))
        return name, number


def active_release(database: Database) -> StoredRelease:
    """Give the release that runs.

    Raises:
        ReleaseRefused: ``no_active_model``.
    """
    for release in stored_releases(database):
        if release.is_active:
            return release
    raise ReleaseRefused(
        "no_active_model", "no release is active here; see: fedward model list, fedward model activate"
    )


def active_of(database: Database, name: str) -> StoredRelease | None:
    """Give the release of a name that was activated last and not taken back, whether or not another one runs now."""
    with database.transaction() as session:
        numbers = [number for activated, number in _activation_stack(session) if activated == name]
    return find_release(database, name, numbers[-1]) if numbers else None


def find_release(database: Database, name: str, number: int) -> StoredRelease:
    """Give one release.

    Raises:
        ReleaseRefused: ``not_installed``.
    """
    for release in stored_releases(database):
        if (release.name, release.number) == (name, number):
            return release
    raise ReleaseRefused("not_installed", f"release {name}-{number} is not installed here")


def stored_releases(database: Database) -> tuple[StoredRelease, ...]:
    """Give every release at this site, the latest installed first."""
    with database.transaction() as session:
        rows = session.scalars(select(InstalledRelease).order_by(InstalledRelease.installed_at.desc())).all()
        stack = _activation_stack(session)
        ever = {(row.name, row.number) for row in session.scalars(select(Activation))}
        return tuple(
            StoredRelease(
                name=row.name,
                number=row.number,
                model_sha256=row.model_sha256,
                passport_sha256=row.passport_sha256,
                installed_at=row.installed_at,
                is_active=bool(stack) and stack[-1] == (row.name, row.number),
                was_active=(row.name, row.number) in ever,
            )
            for row in rows
        )


def _before(session: Session) -> tuple[str, int]:
    stack = _activation_stack(session)
    if len(stack) < 2:
        raise ReleaseRefused("no_active_model", "no other model ran before the running one")
    return stack[-2]


def _activation_stack(session: Session) -> list[tuple[str, int]]:
    """Give what was activated, without what a roll-back took away; the last entry runs."""
    stack: list[tuple[str, int]] = []
    for row in session.scalars(select(Activation).order_by(Activation.sequence)):
        if row.how == "rollback":
            stack.pop()
        elif not stack or stack[-1] != (row.name, row.number):
            stack.append((row.name, row.number))
    return stack
