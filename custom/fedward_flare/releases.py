"""The coordinator's releases: made from a finished job, signed with the release key, kept in the work folder."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from fedward.errors import FederationError, FedwardError, ReleaseRefused
from fedward.files import write_bytes, write_text
from fedward.identity.certificates import read_certificate
from fedward.identity.document import JobDocument, brings_release, parse_document
from fedward.identity.signing import read_private_key
from fedward.release.gate import FIRST_RELEASE, GateStatement, gate_statement
from fedward.release.make import make_release
from fedward.release.package import read_parts, write_release
from fedward.release.passport import parse_passport
from fedward_flare.jobs import DOCUMENT, PreparedJob, started_from
from fedward_flare.results import FinishedJob, read_record
from fedward_flare.signed import decode_signed_job, encode_signed_job
from fedward_flare.workdir import Workdir

#: Beside a submitted job's canonical document: the same with its signature, as it travels.
SIGNED = "job.signed"


def keep_document(prepared: PreparedJob, workdir: Workdir) -> None:
    """Keep what the coordinator signed: a release names it, and a resumption brings it to the sites again."""
    folder = workdir.job(prepared.document.id)
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
    is_an_id = re.fullmatch(r"[0-9a-f]{1,32}", job_id)
    found = [path.parent for path in (workdir.coordinator / "jobs").glob(f"{job_id}*/{SIGNED}")] if is_an_id else []
    if len(found) != 1:
        raise FederationError(
            "unknown_job", f"{len(found)} jobs in {workdir.coordinator} have an id that begins with {job_id!r}"
        )
    signed = decode_signed_job((found[0] / SIGNED).read_text(encoding="utf-8"))
    document = parse_document(signed.document)
    release = release or started_from(document.job, workdir)
    if not brings_release(document.job):
        release = None
    elif release is None:
        raise ReleaseRefused("missing_part", f"job {document.id} brings a release: name its folder")
    elif read_parts(release).hashes != document.release:
        raise ReleaseRefused("altered_model", f"{release} is not the release that job {document.id} brings")
    trained = document.candidate
    candidate = workdir.job(trained.job_id) if trained else None
    return PreparedJob(document=document, signed=signed, release=release, candidate=candidate)


def release_job(finished: FinishedJob, workdir: Workdir, *, without_gate: bool = False) -> Path:
    """Sign the best model of a finished training job as the next release of the job's name; give its folder.

    Every release of a name but the first must have come through the gate.

    Args:
        finished: The job.
        workdir: Where the coordinator's key and jobs lie.
        without_gate: Release it all the same; its passport says so.

    Raises:
        FederationError: ``unknown_job``: this coordinator did not submit the job.
        ReleaseRefused: ``gate_missing`` or ``gate_blocked``; the job left no model, or descends from a release that
            the coordinator has no more.
    """
    document = _document(finished, workdir)
    number = _next_number(workdir, document.job.name)
    model = finished.model.read_bytes() if finished.model else b""
    gate = FIRST_RELEASE if number == 1 else _gate(finished, workdir, without_gate=without_gate)
    stands_on = started_from(document.job, workdir)
    parts = make_release(
        model,
        document,
        finished.record,
        number=number,
        gate=gate,
        parent=parse_passport(read_parts(stands_on).passport) if stands_on else None,
        now=datetime.now(UTC),
        key=read_private_key(workdir.coordinator / "release.key"),
        certificate=read_certificate(workdir.coordinator / "release.crt"),
    )
    folder = workdir.releases / f"{document.job.name}-{number}"
    write_release(folder, parts, mode=0o755)
    return folder


def gate_lets_pass(finished: FinishedJob, workdir: Workdir) -> bool:
    """Whether a finished gate lets its model pass.

    Raises:
        FederationError: ``unknown_job``: this coordinator did not submit it.
    """
    return gate_statement(_document(finished, workdir), finished.record, attempts=1).outcome == "passed"


def _gate(finished: FinishedJob, workdir: Workdir, *, without_gate: bool) -> GateStatement:
    """Give what the latest gate of a job's model says, or that there is none where that is accepted."""
    asked = [document for document in _documents(workdir) if _is_about(document, finished)]
    latest = max(asked, key=lambda document: document.created, default=None)
    record = read_record(workdir.job(latest.id)) if latest else None
    if latest is None or record is None:
        if without_gate:
            return GateStatement(outcome="without_gate", attempts=len(asked))
        raise ReleaseRefused(
            "gate_missing",
            f"there is an earlier release of this name: ask the hospitals whether job {finished.id} is no worse, with "
            f"fedward job submit jobs/gate.toml --candidate {finished.id[:8]} --watch",
        )
    statement = gate_statement(latest, record, attempts=len(asked))
    if statement.outcome != "passed" and not without_gate:
        said = ", ".join(f"{site} {code}" for site, code in statement.sites.items())
        raise ReleaseRefused("gate_blocked", f"gate {latest.id} lets it not pass: {said}")
    return statement


def _is_about(document: JobDocument, finished: FinishedJob) -> bool:
    named = document.candidate
    return named is not None and (named.job_id, named.weights_sha256) == (finished.id, finished.record.weights_sha256)


def _documents(workdir: Workdir) -> Iterator[JobDocument]:
    for path in sorted((workdir.coordinator / "jobs").glob(f"*/{DOCUMENT}")):
        with contextlib.suppress(FedwardError):  # what an earlier fedward signed may read no more
            yield parse_document(path.read_bytes())


def _document(finished: FinishedJob, workdir: Workdir) -> JobDocument:
    path = workdir.job(finished.id) / DOCUMENT
    if not path.is_file():
        raise FederationError("unknown_job", f"the coordinator's folder has no {DOCUMENT} of job {finished.id}")
    return parse_document(path.read_bytes())


def _next_number(workdir: Workdir, name: str) -> int:
    pattern = re.compile(rf"{re.escape(name)}-(\d+)")
    folder = workdir.releases
    matches = [pattern.fullmatch(path.name) for path in folder.iterdir()] if folder.is_dir() else []
    return max((int(match[1]) for match in matches if match), default=0) + 1
