"""Where a hospital keeps the numbers that a job's algorithm leaves to it, one file a round, owner-only."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedward.errors import ReleaseRefused, StoreError
from fedward.release.passport import Passport
from fedward.settings.site import SiteSettings
from fedward.store.database import Database
from fedward.store.jobs import witnessed_round
from fedward.store.vault import Vault

Flat = NDArray[np.float32]

#: Below the site's state folder: norms outlive their job, since a release of it runs with them.
_NORMS = "norms"


def norms_folder(state: Path, job_id: str) -> Path:
    """Give the folder of a FedBN job's norms."""
    return state / _NORMS / job_id


@dataclass(frozen=True)
class OwnNumbers:
    """A site's own numbers of one job.

    Attributes:
        folder: Made when something is first kept.
        vault: Encrypts them.
    """

    folder: Path
    vault: Vault

    def keep(self, number: int, own: Flat) -> None:
        """Keep what a round ended with, whole or not at all.

        Raises:
            StoreError: the disk cannot take it.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        buffer = io.BytesIO()
        np.save(buffer, own, allow_pickle=False)
        self.vault.write(self._path(number), buffer.getvalue())

    def after(self, number: int) -> Flat:
        """Give what a round ended with.

        Raises:
            StoreError: ``cannot_read``: it is not there, or damaged.
        """
        path = self._path(number)
        try:
            own = np.load(io.BytesIO(self.vault.read(path)), allow_pickle=False)
        except (StoreError, ValueError, EOFError) as error:
            raise StoreError("cannot_read", f"{path}: this site's own numbers of the job are gone: {error}") from error
        if own.dtype != np.float32 or own.ndim != 1 or not np.isfinite(own).all():
            raise StoreError("cannot_read", f"{path}: expected finite flat float32, found {own.dtype} {own.shape}")
        return np.asarray(own, np.float32)

    def latest_before(self, number: int) -> Flat | None:
        """Give what the last round before ``number`` ended with; None where there was none.

        Raises:
            StoreError: ``cannot_read``.
        """
        known = [int(path.stem.removeprefix("own-")) for path in self.folder.glob("own-*.state")]
        earlier = [one for one in known if one < number]
        return self.after(max(earlier)) if earlier else None

    def forget_before(self, number: int) -> None:
        """Remove what earlier rounds ended with."""
        for path in self.folder.glob("own-*.state"):
            if int(path.stem.removeprefix("own-")) < number:
                path.unlink(missing_ok=True)

    def _path(self, number: int) -> Path:
        return self.folder / f"own-{number}.state"


def own_norms(passport: Passport, *, site: SiteSettings, database: Database) -> Flat | None:
    """Give the norms' parameters that this site runs a release with; None where the release has its own.

    Raises:
        ReleaseRefused, StoreError: see :func:`trained_norms`.
    """
    if not passport.norms_at_site:
        return None
    return trained_norms(passport.job_id, passport.weights_sha256, site=site, database=database)


def trained_norms(job_id: str, weights_sha256: str, *, site: SiteSettings, database: Database) -> Flat:
    """Give the norms' parameters with which this site validated a model of a FedBN job.

    Raises:
        ReleaseRefused: ``norms_missing``: the site trained in no round before it received the model.
        StoreError: ``cannot_read``.
    """
    number = witnessed_round(database, job_id=job_id, weights_sha256=weights_sha256)
    kept = OwnNumbers(norms_folder(site.state, job_id), Vault.open(site.sealing_key))
    own = kept.latest_before(number) if number else None
    if own is None:
        raise ReleaseRefused(
            "norms_missing",
            f"the model of job {job_id} leaves the norms to each hospital, and this one has none of its own: it "
            "trained in no round that went before the model",
        )
    return own
