"""The site's own models: a verified release becomes a candidate, then the running model, and may step back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from fedward.errors import ReleaseRefused
from fedward.release.package import Release, ReleaseParts, Trust, read_parts, verify_release, write_release
from fedward.release.passport import Passport
from fedward.settings.site import SiteSettings
from fedward.store.database import Database
from fedward.store.jobs import was_witnessed
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
    state: Path,
    database: Database,
    trust: Trust,
    weights_sha256: Callable[[ReleaseParts, Passport], str],
) -> Release:
    """Verify a release and keep it as a candidate.

    Args:
        parts: The three files.
        state: The site's state folder.
        database: The site database.
        trust: Root, project and moment.
        weights_sha256: Gives the hash of the flat weights that the model file really holds.

    Raises:
        ReleaseRefused: what :func:`fedward.release.package.verify_release` refuses, and ``already_installed``,
            ``older_release``, ``altered_model`` (the file holds other weights than the passport says) and
            ``not_witnessed`` (this site never received these weights in the job).
        StoreError: the disk cannot take it; nothing is installed.
    """
    release = verify_release(parts, trust)
    passport, hashes = release.passport, parts.hashes
    if weights_sha256(parts, passport) != passport.weights_sha256:
        raise ReleaseRefused("altered_model", "the model file holds other weights than the passport names")
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
