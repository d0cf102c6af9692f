"""A release whose signer is another person than the coordinator: what goes to the officer, and what comes back.

A proposal is a folder of the coordinator's own layout (:mod:`fedward_flare.workdir`) without kits and keys::

    coordinator/jobs/<id>/                    the training job: its document, signed, with its record and its model
    coordinator/jobs/<id>/                    each gate that was asked about the model: its document, and its record
    coordinator/releases/<name>-<number>/     the latest release of the name, and the one that the job started from

The officer's folder holds the release key and its certificate, the federation's root, the coordinator's certificate,
and every release that was signed there: what a coordinator leaves out of a proposal does not lower the next number.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from fedward.errors import FederationError, IdentityError, ReleaseRefused
from fedward.files import whole_folder
from fedward.identity.certificates import common_name, fingerprint, read_certificate
from fedward.identity.document import JobDocument, parse_document, verify_job
from fedward.identity.release_identity import PROJECT_NAME, release_subject
from fedward.release.package import MODEL, Release, Trust, read_parts, verify_release, write_release
from fedward.settings.site import Identity
from fedward_flare.jobs import DOCUMENT, started_from
from fedward_flare.releases import (
    SIGNED,
    ReleaseKey,
    document_of,
    gates_of,
    next_number,
    numbers_of,
    read_release_key,
    signed_release,
)
from fedward_flare.results import RECORD, FinishedJob, read_record
from fedward_flare.signed import decode_signed_job
from fedward_flare.workdir import Workdir

#: What else lies in the officer's folder, beside ``release.key`` and ``release.crt``.
ROOT, COORDINATOR = "rootCA.pem", "coordinator.crt"
RELEASES = "releases"


@dataclass(frozen=True)
class Officer:
    """Who signs releases, and whom that person trusts.

    Attributes:
        folder: The officer's own.
        release_key: What signs.
        identity: The federation's root, and the coordinator whose jobs may be released.
    """

    folder: Path
    release_key: ReleaseKey
    identity: Identity

    @property
    def root(self) -> x509.Certificate:
        """The federation's root certificate."""
        return read_certificate(self.identity.root_certificate)


def fetched(job_id: str, workdir: Workdir) -> FinishedJob | None:
    """Give a completed job whose result lies whole in the coordinator's folder, by its id or its beginning; else None.

    A beginning that several of the coordinator's jobs have names none of them.
    """
    jobs = (workdir.coordinator / "jobs").glob("*")
    named = [folder for folder in jobs if job_id and folder.name.startswith(job_id)]
    finished = _finished(named[0]) if len(named) == 1 else None
    if finished is None or finished.record.status != "completed":
        return None
    return None if finished.record.kind == "train" and finished.model is None else finished


def propose(finished: FinishedJob, workdir: Workdir, out: Path) -> Path:
    """Write what the release officer needs to sign a finished training job; no key is in it.

    Raises:
        FederationError: ``unknown_job``: this coordinator did not submit the job; ``workdir_in_use``: ``out`` is there.
        ReleaseRefused: ``unfinished_job``: it has left no model; ``missing_part``: the coordinator does not have the
            release that it started from.
    """
    if out.exists():
        raise FederationError("workdir_in_use", f"{out} is there already; name a new folder")
    job = document_of(finished, workdir).job
    if job.kind != "train" or finished.model is None:
        raise ReleaseRefused("unfinished_job", f"job {finished.id} of kind {job.kind} has left no model to release")
    before = numbers_of(job.name, workdir.releases)
    releases = {started_from(job, workdir), before[max(before)] if before else None}
    with whole_folder(out) as folder:
        proposal = Workdir(folder)
        _copy(finished.folder, proposal.job(finished.id), (DOCUMENT, SIGNED, RECORD, MODEL))
        for gate in gates_of(finished, workdir):
            _copy(workdir.job(gate.id), proposal.job(gate.id), (DOCUMENT, SIGNED, RECORD))
        for release in filter(None, releases):
            write_release(proposal.releases / release.name, read_parts(release))
    return out


def read_officer(folder: Path) -> Officer:
    """Read the officer's folder.

    Raises:
        IdentityError: one of its four files is missing or is not what it should be.
    """
    key = read_release_key(folder)
    project = common_name(key.certificate).removeprefix(release_subject(""))
    coordinator = fingerprint(read_certificate(folder / COORDINATOR))
    read_certificate(folder / ROOT)
    if not PROJECT_NAME.fullmatch(project) or release_subject(project) != common_name(key.certificate):
        raise IdentityError(
            "wrong_name", f"release.crt is for {common_name(key.certificate)!r}, no release certificate"
        )
    identity = Identity(project=project, root_certificate=folder / ROOT, coordinators=(coordinator,))
    return Officer(folder, key, identity)


