"""Which of a site's releases finds the lesions that a classification judges."""

from __future__ import annotations

from fedward.errors import ReleaseRefused
from fedward.release.model_store import load_installed
from fedward.release.package import Release
from fedward.release.passport import Passport
from fedward.settings.site import SiteSettings
from fedward.settings.tasks import Classification, Segmentation
from fedward.store.database import Database
from fedward.store.releases import active_of


def find_detector(release: Release, site: SiteSettings, database: Database) -> Release | None:
    """Give the release that finds the lesions which ``release`` judges; None where it needs none.

    It is the one that the site file's ``lesions_from`` names, as it was last activated here.

    Raises:
        ReleaseRefused: ``no_lesion_source``: none of that name was activated, or it outlines nothing of the kind; and
            what :func:`fedward.release.model_store.load_installed` refuses.
    """
    name = site.inference.lesions_from
    if not name or not isinstance(release.passport.task, Classification):
        return None
    stored = active_of(database, name)
    if stored is None:
        raise ReleaseRefused(
            "no_lesion_source",
            f"[inference] lesions_from names {name}, of which no release was activated here: activate one first",
        )
    detector = load_installed(stored, state=site.state)
    check_detector(detector.passport, of=release.passport)
    return detector


def has_detector(release: Release, site: SiteSettings, database: Database) -> bool:
    """Whether ``release`` has what it needs to find lesions; so has one that needs nothing."""
    try:
        find_detector(release, site, database)
    except ReleaseRefused:
        return False
    return True


def check_detector(detector: Passport, *, of: Passport) -> None:
    """Refuse a release that cannot find the lesions that the release ``of`` is to judge.

    Raises:
        ReleaseRefused: ``no_lesion_source``.
    """
    name = f"{detector.name}-{detector.number}"
    if not isinstance(of.task, Classification):
        raise ReleaseRefused(
            "no_lesion_source", f"{of.name}-{of.number} does {of.task.kind} and finds its own lesions, without {name}"
        )
    if not isinstance(detector.task, Segmentation):
        raise ReleaseRefused("no_lesion_source", f"lesions come from a segmentation; {name} does {detector.task.kind}")
    if detector.input.modality != of.input.modality:
        raise ReleaseRefused(
            "no_lesion_source", f"{name} reads {detector.input.modality}, {of.name} judges {of.input.modality}"
        )
