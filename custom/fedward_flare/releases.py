"""The coordinator's releases: made from a finished job, signed with the release key, kept in the work folder."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from fedward.errors import FederationError, FedwardError, IdentityError, ReleaseRefused
from fedward.files import write_bytes, write_text
from fedward.identity.certificates import read_certificate
from fedward.identity.document import JobDocument, brings_release, parse_document
from fedward.identity.signing import read_private_key
from fedward.release.gate import FIRST_RELEASE, GateStatement, gate_statement
from fedward.release.make import make_release
from fedward.release.package import ReleaseParts, read_parts, write_release
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


@dataclass(frozen=True)
class ReleaseKey:
    """The key that signs releases, with its certificate."""

    key: PrivateKeyTypes
    certificate: x509.Certificate


def read_release_key(folder: Path) -> ReleaseKey:
    """Read ``release.key`` and ``release.crt`` from a folder.

    Raises:
        IdentityError: ``unreadable_key`` or ``untrusted_certificate``: one is missing, or is not what it should be.
    """
    return ReleaseKey(read_private_key(folder / "release.key"), read_certificate(folder / "release.crt"))


def release_job(finished: FinishedJob, workdir: Workdir, *, without_gate: bool = False) -> Path:
    """Sign the best model of a finished training job as the next release of the job's name; give its folder.

    Args:
        finished: The job.
        workdir: Where the coordinator's jobs and, here, the release key lie.
        without_gate: See :func:`signed_release`.

    Raises:
        FederationError: ``unknown_job``: this coordinator did not submit the job.
        IdentityError: ``unreadable_key``: the release key lies elsewhere.
        ReleaseRefused: see :func:`signed_release`.
    """
    name = document_of(finished, workdir).job.name
    if not (workdir.coordinator / "release.key").exists():
        raise IdentityError(
            "unreadable_key",
            f"{workdir.coordinator} has no release.key; hand the job to the release officer: "
            f"fedward model propose {finished.id[:8]} --out FOLDER",
        )
    number = next_number(name, workdir.releases)
    key = read_release_key(workdir.coordinator)
    parts = signed_release(finished, workdir, number=number, release_key=key, without_gate=without_gate)
    folder = workdir.releases / f"{name}-{number}"
    write_release(folder, parts, mode=0o755)
    return folder


def signed_release(
    finished: FinishedJob, workdir: Workdir, *, number: int, release_key: ReleaseKey, without_gate: bool = False
) -> ReleaseParts:
    """Make a release of the best model of a finished training job.

    Every release of a name but the first must have come through the gate.

    Args:
        finished: The job.
        workdir: Where the jobs, gates and releases lie that it stands on.
        number: The release's.
        release_key: Who signs.
        without_gate: Release it all the same; its passport says so.

    Raises:
        FederationError: ``unknown_job``: the job's document is not there.
        ReleaseRefused: ``gate_missing`` or ``gate_blocked``; the job left no model, or descends from a release that
            is not there.
    """
    document = document_of(finished, workdir)
    stands_on = started_from(document.job, workdir)
    return make_release(
        finished.model.read_bytes() if finished.model else b"",
        document,
        finished.record,
        number=number,
        gate=FIRST_RELEASE if number == 1 else _gate(finished, workdir, without_gate=without_gate),
        parent=parse_passport(read_parts(stands_on).passport) if stands_on else None,
        now=datetime.now(UTC),
        key=release_key.key,
        certificate=release_key.certificate,
    )


def gate_lets_pass(finished: FinishedJob, workdir: Workdir) -> bool:
    """Whether a finished gate lets its model pass.

    Raises:
        FederationError: ``unknown_job``: this coordinator did not submit it.
    """
    return gate_statement(document_of(finished, workdir), finished.record, attempts=1).outcome == "passed"


def _gate(finished: FinishedJob, workdir: Workdir, *, without_gate: bool) -> GateStatement:
    """Give what the latest gate of a job's model says, or that there is none where that is accepted."""
    asked = gates_of(finished, workdir)
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


def gates_of(finished: FinishedJob, workdir: Workdir) -> list[JobDocument]:
    """Give the documents of every gate that was signed about a job's model."""
    subject = (finished.id, finished.record.weights_sha256)
    return [
        document
        for document in _documents(workdir)
        if document.candidate and (document.candidate.job_id, document.candidate.weights_sha256) == subject
    ]


def _documents(workdir: Workdir) -> Iterator[JobDocument]:
    for path in sorted((workdir.coordinator / "jobs").glob(f"*/{DOCUMENT}")):
        with contextlib.suppress(FedwardError):  # what an earlier fedward signed may read no more
            yield parse_document(path.read_bytes())


def document_of(finished: FinishedJob, workdir: Workdir) -> JobDocument:
    """Give the document of a job that the coordinator has signed.

    Raises:
        FederationError: ``unknown_job``.
    """
    path = workdir.job(finished.id) / DOCUMENT
    if not path.is_file():
        raise FederationError("unknown_job", f"the coordinator's folder has no {DOCUMENT} of job {finished.id}")
    return parse_document(path.read_bytes())


def numbers_of(name: str, releases: Path) -> dict[int, Path]:
    """Give the releases of a name in a folder of releases, by number."""
    pattern = re.compile(rf"{re.escape(name)}-(\d+)")
    found = [(pattern.fullmatch(path.name), path) for path in releases.iterdir()] if releases.is_dir() else []
    return {int(match[1]): path for match, path in found if match}


def next_number(name: str, *folders: Path) -> int:
    """Give the number of a name's next release; ``folders`` hold those that there are."""
    return max((number for folder in folders for number in numbers_of(name, folder)), default=0) + 1
