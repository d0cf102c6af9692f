"""The work folder of a local federation, or of a coordinator: what lies where, whose it is, and what runs from it.

::

    federation.json      the marker: whose folder this is, its port, and the processes that were started
    kits/                NVFLARE's startup kits and the root key that signed them
    hospitals/<name>/    site.toml, dicom/, state/: what would lie at the hospital
    coordinator/         the admin kit, release.key and release.crt, jobs/<id>/, releases/<name>-<number>/
    server/              the server's store of jobs
    tensorboard/<job>/   the whole federation's curves
    logs/                one file a process
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from fedward.errors import FederationError
from fedward.files import explained_writes, write_text
from fedward_flare.processes import OwnProcess, running

#: Where the server's service finds the folder for what outlives a job; it stands in the service's environment.
SERVER_STATE = "FEDWARD_SERVER_STATE"

#: Every participant of a local federation is on this machine.
LOOPBACK = "127.0.0.1"


class FederationState(BaseModel):
    """The content of ``federation.json``.

    ``mark`` stands in the environment of every process of this federation. ``server`` is the host of a server that was
    not started from here, in the folder of a coordinator whose federation is of several machines; else it is empty.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["fedward-federation/1"] = "fedward-federation/1"
    project: str = ""
    coordinator: str = ""
    operator: str = ""
    hospitals: tuple[str, ...] = ()
    server: str = ""
    port: int = 0
    mark: str = ""
    processes: tuple[OwnProcess, ...] = ()


@dataclass(frozen=True)
class Workdir:
    """The paths below one work folder."""

    root: Path

    @property
    def state_file(self) -> Path:
        """The marker that makes a folder ours."""
        return self.root / "federation.json"

    @property
    def kits(self) -> Path:
        """Where NVFLARE's provisioning works."""
        return self.root / "kits"

    @property
    def coordinator(self) -> Path:
        """The coordinator's own folder: release key, signed jobs, releases."""
        return self.root / "coordinator"

    @property
    def releases(self) -> Path:
        """All releases that the coordinator has, signed here or adopted, a folder each."""
        return self.coordinator / "releases"

    def job(self, job_id: str) -> Path:
        """Give the coordinator's folder of a job: its signed document and, once it was fetched, its result."""
        return self.coordinator / "jobs" / job_id

    @property
    def logs(self) -> Path:
        """What the processes print."""
        return self.root / "logs"

    @property
    def tensorboard(self) -> Path:
        """The whole federation's curves, a folder a job."""
        return self.root / "tensorboard"

    def kit(self, participant: str) -> Path:
        """Give the startup kit of the server, a hospital or a person."""
        return self.kits / self.state().project / "prod_00" / participant

    def login(self, person: str) -> Path:
        """Give the startup kit of a person, to log in or to sign with.

        Raises:
            FederationError: ``kit_missing``: no kit lies there; the detail says how it gets there.
        """
        kit = self.kit(person)
        missing = [name for name in ("client.key", "client.crt") if not (kit / "startup" / name).is_file()]
        if missing:
            way = (
                f"nvflare package {person}.signed.zip --request-dir {person} -w {self.kits} --fingerprint ROOT"
                if self.state().server
                else "fedward poc up"
            )
            raise FederationError("kit_missing", f"{kit} has no {missing[0]}; make that kit with: {way}")
        return kit

    def hospital(self, name: str) -> Path:
        """Give the folder that stands for what lies at the hospital."""
        return self.root / "hospitals" / name

    def site_file(self, name: str) -> Path:
        """Give the hospital's site file."""
        return self.hospital(name) / "site.toml"

    def state(self) -> FederationState:
        """Read ``federation.json``.

        Raises:
            FederationError: the folder has none, or one that fedward did not write.
        """
        try:
            return FederationState.model_validate_json(self.state_file.read_bytes())
        except FileNotFoundError as error:
            raise FederationError("not_running", f"{self.root} is not a work folder of fedward") from error
        except (OSError, ValidationError) as error:
            raise FederationError("workdir_not_ours", f"{self.state_file} was not written by fedward") from error

    def write_state(self, state: FederationState) -> None:
        """Write ``federation.json``, whole or not at all."""
        write_text(self.state_file, state.model_dump_json(indent=2) + "\n", mode=0o600)


@contextmanager
def claimed(root: Path) -> Iterator[Workdir]:
    """Hold the work folder at ``root`` for this process alone; it is made when missing.

    Raises:
        FederationError: another process holds it (``workdir_in_use``), a federation runs from it
            (``workdir_in_use``), or it holds files that are not fedward's (``workdir_not_ours``).
    """
    workdir = Workdir(root.resolve())
    _require_ours(workdir)
    with explained_writes(workdir.root):
        workdir.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _locked(workdir):
        if not workdir.state_file.exists():
            workdir.write_state(FederationState())
        state = workdir.state()
        if state.mark and running(state.mark):
            raise FederationError(
                "workdir_in_use", f"a federation is running from {workdir.root}; end it with: fedward poc down"
            )
        yield workdir


def _require_ours(workdir: Workdir) -> None:
    root = workdir.root
    if root.exists() and not root.is_dir():
        raise FederationError("workdir_not_ours", f"{root} is a file; expected a folder")
    if root.is_dir() and not workdir.state_file.exists() and any(p.name != ".lock" for p in root.iterdir()):
        raise FederationError(
            "workdir_not_ours", f"{root} holds files that are not fedward's; name an empty folder or a new one"
        )


@contextmanager
def _locked(workdir: Workdir) -> Iterator[None]:
    with explained_writes(workdir.root / ".lock"):
        lock = (workdir.root / ".lock").open("w")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FederationError(
                "workdir_in_use", f"another fedward process is working in {workdir.root}; wait for it or stop it"
            ) from error
        yield
