"""Files that only this hospital can read: encrypted at rest under a key that lies beside the site file.

A file is a header and pieces. Each file has a key of its own, derived from the site's key and 32 random bytes in the
header (HKDF-SHA256, RFC 5869); each piece is sealed alone (AES-256-GCM, NIST SP 800-38D) with its number as the nonce,
bound to the header and to the file's name. So a piece is read without the others, no more than one piece is in memory
twice, and a piece that was changed, moved, left out or taken from another file is found.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from fedward.errors import StoreError
from fedward.files import whole_file
from fedward.randomness import Secret
from fedward.store.keys import read_key

#: Voxels along an edge of a piece of a volume.
BRICK = 32

#: Bytes of a piece of anything else.
_PIECE = 1 << 20

_MAGIC = b"fedward-sealed/1"
_SALT, _TAG, _LENGTH = 32, 16, 4
_LARGEST_HEADER = 4096


@dataclass(frozen=True)
class Vault:
    """Seals and opens files.

    Args:
        key: 32 bytes, the site's own.
    """

    key: bytes

    def __repr__(self) -> str:
        """Keep the key out of every log."""
        return "Vault(...)"

    @classmethod
    def open(cls, path: Path) -> Vault:
        """Read the site's key; the first call makes it, owner-only.

        Raises:
            StoreError: ``unreadable_key``; ``unsafe_permissions``: others than its owner may read the key.
        """
        key = read_key(path)
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise StoreError("unsafe_permissions", f"{path} may be read by others; chmod 600 {path}")
        return cls(key)

    def write(self, path: Path, content: bytes) -> None:
        """Seal ``content`` into ``path``, whole or not at all.

        Raises:
            StoreError: the disk cannot take it.
        """
        view = memoryview(content)
        pieces = (view[start : start + _PIECE] for start in range(0, max(1, len(view)), _PIECE))
        self._write(path, {"bytes": len(content)}, pieces)

    def read(self, path: Path) -> bytes:
        """Give what :meth:`write` sealed.

        Raises:
            StoreError: ``cannot_read``: the file is not there, not whole, or not one of this key and name.
        """
        with _Opened(self.key, path) as opened:
            size = opened.about.get("bytes")
            if type(size) is not int or size < 0:
                raise _cannot_read(path)
            sizes = [min(_PIECE, size - start) for start in range(0, size, _PIECE)] or [0]
            starts = np.concatenate([[0], np.cumsum([length + _TAG for length in sizes])])
            return b"".join(opened.piece(n, int(starts[n]), length) for n, length in enumerate(sizes))

    def write_volume(self, path: Path, array: NDArray[Any]) -> None:
        """Seal a volume of three axes into ``path``, brick by brick.

        Raises:
            StoreError: the disk cannot take it.
        """
        about = {"dtype": array.dtype.str, "shape": list(array.shape)}
        layout = _Bricks((int(array.shape[0]), int(array.shape[1]), int(array.shape[2])), array.dtype.itemsize)
        self._write(path, about, (np.ascontiguousarray(array[box]).data.cast("B") for box in layout.boxes()))

    def volume(self, path: Path) -> SealedVolume:
        """Open a volume that :meth:`write_volume` sealed; bricks are opened as they are asked for.

        Raises:
            StoreError: ``cannot_read``.
        """
        with _Opened(self.key, path) as opened:
            try:
                dtype, (first, second, third) = np.dtype(opened.about["dtype"]), opened.about["shape"]
                layout = _Bricks((int(first), int(second), int(third)), dtype.itemsize)
            except (KeyError, TypeError, ValueError) as error:
                raise _cannot_read(path) from error
            if dtype.kind not in "uif" or opened.size != layout.starts[-1]:
                raise _cannot_read(path)
        return SealedVolume(self.key, path, dtype, layout)

    def _write(self, path: Path, about: dict[str, Any], pieces: Iterator[memoryview]) -> None:
        header = json.dumps({"name": path.name, **about}).encode()
        salt = Secret().take(_SALT)
        cipher, bound = AESGCM(_file_key(self.key, salt)), salt + header
        with whole_file(path) as temporary, temporary.open("wb") as file:
            file.write(_MAGIC + salt + len(header).to_bytes(_LENGTH, "big") + header)
            for number, piece in enumerate(pieces):
                file.write(cipher.encrypt(_nonce(number), piece, bound))


@dataclass(frozen=True, eq=False)
class SealedVolume:
    """A volume on the disk that is read like an array: by three whole numbers or three slices without a step."""

    _key: bytes
    _path: Path
    dtype: np.dtype[Any]
    _layout: _Bricks

    def __repr__(self) -> str:
        """Keep the key out of every log."""
        return f"SealedVolume({self.shape}, {self.dtype})"

    @property
    def shape(self) -> tuple[int, int, int]:
        """As of an array."""
        return self._layout.shape

    def __getitem__(self, index: tuple[Any, Any, Any]) -> Any:
        """Give a voxel or a box, opening the bricks in which it lies.

        Raises:
            StoreError: ``cannot_read``: a brick was changed.
        """
        if all(isinstance(part, slice) for part in index):
            ranges = [part.indices(size)[:2] for part, size in zip(index, self.shape, strict=True)]
            return self._box([(start, max(start, stop)) for start, stop in ranges])
        voxel = [int(part) for part in index]
        return self._box([(at, at + 1) for at in voxel])[0, 0, 0]

    def whole(self) -> NDArray[Any]:
        """Give the volume as an array in memory."""
        return self._box([(0, size) for size in self.shape])

    def _box(self, ranges: Sequence[tuple[int, int]]) -> NDArray[Any]:
        found = np.empty([stop - start for start, stop in ranges], self.dtype)
        with _Opened(self._key, self._path) as opened:
            for number, box in self._layout.touched(ranges):
                brick = self._brick(opened, number, box)
                there = [
                    (max(part.start, start), min(part.stop, stop))
                    for part, (start, stop) in zip(box, ranges, strict=True)
                ]
                source = tuple(slice(a - part.start, b - part.start) for (a, b), part in zip(there, box, strict=True))
                target = tuple(slice(a - start, b - start) for (a, b), (start, _) in zip(there, ranges, strict=True))
                found[target] = brick[source]
        return found

    def _brick(self, opened: _Opened, number: int, box: tuple[slice, ...]) -> NDArray[Any]:
        size = [part.stop - part.start for part in box]
        content = opened.piece(number, int(self._layout.starts[number]), int(np.prod(size)) * self.dtype.itemsize)
        return np.frombuffer(content, self.dtype).reshape(size)


@dataclass(frozen=True, eq=False)
class _Bricks:
    """How a volume of this shape is cut, and where each brick begins behind the header (sealed bytes)."""

    shape: tuple[int, int, int]
    itemsize: int

    @cached_property
    def counts(self) -> tuple[int, ...]:
        return tuple(-(-size // BRICK) for size in self.shape)

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        edges = [[min(BRICK, size - at) for at in range(0, size, BRICK)] for size in self.shape]
        voxels = np.einsum("i,j,k->ijk", *(np.array(edge, np.int64) for edge in edges)).ravel()
        return np.concatenate([[0], np.cumsum(voxels * self.itemsize + _TAG)]).astype(np.int64)

    def boxes(self) -> Iterator[tuple[slice, ...]]:
        for place in product(*(range(count) for count in self.counts)):
            yield self._box(place)

    def touched(self, ranges: Sequence[tuple[int, int]]) -> Iterator[tuple[int, tuple[slice, ...]]]:
        """Give number and place of every brick that a box reaches into."""
        spans = [range(start // BRICK, -(-stop // BRICK)) if stop > start else range(0) for start, stop in ranges]
        for place in product(*spans):
            yield int(np.ravel_multi_index(place, self.counts)), self._box(place)

    def _box(self, place: Sequence[int]) -> tuple[slice, ...]:
        return tuple(slice(at * BRICK, min((at + 1) * BRICK, size)) for at, size in zip(place, self.shape, strict=True))


class _Opened:
    """One sealed file, open for reading.

    Raises:
        StoreError: ``cannot_read``.
    """

    def __init__(self, key: bytes, path: Path) -> None:
        self._path = path
        try:
            self._file: BinaryIO = path.open("rb", buffering=0)
        except OSError as error:
            raise _cannot_read(path) from error
        try:
            self._read_header(key)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> _Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def size(self) -> int:
        """How many bytes lie behind the header."""
        return os.fstat(self._file.fileno()).st_size - self._begin

    def piece(self, number: int, start: int, length: int) -> bytes:
        """Open a piece of ``length`` bytes that begins ``start`` bytes behind the header."""
        sealed = os.pread(self._file.fileno(), length + _TAG, self._begin + start)
        try:
            return self._cipher.decrypt(_nonce(number), sealed, self._bound)
        except (InvalidTag, ValueError) as error:
            raise _cannot_read(self._path) from error

    def _read_header(self, key: bytes) -> None:
        start = self._file.read(len(_MAGIC) + _SALT + _LENGTH)
        salt, length = start[len(_MAGIC) : -_LENGTH], int.from_bytes(start[-_LENGTH:], "big")
        if not start.startswith(_MAGIC) or len(salt) != _SALT or length > _LARGEST_HEADER:
            raise _cannot_read(self._path)
        header = self._file.read(length)
        try:
            self.about: dict[str, Any] = json.loads(header)
            is_ours = self.about["name"] == self._path.name
        except (ValueError, KeyError, TypeError) as error:
            raise _cannot_read(self._path) from error
        if not is_ours:
            raise _cannot_read(self._path)
        self._begin = len(start) + length
        self._bound = salt + header
        self._cipher = AESGCM(_file_key(key, salt))


def _file_key(key: bytes, salt: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=b"fedward/vault/v1").derive(key)


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")


def _cannot_read(path: Path) -> StoreError:
    return StoreError("cannot_read", f"{path.name} is not there, was damaged, or was sealed under another key")
