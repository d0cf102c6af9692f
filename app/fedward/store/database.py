"""The site database: SQLite in the site's state folder, durable and readable by its owner alone."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, delete, event, inspect, select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session

from fedward.errors import StoreError
from fedward.files import explained_writes
from fedward.store.tables import SCHEMA_VERSION, Schema, Table

FILE_NAME = "site.db"
_BUSY_TIMEOUT_MS = 30_000

#: What SQLite says when the disk is full, and when a quota or a file-size limit is reached.
_NO_SPACE = {"SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE"}


class Database:
    """An open site database; :meth:`transaction` is the only way in."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @classmethod
    def open(cls, state: Path) -> Database:
        """Open the database in the site's ``state`` folder; both are made when missing.

        Raises:
            StoreError: ``newer_schema``: a later fedward wrote it; ``unsafe_permissions``: others may change the
                folder or see the file; ``cannot_write``, ``no_space`` or ``database_failed``.
        """
        path = state / FILE_NAME
        with explained_writes(path):
            state.mkdir(parents=True, exist_ok=True, mode=0o700)
            _keep_to_owner(state)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            _check_owned_alone(path)
        engine = create_engine(f"sqlite:///{path}")
        event.listen(engine, "connect", _make_durable)
        event.listen(engine, "begin", _begin_immediately)
        database = cls(engine)
        database._prepare_schema()
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

    def _prepare_schema(self) -> None:
        """Make the tables that are missing; leave a database of a later fedward untouched."""
        with self.transaction() as session:
            connection = session.connection()
            is_new = not inspect(connection).has_table(Schema.__tablename__)
            version = SCHEMA_VERSION if is_new else session.scalars(select(Schema.version)).one()
            if version > SCHEMA_VERSION:
                raise StoreError(
                    "newer_schema",
                    f"the site database has schema {version}, this fedward knows {SCHEMA_VERSION}: install a later one",
                )
            if is_new or version < SCHEMA_VERSION:
                Table.metadata.create_all(connection)
                session.execute(delete(Schema))
                session.add(Schema(version=SCHEMA_VERSION))


def _keep_to_owner(folder: Path) -> None:
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & 0o022:
        raise StoreError(
            "unsafe_permissions", f"others may write to the folder {folder.name}; make it yours alone: chmod 700"
        )
    if mode & 0o055:
        folder.chmod(0o700)


def _check_owned_alone(path: Path) -> None:
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise StoreError("unsafe_permissions", f"others may read or write {path.name}; make it yours alone: chmod 600")


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        raise _as_store_error(error.orig) from error
    except sqlite3.Error as error:
        raise _as_store_error(error) from error
    except SQLAlchemyError as error:
        raise StoreError("database_failed", f"the site database could not do it: {type(error).__name__}") from error


def _as_store_error(error: BaseException | None) -> StoreError:
    name = getattr(error, "sqlite_errorname", "")
    if name in _NO_SPACE:
        return StoreError("no_space", f"the disk, a quota or a file-size limit is full: {error} ({name})")
    return StoreError("database_failed", f"the site database could not do it: {error} ({name})")


def _make_durable(connection: Any, _: object) -> None:
    """Write ahead, flush every commit to the disk, and leave the start of transactions to us."""
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (f"busy_timeout={_BUSY_TIMEOUT_MS}", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_immediately(connection: Any) -> None:
    """Take the writer's lock at once: two processes that read, decide and write never interleave."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")
