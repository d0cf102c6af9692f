"""What a finished job leaves: the controller's record, the best model, the curves, an evaluation's counts.

The controller writes them below its run folder, NVFLARE's server keeps that folder with the job, and the coordinator
brings them home. Only the expected things are taken out of what arrives, and an evaluation's page is made here, from
counts that were read and doubted.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from fedward.errors import FederationError
from fedward.federation.record import JobRecord
from fedward.files import write_bytes
from fedward_flare.workdir import Workdir

#: The folder below the controller's run folder, and what lies in it.
RESULT = "fedward_result"
RECORD = "result.json"
MODEL = "model.safetensors"
CURVES = "tensorboard"
EVALUATION = "evaluation.json"

#: NVFLARE's name for the run folder inside a downloaded result.
_RUN = "workspace"


@dataclass(frozen=True)
class FinishedJob:
    """A job's end.

    Args:
        id: The id of its signed document.
        record: The truth about the job: the controller's own record.
        engine_status: What NVFLARE says beside it.
        folder: Where its files lie: ``result.json``; after training ``model.safetensors``; after an evaluation its
            page.
        tensorboard: The folder of its curves, if it has any.
    """

    id: str
    record: JobRecord
    engine_status: str
    folder: Path
    tensorboard: Path | None

    @property
    def model(self) -> Path | None:
        """The best global model, if the job trained one."""
        model = self.folder / MODEL
        return model if model.exists() else None

    @property
    def page(self) -> Path | None:
        """The page of an evaluation, if the job was one and has come to its end."""
        from fedward.evaluation_page.coordinator_page import PAGE

        page = self.folder / PAGE
        return page if page.exists() else None


def keep_result(downloaded: Path, workdir: Workdir, *, job_id: str, status: str) -> FinishedJob:
    """Copy a downloaded result into the coordinator's folder and its curves into ``tensorboard/``.

    Raises:
        FederationError: the job ended before its controller wrote a record.
    """
    result = downloaded / _RUN / RESULT
    record = _read_record(result / RECORD, job_id=job_id, status=status)
    folder = workdir.job(job_id)
    _keep(result / MODEL, folder)
    counts = result / EVALUATION
    if record.status == "completed" and counts.is_file() and not counts.is_symlink():
        # Here alone: the server's job processes need this module's names, and no plots.
        from fedward.evaluation_page.coordinator_page import read_outcome, write_coordinator_page

        write_coordinator_page(folder, read_outcome(counts.read_bytes()))
    curves = _keep_curves(result / CURVES, workdir.tensorboard / job_id)
    _keep(result / RECORD, folder)  # the last: where it lies, all the others do
    return FinishedJob(id=job_id, record=record, engine_status=status, folder=folder, tensorboard=curves)


def _keep(source: Path, folder: Path) -> None:
    if source.is_file() and not source.is_symlink():
        write_bytes(folder / source.name, source.read_bytes(), mode=0o644)


def read_record(folder: Path) -> JobRecord | None:
    """Give the record of a job whose result was fetched into the coordinator's ``folder``; None where there is none."""
    try:
        return JobRecord.model_validate_json((folder / RECORD).read_bytes())
    except (OSError, ValidationError):
        return None


def _read_record(path: Path, *, job_id: str, status: str) -> JobRecord:
    try:
        return JobRecord.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise FederationError(
            "job_failed",
            f"job {job_id} ended as {status} before its controller started: a site or the server refused it; "
            "see the logs folder, and try: fedward job check",
        ) from error
    except (OSError, ValidationError) as error:
        raise FederationError("job_failed", f"the record of job {job_id} ({status}) cannot be read") from error


def _keep_curves(source: Path, target: Path) -> Path | None:
    events = [path for path in sorted(source.glob("events.out.tfevents.*")) if not path.is_symlink()]
    if not events:
        return None
    target.mkdir(parents=True, exist_ok=True)
    for path in events:
        shutil.copyfile(path, target / path.name)
    return target
