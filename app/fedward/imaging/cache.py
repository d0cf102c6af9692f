"""Prepared cases on the site's disk: decoded, resampled and scaled once, encrypted, read in pieces ever after."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import shutil
import weakref
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from fedward.dicom.volume import Label, Volume
from fedward.errors import StoreError
from fedward.files import explained_writes
from fedward.imaging.foreground import Foreground, find_foreground
from fedward.imaging.grid import label_to_model_grid, to_model_grid
from fedward.imaging.patches import TrainingCase
from fedward.imaging.traits import measure_traits
from fedward.settings.job import Input
from fedward.store.vault import Vault

#: Rises whenever a prepared case would come out differently, so that no old one is taken for a new one.
_FORMAT = 3

#: Jobs differ in spacing and intensity; the cases of this many kinds of input are kept.
_INPUTS_KEPT = 3

#: Every job that uses prepared cases holds this file of the site's folder, shared; who clears up holds it alone.
_LOCK = ".lock"

#: What an incomplete or damaged file raises when it is read.
_DAMAGED = (StoreError, OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)


@dataclass(frozen=True, eq=False)
class Geometry:
    """Where a case lies in the patient.

    Attributes:
        model_affine: 4x4, model voxel to RAS mm.
        shape: Of the source, ``(slice, row, column)``.
        affine: 4x4, source voxel to LPS mm, as in :class:`fedward.dicom.volume.Volume`.
    """

    model_affine: NDArray[np.float64]
    shape: tuple[int, int, int]
    affine: NDArray[np.float64]


class Cache:
    """The prepared cases of one kind of input.

    Args:
        root: The site's folder for prepared cases; made when missing.
        vault: Encrypts them.
        settings: The job's grid and intensity scale.
        classes: The job's classes.
        namings: What the site's sources call their classes: another naming gives other labels.
    """

    def __init__(
        self,
        root: Path,
        settings: Input,
        classes: tuple[str, ...],
        *,
        vault: Vault,
        namings: Sequence[Mapping[str, object]] = (),
    ) -> None:
        document = json.dumps([_FORMAT, settings.model_dump(mode="json"), classes, namings], sort_keys=True)
        self._root = root
        self._vault = vault
        self._folder = root / hashlib.sha256(document.encode()).hexdigest()[:32]
        self._settings = settings

    def key(self, series_instance_uid: str, files: Iterable[Path]) -> str:
        """Name a case after its series and the names, sizes and times of its files: a changed file is another case."""
        facts = sorted((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files)
        return hashlib.sha256(json.dumps([series_instance_uid, facts]).encode()).hexdigest()[:32]

    def holds(self, key: str) -> bool:
        """Whether the case is there, whole."""
        try:
            self.geometry(key)
            self.training_case(key, mapped=True)
        except _DAMAGED:
            return False
        return True

    def add(self, key: str, volume: Volume, label: Label) -> None:
        """Prepare a case and keep it; it is there once its last file is.

        Raises:
            StoreError: the disk cannot take it.
        """
        image = to_model_grid(volume, self._settings)
        label_array = label_to_model_grid(label, volume, self._settings)
        foreground = find_foreground(label_array)
        stored = image.array.astype(np.float16)
        self._vault.write_volume(self._path(key, "image"), stored)
        self._vault.write_volume(self._path(key, "label"), label_array)
        facts = io.BytesIO()
        np.savez_compressed(
            facts,
            model_affine=image.affine,
            shape=np.array(volume.array.shape),
            affine=volume.affine,
            floor=stored.min(),
            traits=measure_traits(volume, self._settings),
            truth=label.array,
            foreground_voxels=foreground.voxels,
            foreground_starts=foreground.starts,
            foreground_classes=foreground.classes,
        )
        self._vault.write(self._path(key, "facts"), facts.getvalue())

    def training_case(self, key: str, *, mapped: bool) -> TrainingCase:
        """Give a case for patches; ``mapped`` leaves its volumes on the disk: each box is opened when it is cut."""
        image, label = (self._vault.volume(self._path(key, part)) for part in ("image", "label"))
        with self._facts(key) as facts:
            foreground = Foreground(*(facts[f"foreground_{part}"] for part in ("voxels", "starts", "classes")))
            floor = float(facts["floor"])
        if mapped:
            # They are read as arrays are: by voxels and boxes.
            return TrainingCase(cast(Any, image), cast(Any, label), foreground, floor)
        return TrainingCase(image.whole(), label.whole(), foreground, floor)

    def geometry(self, key: str) -> Geometry:
        """Give where a case lies."""
        with self._facts(key) as facts:
            slices, rows, columns = (int(size) for size in facts["shape"])
            return Geometry(facts["model_affine"], (slices, rows, columns), facts["affine"])

    def image(self, key: str) -> NDArray[np.float32]:
        """Give a case's image on the model grid."""
        return np.asarray(self._vault.volume(self._path(key, "image")).whole(), dtype=np.float32)

    def traits(self, key: str) -> NDArray[np.float64]:
        """Give a case's traits, shape ``(trait,)``; see :func:`fedward.imaging.traits.measure_traits`."""
        with self._facts(key) as facts:
            return np.asarray(facts["traits"], dtype=np.float64)

    def truth(self, key: str) -> NDArray[np.uint8]:
        """Give a case's label on its own grid, shape ``(slice, row, column)``."""
        with self._facts(key) as facts:
            return np.asarray(facts["truth"], dtype=np.uint8)

    def claim(self, keys: set[str]) -> None:
        """Hold the site's prepared cases for as long as this object lives; where nobody else does, clear up first.

        Cleared are this input's cases that are not among ``keys``, all but the last few kinds of input, and what a
        dead process left half-written. Another job at this hospital may use any of it: while one does, all stays. The
        lock is the operating system's, so it ends with its process; where a disk has no locks, nothing is cleared.

        Raises:
            StoreError: the folder cannot be written.
        """
        with explained_writes(self._root):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._folder.touch()
            lock = os.open(self._root / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        weakref.finalize(self, os.close, lock)
        if _lock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB):
            self._clear(keys)
        _lock(lock, fcntl.LOCK_SH)

    def _clear(self, keys: set[str]) -> None:
        for path in self._folder.iterdir():
            if path.name.split(".")[0] not in keys:
                path.unlink(missing_ok=True)
        inputs = [path for path in self._root.iterdir() if path.is_dir()]
        for folder in sorted(inputs, key=lambda path: path.stat().st_mtime, reverse=True)[_INPUTS_KEPT:]:
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def _facts(self, key: str) -> Iterator[Mapping[str, NDArray[Any]]]:
        with np.load(io.BytesIO(self._vault.read(self._path(key, "facts"))), allow_pickle=False) as facts:
            yield facts

    def _path(self, key: str, part: str) -> Path:
        return self._folder / f"{key}.{part}"


def _lock(descriptor: int, how: int) -> bool:
    """Say whether the lock was given: not while others hold it, and on some disks never."""
    try:
        fcntl.flock(descriptor, how)
    except OSError:
        return False
    return True
