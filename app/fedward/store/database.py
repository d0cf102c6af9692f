"""The site database: SQLite in the site's state folder, readable by its owner alone, or the hospital's PostgreSQL.

Either way a commit is on the disk when it returns, and transactions of several processes come one after the other.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, NullPool, create_engine, delete, event, inspect, select, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session

from fedward.errors import StoreError
from fedward.files import explained_writes
from fedward.store.tables import SCHEMA_VERSION, Schema, Table

FILE_NAME = "site.db"
_BUSY_TIMEOUT_MS = 30_000

#: Who holds this advisory lock of a PostgreSQL database is alone in it ("fedward" in ASCII).
_LOCK_KEY = int.from_bytes(b"fedward", "big")

#: What SQLite says when the disk is full, and when a quota or a file-size limit is reached; PostgreSQL's disk_full.
_NO_SPACE = {"SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE", "53100"}


class Database:
    """An open site database; :meth:`transaction` is the only way in."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @classmethod
    def open(cls, state: Path, url: str = "") -> Database:
        """Open the database in the site's ``state`` folder, or at ``url``; folder and tables are made when missing.

        Raises:
            StoreError: ``newer_schema``: a later fedward wrote it; ``unsafe_permissions``: others may change the
                folder or see the file; ``cannot_write``, ``no_space`` or ``database_failed``.
        """
        path = state / FILE_NAME
        with explained_writes(path):
            if state.exists() and not state.is_dir():
                raise StoreError("cannot_write", f"state in the site file names {state}, which is a file, not a folder")
            state.mkdir(parents=True, exist_ok=True, mode=0o700)
            _keep_to_owner(state)
        database = cls(_postgresql(url) if url else _sqlite(path))
        database._prepare_schema()
        return database

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Give a session that is committed when the block ends well and rolled back otherwise.

        Transactions of several processes come one after the other.

        Raises:
            StoreError: ``no_space`` or ``database_failed``.
        """
        with _explained(), self._alone() as bind, Session(bind) as session, session.begin():
            yield session

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @contextmanager
    def _alone(self) -> Iterator[Engine | Connection]:
        """Keep every other process out; SQLite does so by itself when a transaction begins.

        PostgreSQL takes a transaction's view of the data with its first statement, so the lock comes before it. It
        ends with the connection, whatever becomes of the process.
        """
        if self._engine.dialect.name == "sqlite":
            yield self._engine
            return
        with self._engine.connect() as connection:
            outside = connection.execution_options(isolation_level="AUTOCOMMIT")
            outside.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK_KEY})
            outside.commit()
            try:
                yield connection.execution_options(isolation_level="SERIALIZABLE")
            finally:
                connection.rollback()
                outside = connection.execution_options(isolation_level="AUTOCOMMIT")
                outside.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK_KEY})
                outside.commit()

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


def _sqlite(path: Path) -> Engine:
    with explained_writes(path):
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        _check_owned_alone(path)
    engine = create_engine(f"sqlite:///{path}")
    event.listen(engine, "connect", _make_durable)
    event.listen(engine, "begin", _begin_immediately)
    return engine


def _postgresql(url: str) -> Engine:
    try:
        # Each transaction has a connection of its own: an advisory lock never outlives it in a pool.
        engine = create_engine(url, poolclass=NullPool)
    except (SQLAlchemyError, ValueError) as error:
        raise StoreError("database_failed", "[database] in the site file is not a PostgreSQL URL") from error
    event.listen(engine, "begin", _commit_synchronously)
    return engine


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
    name, message = _named(error)
    if name in _NO_SPACE:
        return StoreError("no_space", f"the disk, a quota or a file-size limit is full: {message} ({name})")
    return StoreError("database_failed", f"the site database could not do it: {message} ({name})")


def _named(error: BaseException | None) -> tuple[str, object]:
    """Give the database's own name of an error and its words; PostgreSQL's come as fields under one letter each."""
    fields = error.args[0] if error is not None and error.args else None
    if isinstance(fields, dict):
        return str(fields.get("C", "")), fields.get("M", "")
    return getattr(error, "sqlite_errorname", ""), error


def _make_durable(connection: Any, _: object) -> None:
    """Write ahead, flush every commit to the disk, and leave the start of transactions to us."""
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (f"busy_timeout={_BUSY_TIMEOUT_MS}", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _commit_synchronously(connection: Connection) -> None:
    """Have a commit wait for the disk, whatever the server's default."""
    connection.exec_driver_sql("SET synchronous_commit = on")


def _begin_immediately(connection: Any) -> None:
    """Take the writer's lock at once: two processes that read, decide and write never interleave."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")
