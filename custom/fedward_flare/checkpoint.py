"""What a training job's controller commits after each round, so that a server that was killed goes on from there."""

from __future__ import annotations

import io
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from fedward.errors import StoreError
from fedward.federation.algorithms import State
from fedward.federation.best import Choice
from fedward.federation.record import JobRecord
from fedward.federation.round import Participation
from fedward.files import write_bytes, write_text

Weights = NDArray[np.float32]

#: In the server's own folder, one folder a job below it.
FOLDER = "training-jobs"

_STATE, _ATTEMPT = "state.npz", "attempt"
_CHOICE, _PARTICIPATION = TypeAdapter(Choice), TypeAdapter(Participation)


@dataclass(frozen=True, eq=False)
class Committed:
    """A job after a round.

    Attributes:
        number: The last committed round.
        weights: The model that it ended with.
        best_weights: The best model so far, if there is one.
        state: What the server's algorithm keeps.
        record: The job's record.
        choice: How the best was chosen.
        participation: What is known of the sites.
    """

    number: int
    weights: Weights
    best_weights: Weights | None
    state: State
    record: JobRecord
    choice: Choice
    participation: Participation


@dataclass(frozen=True)
class Checkpoint:
    """The folder of one job; everything in it is whole or not there.

    Attributes:
        folder: Made when something is first written.
    """

    folder: Path

    def write(self, committed: Committed) -> None:
        """Commit a round.

        Raises:
            StoreError: the disk cannot take it.
        """
        texts = {
            "record": committed.record.model_dump_json().encode(),
            "choice": _CHOICE.dump_json(committed.choice),
            "participation": _PARTICIPATION.dump_json(committed.participation),
        }
        arrays = {name: np.frombuffer(text, np.uint8) for name, text in texts.items()}
        states = {f"state{place}": part for place, part in enumerate(committed.state)}
        best = committed.best_weights
        buffer = io.BytesIO()
        np.savez(
            buffer,
            allow_pickle=False,
            number=np.int64(committed.number),
            weights=committed.weights,
            best_weights=np.empty(0, np.float32) if best is None else best,
            **arrays,
            **states,
        )
        write_bytes(self.folder / _STATE, buffer.getvalue())

    def read(self) -> Committed | None:
        """Give what was committed last, None for a job that is new here.

        Raises:
            StoreError: ``cannot_read``: the file is damaged.
        """
        path = self.folder / _STATE
        if not path.exists():
            return None
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as parts:
                best = parts["best_weights"]
                return Committed(
                    number=int(parts["number"]),
                    weights=parts["weights"],
                    best_weights=best if best.size else None,
                    state=tuple(parts[f"state{place}"] for place in range(sum("state" in name for name in parts))),
                    record=JobRecord.model_validate_json(parts["record"].tobytes()),
                    choice=_CHOICE.validate_json(parts["choice"].tobytes()),
                    participation=_PARTICIPATION.validate_json(parts["participation"].tobytes()),
                )
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise StoreError("cannot_read", f"{path.name} of the job is damaged: {error}") from error

    def next_attempt(self) -> int:
        """Give the number of a set-up that no site has seen, and note it before the set-up begins.

        Raises:
            StoreError: the disk cannot take it.
        """
        path = self.folder / _ATTEMPT
        number = int(path.read_text(encoding="utf-8")) + 1 if path.exists() else 0
        write_text(path, str(number), mode=0o600)
        return number

    def remove(self) -> None:
        """Forget a job that is done."""
        shutil.rmtree(self.folder, ignore_errors=True)
