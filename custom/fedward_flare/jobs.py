"""From a job file to an NVFLARE job without code: read, check, sign, write the folder.

The folder holds JSON alone. The signed document is the single argument of our controller on the server and of our
executor at the sites; both read the plan from it, and each site verifies it itself.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from fedward.errors import FederationError, JobRefused, ReleaseRefused
from fedward.evaluation.sheet import kind_of
from fedward.files import whole_folder, write_bytes
from fedward.identity.document import (
    Candidate,
    JobDocument,
    SignedJob,
    brings_release,
    new_job_document,
    parse_document,
    sign_job,
)
from fedward.release.gate import CandidateFiles
from fedward.release.package import MODEL, read_parts, verify_release, write_release
from fedward.release.passport import check_parent, parse_passport
from fedward.settings.admission import refusals
from fedward.settings.job import EvaluationJob, Job, TrainingJob
from fedward.settings.read import read_settings
from fedward.settings.site import read_site_settings
from fedward_flare.job_config import SERVER_CONFIG, SITE_CONFIG, server_config, site_config
from fedward_flare.results import read_record
from fedward_flare.signed import encode_signed_job
from fedward_flare.workdir import Workdir

#: The server's application and the sites'; a release that travels with a job lies in the server's alone.
SERVER_APP, SITE_APP = "server_app", "site_app"
RELEASE = "release"

#: So does a gate's candidate: its model, and the canonical document of the job that trained it.
CANDIDATE = "candidate"
DOCUMENT = "job.json"


def read_job(path: Path) -> Job:
    """Read and validate a job file whole.

    Raises:
        SettingsError: the file is missing or has faults, all of them in ``detail``.
    """
    job: Job = read_settings(path, cast("type[Any]", Job))
    return job


@dataclass(frozen=True)
class PreparedJob:
    """A job that is ready to be submitted.

    Args:
        document: What the sites will read.
        signed: The same, signed by the coordinator.
        release: The folder of the release that a job publishes or starts from.
        candidate: The coordinator's folder of the training job whose model a gate is about.
    """

    document: JobDocument
    signed: SignedJob
    release: Path | None = None
    candidate: Path | None = None

    @property
    def engine_name(self) -> str:
        """NVFLARE's name for the job; it carries the id, so that a job is found again from any machine."""
        return f"{self.document.job.name}.{self.document.id}"


def prepare(job: Job, workdir: Workdir, *, release: Path | None = None, candidate: Path | None = None) -> PreparedJob:
    """Sign ``job`` as the coordinator of the federation in ``workdir``.

    Args:
        job: What is proposed; without site names it asks every hospital of the federation.
        workdir: Where the coordinator's key lies.
        release: The folder of the release; a publishing job needs one. One that a job starts from, or is about, is
            found among those that this coordinator has.
        candidate: The coordinator's folder of a finished training job; a gate needs one and no other takes one.

    Raises:
        FederationError: a site is unknown, the minimum is larger than the number of sites, or the kit is missing.
        ReleaseRefused: the release's folder lacks a part; ``wrong_descent``: it is not the one that the job starts
            from; ``unfinished_job``: the candidate's job has left no model.
    """
    state = workdir.state()
    if not state.project:
        raise FederationError("not_running", f"{workdir.root} has no federation yet; start one with: fedward poc up")
    sites = _sites_of(job, state.hospitals)
    release = release or started_from(job, workdir)
    if brings_release(job) != (release is not None):
        raise ReleaseRefused("missing_part", f"a {job.kind} job {'needs a' if release is None else 'takes no'} release")
    if (job.kind == "gate") != (candidate is not None):
        raise ReleaseRefused("missing_part", "a gate, and no other job, needs a candidate: --candidate JOB")
    subject = release
    if isinstance(job, EvaluationJob):
        job, subject = about_release(job, workdir)
    parts = read_parts(subject) if subject is not None else None
    key, certificate = _login(workdir.login(state.coordinator) / "startup")
    document = new_job_document(
        job,
        project=state.project,
        sites=sites,
        now=datetime.now(UTC),
        release=parts.hashes if parts else None,
        candidate=_named(candidate) if candidate else None,
    )
    if job.kind == "train":
        check_parent(document, parse_passport(parts.passport) if parts else None)
    signed = sign_job(document, private_key=key, certificate=certificate)
    return PreparedJob(document=document, signed=signed, release=release, candidate=candidate)


def started_from(job: Job, workdir: Workdir) -> Path | None:
    """Give the folder of the coordinator's release from which a job starts; None for a job that draws its weights."""
    start = job.start_from if isinstance(job, TrainingJob) else None
    return workdir.releases / f"{start.name}-{start.number}" if start else None


