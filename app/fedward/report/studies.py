"""A model over many series: a report for each, whatever becomes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from fedward.dicom.source import StudyCase, open_source
from fedward.dicom.volume import Verdict
from fedward.errors import LabelRefused, ReleaseRefused, SeriesRefused, SourceError, Stopped
from fedward.imaging.grid import to_model_grid
from fedward.imaging.splits import assign, read_split_key
from fedward.inference.appraisal import appraise
from fedward.inference.attributions import require_captum
from fedward.inference.load import Chosen, load_chosen, load_model
from fedward.inference.model import LoadedModel
from fedward.inference.predict import infer_volume
from fedward.models.runtime import Runtime
from fedward.randomness import Secret
from fedward.report.write import write_refusal, write_report
from fedward.settings.site import Compute, SiteSettings
from fedward.settings.site import Inference as Asked


@dataclass(frozen=True)
class Run:
    """What holds for every series of one run.

    Attributes:
        chosen: The verified releases.
        asked: What a second look at the findings is to tell.
        out: Where the reports go, a folder a series.
        site: The hospital's name in the federation, empty outside one.
        now: The reports' time, with time zone.
    """

    chosen: Chosen
    out: Path
    site: str
    now: datetime
    asked: Asked = field(default_factory=Asked)


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
        ReleaseRefused: ``no_lesion_source``: what should find the lesions that a classification judges cannot;
            ``norms_missing``.
        SettingsError: ``missing_extra``: captum is asked for and not installed.
    """
    machine = _Machine.of(run, compute)
    model = machine.model
    counts = Counter({"findings": 0, "no_findings": 0, "refused": 0, "other_modality": 0})
    for verdict in refused:
        write_refusal(run.out, verdict, facts=model.facts, site=run.site, created=run.now)
        counts["refused"] += 1
    listed = tuple(studies)
    for number, study in enumerate(listed, start=1):
        if should_stop():
            raise Stopped("aborted", f"inference was asked to end after {number - 1} of {len(listed)} series")
        counts[_report(run, study, machine, should_stop=should_stop)] += 1
        if progress:
            progress(number, len(listed))
    return dict(counts)


@dataclass(frozen=True, eq=False)
class _Machine:
    """What a run keeps in memory.

    Attributes:
        model: The run's.
        others: The other members of an ensemble.
        runtime: Where they run.
        randomness: Draws UIDs.
    """

    model: LoadedModel
    others: tuple[LoadedModel, ...]
    runtime: Runtime
    randomness: Secret

    @classmethod
    def of(cls, run: Run, compute: Compute) -> _Machine:
        """Load the run's models."""
        if run.asked.explanation == "integrated_gradients":
            require_captum()
        model, runtime = load_chosen(run.chosen, compute)
        others = tuple(load_model(run.chosen.alone(other), runtime=runtime) for other in run.chosen.others)
        return cls(model, others, runtime, Secret())


def _report(run: Run, study: StudyCase, machine: _Machine, *, should_stop: Callable[[], bool]) -> str:
    """Write one series' report and give its outcome; what is wrong with a series costs that series alone."""
    model, runtime, randomness = machine.model, machine.runtime, machine.randomness
    if study.modality != model.input.modality:
        return "other_modality"
    try:
        volume = study.read()
        image = to_model_grid(volume, model.input)
        inference = infer_volume(
            model, volume, runtime=runtime, randomness=randomness, image=image, should_stop=should_stop
        )
        appraisal = appraise(
            model,
            inference,
            volume,
            asked=run.asked,
            runtime=runtime,
            others=machine.others,
            image=image,
            should_stop=should_stop,
        )
        write_report(
            run.out,
            inference,
            volume,
            model=model,
            site=run.site,
            created=run.now,
            randomness=randomness,
            appraisal=appraisal,
        )
    except (SeriesRefused, LabelRefused, SourceError, ReleaseRefused) as error:
        verdict = replace(study.verdict, accepted=False, code=error.code, sentence=error.detail)
        write_refusal(run.out, verdict, facts=model.facts, site=run.site, created=run.now)
        return "refused"
    return "findings" if inference.findings.has_findings else "no_findings"
