"""Deleting a patient: what is removed, and what cannot be."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from fedward.dicom.forget import forget_in_source
from fedward.errors import StoreError
from fedward.evaluation.kept_alone import kept_models, path_of
from fedward.hospital import Hospital
from fedward.privacy.accounts import jobs_of
from fedward.release.model_store import load_installed
from fedward.store.releases import stored_releases


@dataclass(frozen=True)
class Forgotten:
    """What was left of a patient, and where the patient's data had been used.

    Attributes:
        files: Deleted images and labels.
        reports: Deleted reports.
        series: The ids of the patient's series; what was written of them elsewhere is named by these.
        jobs: The ids of the training jobs that had charged the patient.
        releases: Installed releases of these jobs, and those that descend from one, as NAME-NUMBER.
        own_models: Files of the hospital's own models that were trained on the patient.
        unsure_models: Files of those that do not say on whom they were trained.
    """

    files: int
    reports: int
    series: tuple[str, ...]
    jobs: tuple[str, ...]
    releases: tuple[str, ...]
    own_models: tuple[Path, ...]
    unsure_models: tuple[Path, ...]


def forget(hospital: Hospital, patient_key: str) -> Forgotten:
    """Delete a patient's images, labels, prepared cases and reports; the pseudonymous line in the ledger stays.

    Reports are looked for below the site's ``state`` alone.

    Models that were trained on the patient cannot unlearn: releases and own models are named, for a person to decide.

    Raises:
        SourceError, StoreError: see :mod:`fedward.errors`. A ledger that cannot be read keeps nothing from being
            deleted; the detail then says what was.
    """
    site = hospital.site
    patient = site.patient_of(patient_key)
    done = [forget_in_source(source, lambda key: site.patient_of(key) == patient) for source in site.data]
    series = {uid for _, uids in done for uid in uids}
    # Which prepared case is whose is not kept; they are prepared again when they are needed.
    shutil.rmtree(site.state / "cache", ignore_errors=True)
    reports = [path for path in (site.state / "reports").glob("*/*") if path.name in series]
    for path in reports:
        shutil.rmtree(path)
    files = sum(count for count, _ in done)
    try:
        ledger = hospital.ledger()
        pseudonym = ledger.pseudonym(patient)
        jobs = jobs_of(ledger.entries(), pseudonym)
    except StoreError as error:
        gone = f"deleted {files} files and {len(reports)} reports, but cannot say what was trained on the patient"
        raise StoreError(error.code, f"{gone}: {error.detail}") from error
    installed = (load_installed(one, state=site.state).passport for one in stored_releases(hospital.database))
    releases = tuple(f"{one.name}-{one.number}" for one in installed if not one.trainings.isdisjoint(jobs))
    kept = kept_models(site.state)
    own = tuple(path_of(site.state, name) for name, patients in kept.items() if patients and pseudonym in patients)
    unsure = tuple(path_of(site.state, name) for name, patients in kept.items() if patients is None)
    return Forgotten(files, len(reports), tuple(sorted(series)), jobs, releases, own, unsure)
