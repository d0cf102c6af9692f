"""A job as one canonical document with its own random id, signed by the coordinator, verified by each site itself.

NVFLARE signs a job's folder too, but accepts the server's and any hospital's key, binds no file names, and can be
replayed; a site of ours relies on this document alone.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from fedward.errors import IdentityError, JobRefused
from fedward.identity import canonical
from fedward.identity.certificates import (
    check_chain,
    fingerprint,
    load_certificate,
    public_key,
    read_certificate,
)
from fedward.identity.signing import load_private_key, sign, verify
from fedward.randomness import Secret
from fedward.settings.job import Job
from fedward.settings.read import Name
from fedward.settings.site import Identity

_PURPOSE = "job"
_CLOCK_SKEW = timedelta(minutes=10)

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ReleaseHashes(BaseModel):
    """SHA-256 of the three files of the release that a job brings to the sites, or is about."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Sha256
    passport: Sha256
    signature: Sha256


class Candidate(BaseModel):
    """The model that a gate is about.

    Attributes:
        job_id: The training job that it comes from.
        weights_sha256: Of its flat weights, as the sites received them in that job.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    job_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    weights_sha256: Sha256


class JobDocument(BaseModel):
    """What the coordinator signs.

    Attributes:
        format: This document's version.
        id: 128 random bits, hexadecimal; a site runs it once.
        project: The federation.
        sites: Who is asked, sorted, each once.
        created: When it was signed.
        expires: After this a site refuses it; at most the job's ``hours_valid`` later.
        job: What is proposed.
        release: What a publishing job brings, a training job starts from, an evaluation is about; else None.
        candidate: What a gate is about; None for the other kinds.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["fedward-job/1"] = "fedward-job/1"
    id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    project: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    sites: Annotated[tuple[Name, ...], Field(min_length=1, max_length=1000)]
    created: AwareDatetime
    expires: AwareDatetime
    job: Job
    release: ReleaseHashes | None = None
    candidate: Candidate | None = None

    @model_validator(mode="after")
    def _sites_are_a_sorted_set(self) -> Self:
        if list(self.sites) != sorted(set(self.sites)):
            raise ValueError(f"sites must be sorted and differ, got {list(self.sites)}")
        if self.job.sites.minimum > len(self.sites):
            raise ValueError(f"the job needs {self.job.sites.minimum} sites and asks {len(self.sites)}")
        return self

    @model_validator(mode="after")
    def _window_is_the_jobs(self) -> Self:
        if not self.created < self.expires <= self.created + timedelta(hours=self.job.hours_valid):
            raise ValueError(f"the job is valid for {self.job.hours_valid} h, got {self.created} to {self.expires}")
        return self

    @model_validator(mode="after")
    def _names_what_it_is_about(self) -> Self:
        if (brings_release(self.job) or self.job.kind == "evaluate") != (self.release is not None):
            raise ValueError("a job that publishes, starts from or evaluates a release, and no other, names its hashes")
        if self.job.kind == "evaluate" and self.job.number == 0:
            raise ValueError("an evaluation names the number of its release")
        if (self.job.kind == "gate") != (self.candidate is not None):
            raise ValueError("a gate, and no other job, names a candidate")
        return self

    def content(self) -> bytes:
        """Give the canonical bytes."""
        return canonical.encode(self.model_dump(mode="json"))

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical bytes, hexadecimal."""
        return hashlib.sha256(self.content()).hexdigest()


@dataclass(frozen=True)
class SignedJob:
    """A document's canonical bytes, their signature, and the signer's certificate in PEM; nothing in it is trusted."""

    document: bytes
    signature: bytes
    certificate: bytes


def brings_release(job: Job) -> bool:
    """Whether a release travels with the job: one to be published, or one to start from."""
    return job.kind == "publish" or (job.kind == "train" and job.start_from is not None)


def new_job_document(
    job: Job,
    *,
    project: str,
    sites: tuple[str, ...],
    now: datetime,
    release: ReleaseHashes | None = None,
    candidate: Candidate | None = None,
) -> JobDocument:
    """Make a document with a fresh random id, valid for the job's ``hours_valid``."""
    return JobDocument(
        id=Secret().token(),
        project=project,
        sites=tuple(sorted(set(sites))),
        created=now,
        expires=now + timedelta(hours=job.hours_valid),
        job=job,
        release=release,
        candidate=candidate,
    )


def sign_job(document: JobDocument, *, private_key: bytes, certificate: bytes) -> SignedJob:
    """Sign a document with the coordinator's key (both PEM).

    Raises:
        IdentityError: ``unreadable_key``, or ``bad_signature`` when the key is not the certificate's.
    """
    content = document.content()
    signature = sign(load_private_key(private_key), purpose=_PURPOSE, content=content)
    verify(public_key(load_certificate(certificate)), signature, purpose=_PURPOSE, content=content)
    return SignedJob(document=content, signature=signature, certificate=certificate)


def parse_document(content: bytes) -> JobDocument:
    """Read a document's canonical bytes; the signature is not looked at.

    Raises:
        IdentityError: ``not_canonical``.
    """
    try:
        document = JobDocument.model_validate(canonical.decode(content))
    except ValidationError as error:
        raise IdentityError("not_canonical", f"not a job document: {error.error_count()} faults\n{error}") from error
    if document.content() != content:
        raise IdentityError("not_canonical", "the document's bytes are not those of what it says")
    return document


def verify_job(signed: SignedJob, trust: Identity, *, now: datetime) -> JobDocument:
    """Give the document of a job that a listed coordinator of this project signed and that has not expired.

    Raises:
        IdentityError: not canonical, a bad signature, or a signer who is foreign, expired, unlisted or revoked.
        JobRefused: ``wrong_project`` or ``expired_job``.
    """
    check_signer(signed, trust)
    certificate = load_certificate(signed.certificate)
    check_chain(certificate, read_certificate(trust.root_certificate), now=now)
    verify(public_key(certificate), signed.signature, purpose=_PURPOSE, content=signed.document)
    document = parse_document(signed.document)
    if document.project != trust.project:
        raise JobRefused("wrong_project", f"the job is of project {document.project}, this site is of {trust.project}")
    if not document.created - _CLOCK_SKEW <= now <= document.expires:
        raise JobRefused("expired_job", f"the job is valid from {document.created} to {document.expires}, now is {now}")
    return document


def check_signer(signed: SignedJob, trust: Identity) -> None:
    """Hold the signer's fingerprint against the site file; nothing else in its certificate is looked at.

    Raises:
        IdentityError: ``revoked_signer`` or ``unlisted_signer``.
    """
    signer = fingerprint(load_certificate(signed.certificate))
    if signer in trust.revoked:
        raise IdentityError("revoked_signer", f"the job is signed by {signer}, which [identity] revoked lists")
    if signer not in trust.coordinators:
        raise IdentityError(
            "unlisted_signer", f"the job is signed by {signer}; [identity] coordinators does not list it"
        )
