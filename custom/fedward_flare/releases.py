"""The coordinator's releases: made from a finished job, signed with the release key, kept in the work folder."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

from fedward.errors import FederationError, ReleaseRefused
from fedward.files import write_bytes, write_text
from fedward.identity.certificates import read_certificate
from fedward.identity.document import JobDocument, parse_document
from fedward.identity.signing import load_private_key
from fedward.release.make import make_release
from fedward.release.package import read_parts, write_release
from fedward_flare.jobs import PreparedJob
from fedward_flare.results import FinishedJob
from fedward_flare.signed import decode_signed_job, encode_signed_job
from fedward_flare.workdir import Workdir

#: The canonical document of a submitted job, in the coordinator's folder of that job.
DOCUMENT = "job.json"

#: The same with its signature, as it travels.
SIGNED = "job.signed"


def keep_document(prepared: PreparedJob, workdir: Workdir) -> None:
    """Keep what the coordinator signed: a release names it, and a resumption brings it to the sites again."""
    folder = workdir.coordinator / "jobs" / prepared.document.id
    write_bytes(folder / DOCUMENT, prepared.signed.document, mode=0o644)
    write_text(folder / SIGNED, encode_signed_job(prepared.signed))


def kept_job(job_id: str, workdir: Workdir, *, release: Path | None = None) -> PreparedJob:
    """Give a job that this coordinator has signed, by its id or the id's beginning: the very document, to bring again.

    Args:
        job_id: The job's.
        workdir: Where the coordinator's folder lies.
        release: The folder of the release that a publishing job brings.

    Raises:
        FederationError: ``unknown_job``.
        ReleaseRefused: ``missing_part``: a publishing job came without its release; ``altered_model``: with another.
    """
    found = [path.parent for path in (workdir.coordinator / "jobs").glob(f"{job_id}*/{SIGNED}")]
    if len(found) != 1 or not re.fullmatch(r"[0-9a-f]{1,32}", job_id):
        raise FederationError("unknown_job", f"the coordinator's folder has {len(found)} jobs {job_id}")
    signed = decode_signed_job((found[0] / SIGNED).read_text(encoding="utf-8"))
    document = parse_document(signed.document)
    if document.release is not None:
        if release is None:
            raise ReleaseRefused("missing_part", f"job {document.id} brings a release: name its folder")
        if read_parts(release).hashes != document.release:
            raise ReleaseRefused("altered_model", f"{release} is not the release that job {document.id} brings")
    return PreparedJob(document=document, signed=signed, release=release if document.release is not None else None)


def release_job(finished: FinishedJob, workdir: Workdir) -> Path:
    """Sign the best model of a finished training job as the next release of the job's name; give its folder.

    Raises:
        FederationError: ``unknown_job``: this coordinator did not submit the job.
        ReleaseRefused: the job left no model.
    """
    document = _document(finished, workdir)
    number = _next_number(workdir, document.job.name)
    model = finished.model.read_bytes() if finished.model else b""
    parts = make_release(
        model,
        document,
        finished.record,
        number=number,
        now=datetime.now(UTC),
        key=load_private_key((workdir.coordinator / "release.key").read_bytes()),
        certificate=read_certificate(workdir.coordinator / "release.crt"),
    )
    folder = releases_folder(workdir) / f"{document.job.name}-{number}"
    write_release(folder, parts, mode=0o755)
    return folder


def releases_folder(workdir: Workdir) -> Path:
    """Give the folder of all releases that this coordinator has signed."""
    return workdir.coordinator / "releases"


def _document(finished: FinishedJob, workdir: Workdir) -> JobDocument:
    path = workdir.coordinator / "jobs" / finished.id / DOCUMENT
    if not path.is_file():
        raise FederationError("unknown_job", f"the coordinator's folder has no {DOCUMENT} of job {finished.id}")
    return parse_document(path.read_bytes())


def _next_number(workdir: Workdir, name: str) -> int:
    pattern = re.compile(rf"{re.escape(name)}-(\d+)")
    folder = releases_folder(workdir)
    matches = [pattern.fullmatch(path.name) for path in folder.iterdir()] if folder.is_dir() else []
    return max((int(match[1]) for match in matches if match), default=0) + 1
