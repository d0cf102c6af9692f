"""Which of a site's releases finds the lesions that a classification judges."""

from __future__ import annotations

from fedward.errors import ReleaseRefused
from fedward.release.model_store import load_installed
from fedward.release.package import Release
from fedward.release.passport import Passport
from fedward.settings.site import SiteSettings
from fedward.settings.tasks import AnyTask, Classification, Segmentation, is_of_images
from fedward.store.database import Database
from fedward.store.releases import active_of


def find_detector(release: Release, site: SiteSettings, database: Database) -> Release | None:
    """Give the release that finds the lesions which ``release`` judges; None where it needs none.

    It is the one that the site file's ``lesions_from`` names, as it was last activated here.

    Raises:
        ReleaseRefused: ``no_lesion_source``: none is named, none of that name was activated, or it outlines nothing
            of the kind; and what :func:`fedward.release.model_store.load_installed` refuses.
    """
    if not judges_lesions(release.passport.task):
        return None
    name = site.inference.lesions_from
    stored = active_of(database, name) if name else None
    if stored is None:
        raise ReleaseRefused(
            "no_lesion_source",
            f"{release.passport.name} judges lesions that another model finds: [inference] lesions_from names "
            f"{name or 'none'}, and of that name no release was activated here",
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


def judges_lesions(task: AnyTask) -> bool:
    """Whether a task is about lesions that another model must find."""
    return isinstance(task, Classification) and not is_of_images(task)


def check_detector(detector: Passport | None, *, of: Passport) -> None:
    """Refuse what cannot find the lesions that the release ``of`` is to judge; None is right where it judges none.

    Raises:
        ReleaseRefused: ``no_lesion_source``.
    """
    if detector is None:
        if judges_lesions(of.task):
            raise ReleaseRefused(
                "no_lesion_source",
                f"{of.name}-{of.number} judges lesions that a segmentation release must find: name it with "
                "--lesions-from, or as [inference] lesions_from in the site file",
            )
        return
    name = f"{detector.name}-{detector.number}"
    if not judges_lesions(of.task):
        raise ReleaseRefused("no_lesion_source", f"{of.name}-{of.number} judges no lesions that {name} could find")
    if not isinstance(detector.task, Segmentation):
        raise ReleaseRefused("no_lesion_source", f"lesions come from a segmentation; {name} does {detector.task.kind}")
    if detector.input.modality != of.input.modality:
        raise ReleaseRefused(
            "no_lesion_source", f"{name} reads {detector.input.modality}, {of.name} judges {of.input.modality}"
        )