def about_release(job: EvaluationJob, workdir: Workdir) -> tuple[EvaluationJob, Path]:
    """Settle which release an evaluation is about; give the job with its number, and the release's folder.

    Raises:
        ReleaseRefused: ``not_installed``: this coordinator has no such release; ``altered_passport``.
        JobRefused: ``other_task``: the release does something else than the job says.
    """
    found = {
        int(written): folder
        for folder in workdir.releases.glob(f"{job.release}-*")
        if (written := folder.name.removeprefix(f"{job.release}-")).isdecimal()
    }
    number = job.number or max(found, default=0)
    if number not in found:
        known = ", ".join(sorted(folder.name for folder in workdir.releases.glob("*"))) or "none"
        wanted = f"{job.release}-{number}" if number else job.release
        raise ReleaseRefused("not_installed", f"release {wanted} is not in {workdir.releases}; there is {known}")
    task = kind_of(verify_release(read_parts(found[number])).passport.task)
    if task != job.task:
        raise JobRefused("other_task", f"{found[number].name} does {task}, the job file says {job.task}")
    return job.model_copy(update={"number": number}), found[number]


def check(job: Job, workdir: Workdir) -> dict[str, tuple[JobRefused, ...]]:
    """Say for each site that ``job`` asks why it would refuse; nothing is signed or sent.

    This needs the hospitals' own files, so only a local federation can answer for all of them.

    Raises:
        FederationError: a site is unknown, or the minimum is larger than the number of sites.
        SettingsError: a site file has faults.
    """
    sites = _sites_of(job, workdir.state().hospitals)
    return {name: refusals(job, sites=sites, site=read_site_settings(workdir.site_file(name))) for name in sites}


def export(prepared: PreparedJob, folder: Path) -> Path:
    """Write the NVFLARE job to ``folder``, whole or not at all.

    ``submit_job`` adds signature files to the folder that it is given: hand it a copy.
    """
    kind = prepared.document.job.kind
    text = encode_signed_job(prepared.signed)
    with whole_folder(folder, mode=0o755) as target:
        _write_json(target / "meta.json", _meta(prepared))
        server, site = (target / app / "config" for app in (SERVER_APP, SITE_APP))
        _write_json(server / SERVER_CONFIG, server_config(kind, text))
        _write_json(site / SITE_CONFIG, site_config(kind, text))
        if prepared.release is not None:
            write_release(target / SERVER_APP / RELEASE, read_parts(prepared.release), mode=0o755)
        if prepared.candidate is not None:
            files, carried = read_candidate(prepared.candidate), target / SERVER_APP / CANDIDATE
            write_bytes(carried / MODEL, files.model, mode=0o644)
            write_bytes(carried / DOCUMENT, files.document, mode=0o644)
    return folder


def read_candidate(folder: Path) -> CandidateFiles:
    """Read the model and the document of a training job from its folder.

    Raises:
        ReleaseRefused: ``unfinished_job``: one of them is not there.
    """
    try:
        return CandidateFiles(model=(folder / MODEL).read_bytes(), document=(folder / DOCUMENT).read_bytes())
    except OSError as error:
        raise ReleaseRefused("unfinished_job", f"{folder} holds no trained model with its job's document") from error


def _login(startup: Path) -> tuple[bytes, bytes]:
    """Give the coordinator's key and certificate, both PEM, out of the kit."""
    try:
        return (startup / "client.key").read_bytes(), (startup / "client.crt").read_bytes()
    except OSError as error:
        raise FederationError("workdir_not_ours", f"the coordinator's kit is not whole: {error}") from error


def _named(candidate: Path) -> Candidate:
    document = parse_document(read_candidate(candidate).document)
    record = read_record(candidate)
    if record is None or record.weights_sha256 is None or record.status != "completed":
        raise ReleaseRefused("unfinished_job", f"job {document.id} has no model; see: fedward job watch")
    return Candidate(job_id=document.id, weights_sha256=record.weights_sha256)


def _sites_of(job: Job, hospitals: tuple[str, ...]) -> tuple[str, ...]:
    sites = job.sites.names or hospitals
    unknown = sorted(set(sites) - set(hospitals))
    if unknown:
        known = ", ".join(hospitals)
        raise FederationError("unknown_site", f"no hospital is named {', '.join(unknown)}; this federation has {known}")
    if job.sites.minimum > len(sites):
        raise FederationError(
            "too_few_sites", f"sites.minimum is {job.sites.minimum}, but the job asks {len(sites)}: {', '.join(sites)}"
        )
    return tuple(sites)


def _meta(prepared: PreparedJob) -> dict[str, Any]:
    document = prepared.document
    return {
        "name": prepared.engine_name,
        "min_clients": document.job.sites.minimum,
        "deploy_map": {SERVER_APP: ["server"], SITE_APP: list(document.sites)},
        "resource_spec": {},
    }


def _write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
