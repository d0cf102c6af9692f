"""A hospital's own model on its disk: its weights, and by the ledger's pseudonyms whom it was trained on.

What it tells of patients it tells of these, whoever is in the archive by now and in whichever part of the split.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedward.errors import JobRefused, StoreError, UpdateRefused
from fedward.files import write_bytes
from fedward.models.networks import build
from fedward.models.weights import layout_of
from fedward.privacy.head import HeadFile
from fedward.settings.job import TrainingJob
from fedward.settings.networks import AnyNetwork
from fedward.settings.tasks import AnyTask

#: Below the site's state folder.
FOLDER = "alone"

_SUFFIX = ".npz"


@dataclass(frozen=True, eq=False)
class OwnModel:
    """What a hospital trained on its own patients alone.

    Attributes:
        weights: Flat float32.
        patients: The ledger's pseudonyms of those who trained it; None where the file does not say.
    """

    weights: NDArray[np.float32]
    patients: frozenset[str] | None

    def known_patients(self) -> frozenset[str]:
        """Give who trained it.

        Raises:
            JobRefused: ``unknown_patients``: nobody can be charged for what it tells.
        """
        if self.patients is None:
            raise JobRefused(
                "unknown_patients", "the own model's file does not say on whom it was trained: train it again"
            )
        return self.patients


def keep_alone(state: Path, job: TrainingJob, weights: NDArray[np.float32], *, patient_keys: Collection[str]) -> Path:
    """Keep a model that was trained alone on these patients in the hospital's own folder, under the job's name.

    Raises:
        UpdateRefused: ``not_finite``.
        StoreError: the disk cannot take it.
    """
    if not np.isfinite(weights).all():
        raise UpdateRefused("not_finite", f"training {job.name} alone ended in NaN or infinite weights: none is kept")
    buffer, head = io.BytesIO(), HeadFile(state)
    layout = layout_of(build(job.network, task=job.task)).digest
    np.savez(
        buffer,
        allow_pickle=False,
        weights=weights,
        layout=np.frombuffer(layout.encode(), np.uint8),
        patients=np.array(sorted(head.pseudonym(key) for key in patient_keys), np.str_),
    )
    path = path_of(state, job.name)
    write_bytes(path, buffer.getvalue())
    return path


def own_model(state: Path, name: str, *, network: AnyNetwork, task: AnyTask) -> OwnModel | None:
    """Give the model that was kept under a name, if there is one and it is of that network.

    Raises:
        StoreError: ``cannot_read``: the file is damaged.
    """
    path = path_of(state, name)
    if not path.exists():
        return None
    model, layout = _read(path)
    return model if layout == layout_of(build(network, task=task)).digest else None


def kept_models(state: Path) -> Mapping[str, frozenset[str] | None]:
    """Give by name whom each kept model was trained on; None where its file cannot say."""
    found: dict[str, frozenset[str] | None] = {}
    for path in sorted((state / FOLDER).glob(f"*{_SUFFIX}")):
        try:
            found[path.stem] = _read(path)[0].patients
        except StoreError:
            found[path.stem] = None
    return found


def path_of(state: Path, name: str) -> Path:
    """Give where the model of that name lies, or would."""
    return state / FOLDER / f"{name}{_SUFFIX}"


def _read(path: Path) -> tuple[OwnModel, str]:
    """Read a model and the digest of its layout."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as parts:
            weights, layout = np.asarray(parts["weights"], np.float32), parts["layout"].tobytes().decode()
            patients = frozenset(map(str, parts["patients"].tolist())) if "patients" in parts else None
    except (OSError, TypeError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise StoreError("cannot_read", f"{path.name} is damaged: {error}") from error
    return OwnModel(weights, patients), layout