def sign_proposal(folder: Path, officer: Officer, *, without_gate: bool = False) -> Release:
    """Sign what a proposal holds as the next release of its name, into the officer's ``releases``.

    Args:
        folder: The proposal.
        officer: Who signs.
        without_gate: Sign although no gate let it pass; its passport says so.

    Raises:
        IdentityError, JobRefused: a job in it is not the coordinator's, or of another project.
        ReleaseRefused: it holds not one trained job, or a release that was altered or that another key signed; the
            model, record or gate are refused as :func:`fedward_flare.releases.signed_release` says; the certificate
            of the release key has ended or is of another root.
    """
    proposal = Workdir(folder)
    finished = _only_training(proposal, officer)
    for release in proposal.releases.iterdir() if proposal.releases.is_dir() else ():
        _require_signed(release, officer)
    name = document_of(finished, proposal).job.name
    number = next_number(name, officer.folder / RELEASES, proposal.releases)
    key = officer.release_key
    parts = signed_release(finished, proposal, number=number, release_key=key, without_gate=without_gate)
    signed = verify_release(parts, Trust(officer.root, officer.identity.project, datetime.now(UTC)))
    write_release(officer.folder / RELEASES / f"{name}-{number}", parts, mode=0o755)
    return signed


def adopt(folder: Path, workdir: Workdir) -> Path:
    """Keep a release that the officer has signed among the coordinator's; give its folder there.

    Raises:
        FederationError: ``unknown_job``: it is not of a job of this coordinator.
        ReleaseRefused: the project's release key did not sign it, or a part was altered; ``altered_model``: it is not
            the model that the job left; ``older_release``: there is one of its number or a later one.
    """
    state = workdir.state()
    root = read_certificate(workdir.login(state.coordinator) / "startup" / ROOT)
    parts = read_parts(folder)
    passport = verify_release(parts, Trust(root, state.project, datetime.now(UTC))).passport
    trained = _finished(workdir.job(passport.job_id))
    if trained is None or document_of(trained, workdir).digest != passport.job_sha256:
        raise FederationError(
            "unknown_job", f"{folder} is of job {passport.job_id}, which is not one of {workdir.root}"
        )
    if passport.weights_sha256 != trained.record.weights_sha256:
        raise ReleaseRefused("altered_model", f"{folder} is not the model that job {passport.job_id} has left")
    kept = workdir.releases / f"{passport.name}-{passport.number}"
    if kept.exists() and read_parts(kept) == parts:
        return kept
    latest = next_number(passport.name, workdir.releases) - 1
    if passport.number <= latest:
        raise ReleaseRefused("older_release", f"{workdir.releases} has {passport.name}-{latest} already")
    write_release(kept, parts, mode=0o755)
    return kept


def _finished(folder: Path) -> FinishedJob | None:
    record = read_record(folder)
    return FinishedJob(folder.name, record, record.status, folder, None) if record else None


def _copy(source: Path, target: Path, names: tuple[str, ...]) -> None:
    target.mkdir(parents=True)
    for name in names:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def _only_training(proposal: Workdir, officer: Officer) -> FinishedJob:
    """Give the one training job of a proposal, after every job in it was verified."""
    documents = list(_verified_documents(proposal, officer))
    trained = [document.id for document in documents if document.job.kind == "train"]
    finished = _finished(proposal.job(trained[0])) if len(trained) == 1 else None
    if finished is None:
        raise ReleaseRefused(
            "unfinished_job", f"{proposal.root} holds {len(trained)} trained jobs, expected one with its record"
        )
    about = {gate.id for gate in gates_of(finished, proposal)}
    if foreign := {document.id for document in documents} - about - {finished.id}:
        raise ReleaseRefused("unfinished_job", f"not about job {finished.id}: {', '.join(sorted(foreign))}")
    return finished


def _verified_documents(proposal: Workdir, officer: Officer) -> Iterator[JobDocument]:
    """Give the document of every job that the coordinator has signed.

    The certificate was valid at the time that the document itself names; nothing else says when it was signed.
    """
    for path in sorted((proposal.coordinator / "jobs").glob("*")):
        try:
            content, text = (path / DOCUMENT).read_bytes(), (path / SIGNED).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ReleaseRefused("missing_part", f"{path}: no {DOCUMENT} with its {SIGNED}: {error}") from error
        signed = decode_signed_job(text)
        document = verify_job(signed, officer.identity, now=parse_document(signed.document).created)
        if (signed.document, document.id) != (content, path.name):
            raise IdentityError("bad_signature", f"{path}: {DOCUMENT} is not the document that was signed")
        yield document


def _require_signed(folder: Path, officer: Officer) -> None:
    """Refuse a release that the project's release key did not sign when its passport was made."""
    parts = read_parts(folder)
    passport = verify_release(parts).passport
    verify_release(parts, Trust(officer.root, officer.identity.project, passport.created))
    if folder.name != f"{passport.name}-{passport.number}":
        raise ReleaseRefused("altered_passport", f"{folder.name} holds {passport.name}-{passport.number}")
