"""A model over many series: a report for each, whatever becomes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedward.dicom.source import StudyCase, open_source
from fedward.dicom.volume import Verdict
from fedward.errors import LabelRefused, ReleaseRefused, SeriesRefused, SourceError, Stopped
from fedward.imaging.splits import assign, read_split_key
from fedward.inference.load import load_model
from fedward.inference.model import LoadedModel
from fedward.inference.predict import infer_volume
from fedward.models.runtime import Runtime, choose_runtime
from fedward.randomness import Secret
from fedward.release.package import Release
from fedward.release.passport import reported_task
from fedward.report.write import write_refusal, write_report
from fedward.settings.site import Compute, SiteSettings

#: Windows at a time; the micro-benchmark measures a step of this size.
_BATCH = 4


@dataclass(frozen=True)
class Run:
    """What holds for every series of one run.

    Attributes:
        release: The model's verified release.
        out: Where the reports go, a folder a series.
        site: The hospital's name in the federation, empty outside one.
        now: The reports' time, with time zone.
        norms: The hospital's own norms' parameters, for a release that leaves them to the hospitals.
    """

    release: Release
    out: Path
    site: str
    now: datetime
    norms: NDArray[np.float32] | None = None


def report_site(run: Run, site: SiteSettings, *, should_stop: Callable[[], bool] = lambda: False) -> Mapping[str, int]:
    """Run over the studies that the site file chooses and write their reports; give counts by outcome.

    Raises:
        SourceError: a source cannot be read at all.
        StoreError: the disk cannot take a report.
        Stopped: ``aborted``; the reports that were finished stand.
    """
    sources = [open_source(source) for source in site.data]
    studies = [study for source in sources for study in source.studies()]
    if site.inference.studies == "held_out":
        key = read_split_key(site.state)
        studies = [s for s in studies if assign(site.patient_of(s.patient_key), key=key, split=site.split) == "test"]
    refused = [verdict for source in sources for verdict in source.refused]
    return report_studies(run, studies, refused, compute=site.compute, should_stop=should_stop)


def report_studies(
    run: Run,
    studies: Iterable[StudyCase],
    refused: Iterable[Verdict],
    *,
    compute: Compute,
    should_stop: Callable[[], bool] = lambda: False,
    progress: Callable[[int, int], None] | None = None,
) -> Mapping[str, int]:
    """Write a report for every series of the model's modality and a refusal for every refused one.

    Args:
        run: Model, place and time.
        studies: Accepted series; those of another modality are counted as ``other_modality`` and left alone.
        refused: Verdicts of series that the reader refused.
        compute: The machine's share.
        should_stop: Asked between windows.
        progress: Called with the series done and their number.

    Returns:
        Counts under ``findings``, ``no_findings``, ``refused`` and ``other_modality``.

    Raises:
        ReleaseRefused: ``task_not_reported``: no report can hold what the model answers; ``norms_missing``.
    """
    model, runtime = _load(run, compute)
    randomness = Secret()
    counts = Counter({"findings": 0, "no_findings": 0, "refused": 0, "other_modality": 0})
    for verdict in refused:
        write_refusal(run.out, verdict, facts=model.facts, site=run.site, created=run.now)
        counts["refused"] += 1
    listed = tuple(studies)
    for number, study in enumerate(listed, start=1):
        if should_stop():
            raise Stopped("aborted", f"inference was asked to end after {number - 1} of {len(listed)} series")
        counts[_report(run, study, model, machine=(runtime, randomness), should_stop=should_stop)] += 1
        if progress:
            progress(number, len(listed))
    return dict(counts)


def _report(
    run: Run,
    study: StudyCase,
    model: LoadedModel,
    *,
    machine: tuple[Runtime, Secret],
    should_stop: Callable[[], bool],
) -> str:
    """Write one series' report and give its outcome; what is wrong with a series costs that series alone."""
    if study.modality != model.input.modality:
        return "other_modality"
    runtime, randomness = machine
    try:
        volume = study.read()
        inference = infer_volume(model, volume, runtime=runtime, randomness=randomness, should_stop=should_stop)
        write_report(run.out, inference, volume, model=model, site=run.site, created=run.now, randomness=randomness)
    except (SeriesRefused, LabelRefused, SourceError, ReleaseRefused) as error:
        verdict = replace(study.verdict, accepted=False, code=error.code, sentence=error.detail)
        write_refusal(run.out, verdict, facts=model.facts, site=run.site, created=run.now)
        return "refused"
    return "findings" if inference.findings.lesions else "no_findings"


def _load(run: Run, compute: Compute) -> tuple[LoadedModel, Runtime]:
    passport = run.release.passport
    runtime = choose_runtime(
        compute,
        network=passport.network,
        task=reported_task(passport),
        patch_size=passport.patch_size,
        batch_size=_BATCH,
    )
    return load_model(run.release, runtime=runtime, norms=run.norms), runtime
