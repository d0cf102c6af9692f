"""Files that are whole or not there: written under a temporary name, flushed to the disk, then renamed."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedward.errors import StoreError

_NO_SPACE = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}


@contextmanager
def explained_writes(path: Path) -> Iterator[None]:
    """Turn an operating-system error in the block into a :class:`StoreError` that names ``path``'s last part."""
    try:
        yield
    except OSError as error:
        code = "no_space" if error.errno in _NO_SPACE else "cannot_write"
        raise StoreError(code, f"cannot write {path.name}: {error.strerror or error}") from error


@contextmanager
def whole_file(path: Path, *, mode: int = 0o600) -> Iterator[Path]:
    """Give a temporary path beside ``path``; when the block ends well it becomes ``path``, else it is removed.

    Args:
        path: The final file; its folder is made when missing.
        mode: The permissions of the final file.

    Raises:
        StoreError: no space left, or the folder cannot be written.
    """
    with explained_writes(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:60]}.", suffix=_suffix(path), dir=path.parent)
        os.close(handle)
    temporary = Path(name)
    try:
        with explained_writes(path):
            yield temporary
            temporary.chmod(mode)
            _flush(temporary)
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path, *, mode: int = 0o700) -> Iterator[Path]:
    """Give a temporary folder beside ``path``; when the block ends well it replaces ``path``, else it is removed.

    Raises:
        StoreError: no space left, or the parent folder cannot be written.
    """
    with explained_writes(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name[:60]}.", dir=path.parent))
    try:
        with explained_writes(path):
            yield temporary
            temporary.chmod(mode)
            _swap(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_bytes(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Write ``content`` to ``path``, whole or not at all."""
    with whole_file(path, mode=mode) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str, *, mode: int = 0o644) -> None:
    """Write ``content`` as UTF-8 to ``path``, whole or not at all."""
    write_bytes(path, content.encode(), mode=mode)


def _suffix(path: Path) -> str:
    return ".nii.gz" if path.name.endswith(".nii.gz") else path.suffix


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _swap(temporary: Path, path: Path) -> None:
    """Put ``temporary`` in the place of ``path``; the old folder is removed only after the new one stands."""
    if not path.exists():
        temporary.rename(path)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{path.name[:60]}.old.", dir=path.parent)) / path.name
    path.rename(old)
    try:
        temporary.rename(path)
    except OSError:
        old.rename(path)
        raise
    finally:
        shutil.rmtree(old.parent, ignore_errors=True)
