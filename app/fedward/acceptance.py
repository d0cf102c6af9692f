"""Whether a hospital lets a signed job in, and whether it still does: identity, bounds, a person's word, once.

The order is that of trust: first who signed, then the numbers against the site file, then the person whom the site file
asks for, and only then the job counts as taken.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path

from fedward.errors import JobRefused
from fedward.identity.certificates import fingerprint, load_certificate
from fedward.identity.document import JobDocument, SignedJob, check_signer, parse_document, verify_job
from fedward.settings.admission import admit
from fedward.settings.site import SiteSettings, read_site_settings, require_identity
from fedward.store.approvals import Decision, Queued, ask, decide, is_rejected
from fedward.store.audit import Audit
from fedward.store.database import Database
from fedward.store.jobs import remember_job


def accept(signed: SignedJob, *, site: SiteSettings, site_file: Path, audit: Audit, now: datetime) -> JobDocument:
    """Verify a job, hold it against the site's bounds, ask a person where the site file says so, and keep its id.

    Raises:
        IdentityError: who signed it cannot be trusted.
        JobRefused: the site's rules say no; ``awaiting_approval`` or ``not_approved``: a person has not said yes.
    """
    document = verify_job(signed, require_identity(site), now=now)
    admit(document.job, sites=document.sites, site=site)
    if document.job.kind in site.bounds.needs_approval:
        _require_approval(document, signed, audit, now=now)
    remember_job(
        audit.database,
        job_id=document.id,
        kind=document.job.kind,
        name=document.job.name,
        digest=document.digest,
        now=now,
        max_per_week=site.bounds.max_jobs_per_week,
    )
    audit.note_policy(hashlib.sha256(site_file.read_bytes()).hexdigest())
    audit.note("job", job=document.id, document=document.digest, job_kind=document.job.kind, name=document.job.name)
    return document


def check_still_accepted(signed: SignedJob, *, site_file: Path, database: Database, now: datetime) -> None:
    """Refuse to go on with an accepted job that the site, as its file stands now, would no longer let in.

    Raises:
        IdentityError: ``revoked_signer`` or ``unlisted_signer``.
        JobRefused: ``expired_job``: its end date is past; ``not_approved``: a person here has said no meanwhile.
        SettingsError: the site file has faults.
    """
    check_signer(signed, require_identity(read_site_settings(site_file)))
    document = parse_document(signed.document)
    if now > document.expires:
        raise JobRefused("expired_job", f"the job could be used until {document.expires}, now is {now}")
    if is_rejected(database, document.digest):
        raise JobRefused("not_approved", f"a person here rejected the job {document.digest}")


def decide_on(digest: str, decision: Decision, *, audit: Audit, now: datetime) -> Queued:
    """Write down what a person at the site says about a queued job.

    Raises:
        JobRefused: ``unknown_job`` or ``expired_job``: see :func:`fedward.store.approvals.decide`.
    """
    queued = decide(audit.database, digest, decision, now=now)
    audit.note("approval", done=decision, document=queued.digest, job=queued.document.id)
    return queued


def _require_approval(document: JobDocument, signed: SignedJob, audit: Audit, *, now: datetime) -> None:
    signer = fingerprint(load_certificate(signed.certificate))
    decision, is_new = ask(audit.database, document, signer=signer, now=now)
    if is_new:
        audit.note("approval", done="asked", document=document.digest, job=document.id)
    if decision is None:
        raise JobRefused("awaiting_approval", f"a person decides: fedward site approve {document.digest}")
    if decision == "rejected":
        raise JobRefused("not_approved", f"a person here rejected the job {document.digest}")
