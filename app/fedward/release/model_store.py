"""The site's own models: a verified release becomes a candidate, then the running model, and may step back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from fedward.errors import JobRefused, ReleaseRefused
from fedward.federation.record import NON_INFERIOR, NOT_SHOWN
from fedward.identity.document import JobDocument
from fedward.release.package import PASSPORT, Release, ReleaseParts, Trust, read_parts, verify_release, write_release
from fedward.release.passport import Passport, parse_passport
from fedward.settings.job import TrainingJob
from fedward.settings.site import SiteSettings
from fedward.store.database import Database
from fedward.store.gates import own_answer
from fedward.store.jobs import START, was_witnessed, witness, witnessed_models
from fedward.store.releases import StoredRelease, find_release, remember_release, stored_releases

#: Below the site's state folder.
MODELS = "models"

#: An ensemble has at most so many members, the running release included.
_MOST_MEMBERS = 5


def release_folder(state: Path, name: str, number: int) -> Path:
    """Give the folder of an installed release."""
    return state / MODELS / f"{name}-{number}"


def install_release(
    parts: ReleaseParts,
    *,
    site: str,
    state: Path,
    database: Database,
    trust: Trust,
    weights_sha256: Callable[[ReleaseParts, Passport], str],
) -> Release:
    """Verify a release and keep it as a candidate.

    Args:
        parts: The three files.
        site: The site's own name.
        state: The site's state folder.
        database: The site database.
        trust: Root, project and moment.
        weights_sha256: Gives the hash of the flat weights that the model file really holds.

    Raises:
        ReleaseRefused: what :func:`fedward.release.package.verify_release` refuses, and ``already_installed``,
            ``older_release``, ``altered_model`` (the file holds other weights than the passport says),
            ``not_witnessed`` (this site never received these weights in the job), ``wrong_descent`` (the job began
            with another release than the passport says, or with one that it hides) and ``wrong_verdict`` (the passport
            has this site say at the gate what it did not say).
        StoreError: the disk cannot take it; nothing is installed.
    """
    release = verify_release(parts, trust)
    passport, hashes = release.passport, parts.hashes
    if weights_sha256(parts, passport) != passport.weights_sha256:
        raise ReleaseRefused("altered_model", "the model file holds other weights than the passport names")
    _check_descent(passport, state=state, database=database)
    _check_verdict(passport, site=site, database=database)
    with database.transaction() as session:
        remember_release(
            session,
            name=passport.name,
            number=passport.number,
            model_sha256=hashes.model,
            passport_sha256=hashes.passport,
            now=trust.now,
        )
        if not was_witnessed(session, job_id=passport.job_id, weights_sha256=passport.weights_sha256):
            raise ReleaseRefused(
                "not_witnessed",
                f"this site never received that model in job {passport.job_id}, and installs no other; what runs here "
                "goes on. The coordinator can train again while this site is up, and publish the outcome",
            )
        # Before the commit: what the database names is on the disk.
        write_release(release_folder(state, passport.name, passport.number), parts)
    return release


def witness_start(
    document: JobDocument, *, layout_digest: str, state: Path, database: Database, now: datetime
) -> str | None:
    """Give the hash of the flat weights that a training job must begin with: those of the release that it names.

    Args:
        document: The accepted job.
        layout_digest: Of the job's network.
        state: The site's state folder.
        database: The site database, where the hash is kept.
        now: The time.

    Raises:
        JobRefused: ``start_not_installed``; ``wrong_start``: the job means other files than those that are installed
            here, trains another network, or starts from a release that leaves its norms to each hospital.
        ReleaseRefused: the installed release has been altered.
    """
    job = document.job
    if not isinstance(job, TrainingJob) or job.start_from is None:
        return None
    reference = f"{job.start_from.name}-{job.start_from.number}"
    try:
        stored = find_installed(database, reference)
    except ReleaseRefused as error:
        raise JobRefused("start_not_installed", f"the job starts from {reference}: {error.detail}") from error
    release = load_installed(stored, state=state)
    if document.release != release.parts.hashes or release.passport.layout_digest != layout_digest:
        raise JobRefused("wrong_start", f"the job's network or files are not those of {reference} as installed here")
    if release.passport.norms_at_site:
        raise JobRefused("wrong_start", f"{reference} leaves its norms to each hospital: nothing whole to start from")
    digest = release.passport.weights_sha256
    witness(database, job_id=document.id, number=START, weights_sha256=digest, now=now)
    return digest


def installed_passport(stored: StoredRelease, *, state: Path) -> Passport:
    """Read the passport alone of an installed release.

    Raises:
        ReleaseRefused: ``missing_part`` or ``altered_passport``.
    """
    path = release_folder(state, stored.name, stored.number) / PASSPORT
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != stored.passport_sha256:
        raise ReleaseRefused("altered_passport", f"the passport of {stored.name}-{stored.number} has changed")
    return parse_passport(content)


def may_run_unasked(passport: Passport, *, site: str, database: Database) -> bool:
    """Whether a site that activates releases by itself may do so with this one.

    A model that runs gives way to the next of its name only where this site itself found it no worse, and to one of
    another name unless that came around the gate.
    """
    running = next((stored for stored in stored_releases(database) if stored.is_active), None)
    if running is not None and running.name == passport.name:
        return passport.gate.sites.get(site) == NON_INFERIOR
    return running is None or passport.gate.outcome != "without_gate"


def load_installed(stored: StoredRelease, *, state: Path) -> Release:
    """Read an installed release and check it against the hashes that were recorded when it was installed.

    A certificate that has expired since does not matter: it counted at installation.

    Raises:
        ReleaseRefused: ``missing_part``, ``altered_model``, ``altered_passport`` or ``altered_signature``.
    """
    parts = read_parts(release_folder(state, stored.name, stored.number))
    if parts.hashes.model != stored.model_sha256:
        raise ReleaseRefused("altered_model", "the model file has changed since it was installed")
    if parts.hashes.passport != stored.passport_sha256:
        raise ReleaseRefused("altered_passport", "the passport has changed since it was installed")
    release = verify_release(parts)
    # The signer was checked against the root when the release was installed, and nothing has changed since.
    return replace(release, signer=replace(release.signer, is_verified=True))


def _check_descent(passport: Passport, *, state: Path, database: Database) -> None:
    """Hold the line of descent against what this site saw: which of its releases, if any, the job began with."""
    began = witnessed_models(database, job_id=passport.job_id, numbers=(START, 1))
    installed = (installed_passport(stored, state=state) for stored in stored_releases(database)) if began else ()
    parents = [parent for parent in installed if parent.weights_sha256 in began]
    if passport.stands_on not in ([parent.descent() for parent in parents] or [()]):
        raise ReleaseRefused(
            "wrong_descent",
            f"job {passport.job_id} began with {', '.join(f'{one.name}-{one.number}' for one in parents) or 'none'} of "
            f"the releases here; the passport names {[f'{one.name}-{one.number}' for one in passport.stands_on]}",
        )


def _check_verdict(passport: Passport, *, site: str, database: Database) -> None:
    """Hold the passport's word of what this site said at the gate against the site's own."""
    gate = passport.gate
    said = own_answer(database, job_id=gate.job_id, weights_sha256=passport.weights_sha256) if gate.job_id else None
    told = gate.sites.get(site)
    expected = {None: None, True: NON_INFERIOR, False: NOT_SHOWN}[said]
    # A bit may have been lost on its way: then the passport says that this site was silent, and lets nothing pass.
    is_forged = told in (NON_INFERIOR, NOT_SHOWN) and told != expected
    if is_forged or (said is False and gate.outcome == "passed"):
        raise ReleaseRefused(
            "wrong_verdict", f"at the gate {gate.job_id} this site said {expected}, the passport says {told}"
        )


def find_installed(database: Database, reference: str) -> StoredRelease:
    """Give the release that ``NAME-NUMBER`` names.

    Raises:
        ReleaseRefused: ``not_installed``.
    """
    name, _, number = reference.rpartition("-")
    if not name or not number.isdecimal():
        raise ReleaseRefused("not_installed", f"expected NAME-NUMBER such as lung_nodule-1, found {reference!r}")
    return find_release(database, name, int(number))


def ensemble_with(release: Release, site: SiteSettings, database: Database) -> tuple[Release, ...]:
    """Give the earlier releases of a release's name that ran here, the latest first; none unless the site file asks.

    A later one was rolled back from: it is not asked.

    Raises:
        ReleaseRefused: one has been altered since it was installed.
    """
    if site.inference.uncertainty != "ensemble":
        return ()
    passport = release.passport
    earlier = [
        stored
        for stored in stored_releases(database)
        if stored.was_active and stored.name == passport.name and stored.number < passport.number
    ]
    latest = sorted(earlier, key=lambda stored: -stored.number)[: _MOST_MEMBERS - 1]
    return tuple(load_installed(stored, state=site.state) for stored in latest)
