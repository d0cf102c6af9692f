"""The site database: SQLite in the site's state folder, durable and readable by its owner alone."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session

from fedward.errors import StoreError
from fedward.files import explained_writes
from fedward.store.tables import SCHEMA_VERSION, Schema, Table

FILE_NAME = "site.db"
_BUSY_TIMEOUT_MS = 30_000


class Database:
    """An open site database; :meth:`transaction` is the only way in."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @classmethod
    def open(cls, state: Path) -> Database:
        """Open the database in the site's ``state`` folder; both are made when missing.

        Raises:
            StoreError: ``newer_schema``: a later fedward wrote it; ``cannot_write``, ``no_space`` or
                ``database_failed``.
        """
        path = state / FILE_NAME
        with explained_writes(path):
            state.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        engine = create_engine(f"sqlite:///{path}")
        event.listen(engine, "connect", _make_durable)
        event.listen(engine, "begin", _begin_immediately)
        database = cls(engine)
        with _explained():
            Table.metadata.create_all(engine)
        database._check_schema()
        return database

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Give a session that is committed when the block ends well and rolled back otherwise.

        Transactions of several processes come one after the other.

        Raises:
            StoreError: ``no_space`` or ``database_failed``.
        """
        with _explained(), Session(self._engine) as session, session.begin():
            yield session

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def _check_schema(self) -> None:
        with self.transaction() as session:
            version = session.scalars(select(Schema.version)).one_or_none()
            if version is None:
                session.add(Schema(version=SCHEMA_VERSION))
            elif version > SCHEMA_VERSION:
                raise StoreError(
                    "newer_schema",
                    f"the site database has schema {version}, this fedward knows {SCHEMA_VERSION}: install a later one",
                )


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        is_full = isinstance(error.orig, sqlite3.OperationalError) and "full" in str(error.orig)
        code = "no_space" if is_full else "database_failed"
        raise StoreError(code, f"the site database could not do it: {error.orig}") from error
    except SQLAlchemyError as error:
        raise StoreError("database_failed", f"the site database could not do it: {type(error).__name__}") from error


def _make_durable(connection: Any, _: object) -> None:
    """Write ahead, flush every commit to the disk, and leave the start of transactions to us."""
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={_BUSY_TIMEOUT_MS}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_immediately(connection: Any) -> None:
    """Take the writer's lock at once: two processes that read, decide and write never interleave."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")
