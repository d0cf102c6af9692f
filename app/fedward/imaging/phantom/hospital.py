"""Writes a whole phantom hospital: a folder a patient, as an archive would export it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fedward.errors import SourceError
from fedward.files import whole_folder
from fedward.imaging.phantom.companions import localizer, text_report
from fedward.imaging.phantom.ct_image import StudyNames, ct_series, write_images
from fedward.imaging.phantom.lidc import RealNodule
from fedward.imaging.phantom.patient import draw_patient
from fedward.imaging.phantom.plan import PatientPlan
from fedward.imaging.phantom.real_plan import plan_hospital
from fedward.imaging.phantom.truth import truth_object, write_truth
from fedward.randomness import Seeded
from fedward.settings.phantom import PhantomHospital


@dataclass(frozen=True)
class PhantomSummary:
    """What was written, in counts.

    Attributes:
        patients: Folders written.
        patients_with_nodules: Those with at least one nodule.
        nodules: Of all patients.
        subsolid: Nodules that are part-solid or ground-glass.
        files: DICOM files.
    """

    patients: int
    patients_with_nodules: int
    nodules: int
    subsolid: int
    files: int


def write_hospital(
    profile: PhantomHospital,
    out: Path,
    *,
    randomness: Seeded,
    name: str,
    nodules: Sequence[RealNodule] = (),
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> PhantomSummary:
    """Write every patient as ``out/PATIENT/STUDYUID/SERIESUID/*.dcm``; the same seed gives the same bytes.

    Args:
        profile: What the hospital is like.
        out: Made when missing; must be empty, so that no two archives mix.
        randomness: The phantom's seed.
        name: The hospital's name; it begins the patients' ids.
        nodules: Real ones to draw; then benign and malignant nodules have a segment each.
        workers: Processes to draw with.
        progress: Called with (patients done, patients in all).

    Raises:
        SourceError: ``out`` holds something already.
        SettingsError: the real nodules are of too few patients.
        StoreError: no space left, or ``out`` cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SourceError("cannot_write", f"{out.name}: a phantom is written into an empty folder only")
    randomness = Seeded(randomness.seed_of("phantom", name))
    plans = plan_hospital(profile, name=name, randomness=randomness, nodules=nodules)
    is_graded = bool(nodules)
    files = 0
    with _writers(workers) as write:
        for done, count in enumerate(write(plans, profile, out, randomness, is_graded), start=1):
            files += count
            if progress:
                progress(done, len(plans))
    planned = [nodule for plan in plans for nodule in plan.nodules]
    return PhantomSummary(
        patients=len(plans),
        patients_with_nodules=sum(bool(plan.nodules) for plan in plans),
        nodules=len(planned),
        subsolid=sum(nodule.density != "solid" for nodule in planned),
        files=files,
    )


def write_patient(
    plan: PatientPlan, profile: PhantomHospital, out: Path, randomness: Seeded, is_graded: bool = False
) -> int:
    """Write one patient's folder, whole or not at all, and give the number of its files."""
    patient = draw_patient(plan, profile, randomness)
    names = StudyNames(plan.patient_id, randomness)
    images = ct_series(patient, profile, names)
    syntax = profile.scanner.transfer_syntax
    companions = [localizer(patient, profile, names)] if plan.has_localizer else []
    texts = [text_report(patient, profile, names)] if plan.has_report else []
    with whole_folder(out / plan.patient_id) as folder:
        study = folder / names.study
        write_images(images, study / images[0].SeriesInstanceUID, syntax)
        write_truth(truth_object(patient, images, profile, names, is_graded=is_graded), study / names.uid("seg-series"))
        for ds in companions:
            write_images([ds], study / ds.SeriesInstanceUID, syntax)
        for ds in texts:
            write_images([ds], study / ds.SeriesInstanceUID, "explicit-little-endian")
    return len(images) + 1 + len(companions) + len(texts)


_Write = Callable[[tuple[PatientPlan, ...], PhantomHospital, Path, Seeded, bool], Iterator[int]]


@contextmanager
def _writers(workers: int) -> Iterator[_Write]:
    """Give a function that writes patients here, or in processes of their own."""
    if workers <= 1:
        yield _write_here
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:

        def write(
            plans: tuple[PatientPlan, ...], profile: PhantomHospital, out: Path, randomness: Seeded, is_graded: bool
        ) -> Iterator[int]:
            futures = [pool.submit(write_patient, plan, profile, out, randomness, is_graded) for plan in plans]
            for future in as_completed(futures):
                yield future.result()

        yield write


def _write_here(
    plans: tuple[PatientPlan, ...], profile: PhantomHospital, out: Path, randomness: Seeded, is_graded: bool
) -> Iterator[int]:
    for plan in plans:
        yield write_patient(plan, profile, out, randomness, is_graded)
