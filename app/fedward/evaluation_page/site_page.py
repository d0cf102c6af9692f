"""The hospital's own page of an evaluation: exact, with intervals, curves and subgroups. It stays in its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import AwareDatetime

from fedward.evaluation.exact import Exact, SiteFigures, Subgroup, site_figures, subgroups
from fedward.evaluation.figures import Figures, Value, figures_of
from fedward.evaluation.measure import ScanFacts
from fedward.evaluation.outcome import LOCAL, RELEASE, ModelName
from fedward.evaluation.sheet import IOU, MOST_FALSE_MARKS, SECONDS, Counts, is_hidden, sheet_of
from fedward.evaluation_page import plots
from fedward.evaluation_page.html import render
from fedward.evaluation_page.view import (
    NAMES,
    NOTHING,
    Page,
    Plot,
    Section,
    Table,
    calibration_table,
    classified_tables,
    exact,
    number,
)
from fedward.federation.record import SitePrivacy
from fedward.files import whole_folder, write_text
from fedward.privacy.plan import Spent
from fedward.randomness import Seeded
from fedward.settings.job import EvaluatedTask, EvaluationJob
from fedward.settings.read import Name

#: The page, and the numbers behind it.
PAGE, NUMBERS = "evaluation.html", "evaluation.json"

_GROUPINGS = {"sex": "sex", "age": "age in years", "maker": "scanner's maker", "slices": "distance of slices"}
#: Means that are not told by group.
_LEFT_OUT = frozenset({IOU, SECONDS})

_MODELS = {RELEASE: "the release", LOCAL: "this hospital's own model"}


class SiteDocument(Value):
    """The numbers behind the page.

    Attributes:
        threshold: From here on a score counts as positive.
        smallest_cohort: Groups of fewer patients are in nothing that leaves.
        is_shared: Whether the exact counts leave too, as the site file says.
        is_local_gone: Whether this hospital's own model went to the other hospitals, as the site file allows.
        epsilon: What the noised counts cost each counted patient.
        models: By model, everything exact.
        counts: By model, the counts from which what leaves is made, before the noise.
        groups: By grouping, the release on the patients of each group.
    """

    format: Literal["fedward-site-evaluation/1"] = "fedward-site-evaluation/1"
    job_id: str
    site: Name
    release: Name
    number: int
    model_sha256: str
    task: EvaluatedTask
    threshold: float
    created: AwareDatetime
    noise_multiplier: float
    cost: SitePrivacy
    smallest_cohort: int
    is_shared: bool
    is_local_gone: bool = False
    models: dict[ModelName, SiteFigures]
    counts: dict[ModelName, Figures]
    groups: dict[str, tuple[Subgroup, ...]]


def site_document(
    scans: Mapping[str, Sequence[ScanFacts]],
    counted: Mapping[str, Counts],
    *,
    job: EvaluationJob,
    job_id: str,
    site: str,
    model_sha256: str,
    spent: Spent,
    noise_multiplier: float,
    smallest_cohort: int,
    is_shared: bool,
    is_local_gone: bool,
    created: AwareDatetime,
) -> SiteDocument:
    """Put a hospital's numbers together.

    Args:
        scans: By model.
        counted: By model, the counts on the task's sheet.
        job: The job.
        job_id: Its id.
        site: The hospital.
        model_sha256: Of the release.
        spent: What the noised counts cost.
        noise_multiplier: Theirs.
        smallest_cohort: The site file's.
        is_shared: Whether the exact counts leave.
        is_local_gone: Whether this hospital's own model went to the other hospitals.
        created: When.
    """

    def drawn() -> np.random.Generator:
        # The same resamples for each model: what differs is the models.
        return Seeded(0).generator("bootstrap", job_id)

    threshold = job.operating_point
    return SiteDocument.model_validate(
        {
            "job_id": job_id,
            "site": site,
            "release": job.release,
            "number": job.number,
            "model_sha256": model_sha256,
            "task": job.task,
            "threshold": threshold,
            "created": created,
            "noise_multiplier": noise_multiplier,
            "cost": {"epsilon": spent.epsilon, "delta": spent.delta},
            "smallest_cohort": smallest_cohort,
            "is_shared": is_shared,
            "is_local_gone": is_local_gone,
            "models": {
                name: site_figures(of_model, threshold=threshold, generator=drawn()) for name, of_model in scans.items()
            },
            "counts": {
                name: figures_of(counts, job.task, operating_point=threshold) for name, counts in counted.items()
            },
            "groups": subgroups(scans[RELEASE], drawn()),
        }
    )


def write_site_page(folder: Path, document: SiteDocument) -> Path:
    """Write page and numbers into a folder that its owner alone can read, and give the page.

    Raises:
        StoreError: the disk cannot take them; nothing half-written is left.
    """
    with whole_folder(folder) as target:
        write_text(target / NUMBERS, document.model_dump_json(indent=2) + "\n", mode=0o600)
        write_text(target / PAGE, render(page_of(document)), mode=0o600)
    return folder / PAGE


def page_of(document: SiteDocument) -> Page:
    """Give the page."""
    ours = document.models["release"]
    leaves = [
        *(["The exact counts leave too, as the site file shares them"] if document.is_shared else []),
        *(["This hospital's own model went to the other hospitals, as it allows"] if document.is_local_gone else []),
    ]
    return Page(
        title=f"{document.release} {document.number} at {document.site}",
        kicker="Evaluation on this hospital's held-out patients. This page stays here.",
        lead=f"{ours.patients} patients with {ours.scans} scans, whom no training has seen.",
        facts=(
            ("job", document.job_id),
            ("made", f"{document.created:%Y-%m-%d %H:%M} UTC"),
            ("model", document.model_sha256),
            ("evaluated as", document.task),
            ("noise of what left", f"multiplier {document.noise_multiplier:g}"),
            ("cost of what left", f"epsilon {document.cost.epsilon:.2f} at delta {document.cost.delta:g} a patient"),
        ),
        sections=(
            _models_section(document),
            *_curve_sections(document),
            *(_group_section(name, groups, document) for name, groups in document.groups.items()),
            Section(
                "What left this hospital",
                lead=f"One vector of {sheet_of(document.task).size} counts in fixed bins, with noise, inside the sum "
                f"over all hospitals; groups of bins with fewer than {document.smallest_cohort} patients, or with all "
                f"but fewer, were left empty. {'. '.join(leaves) or 'Nothing else leaves'}.",
                tables=[_left_table(document)],
            ),
        ),
    )


def _models_section(document: SiteDocument) -> Section:
    models = document.models
    names = [name for name in NAMES if any(name in one.means for one in models.values())]
    rows = [(NAMES[name], *(exact(one.means.get(name)) for one in models.values())) for name in names]
    absent = (
        "" if LOCAL in models else "No model of this hospital's own gives numbers here; see: fedward model train-alone."
    )
    return Section(
        "The release, and the hospitals' own models"
        if len(models) > 2
        else "The release, and this hospital's own model",
        lead="Means over patients, with bootstrap intervals at 90 % over patients.",
        tables=[Table(("", *(_called(name) for name in models)), rows)],
        note=absent,
    )


def _called(model: str) -> str:
    """Say what a model is called on the page."""
    return _MODELS.get(model, f"the own model {model}")


def _curve_sections(document: SiteDocument) -> list[Section]:
    ours = document.models["release"]
    tables: list[Table] = []
    drawn: list[Plot] = []
    frocs = {_called(name): one.froc for name, one in document.models.items() if one.froc}
    rocs = {
        _called(name): one.classified.roc
        for name, one in document.models.items()
        if one.classified and one.classified.roc
    }
    if frocs:
        text = "FROC over all lesions, with the mean sensitivity at the rates of LUNA16"
        drawn.append(
            plots.curves(
                frocs, x="false marks a scan", y="share of lesions found", text=text, farthest=MOST_FALSE_MARKS
            )
        )
    if rocs:
        text = "ROC over all scores, with the area under it"
        drawn.append(plots.curves(rocs, x="1 - specificity", y="sensitivity", text=text, is_roc=True, farthest=1.0))
    if ours.classified:
        tables += classified_tables(ours.classified, digits=0)
    calibrated = ours.calibrated or document.counts["release"].calibrated
    if calibrated:
        tables.append(calibration_table(calibrated))
        drawn.append(plots.reliability(calibrated, text="Reliability: what came true against what was said"))
    return [Section("Curves and calibration", tables=tables, plots=drawn)] if tables or drawn else []


def _group_section(name: str, groups: Sequence[Subgroup], document: SiteDocument) -> Section:
    names = [mean for mean in NAMES if mean not in _LEFT_OUT and any(mean in group.means for group in groups)]
    rows = [
        (group.name, str(group.patients), str(group.scans), *(_short(group.means.get(mean)) for mean in names))
        for group in groups
    ]
    small = [
        group.name
        for group in groups
        if is_hidden(group.patients, document.models["release"].patients, smallest_cohort=document.smallest_cohort)
    ]
    return Section(
        f"By {_GROUPINGS.get(name, name)}",
        tables=[Table(("", "patients", "scans", *(NAMES[mean] for mean in names)), rows)],
        note=f"Too few patients, or all but too few, to be told to anybody: {', '.join(small)}." if small else "",
    )


def _short(value: Exact | None) -> str:
    return NOTHING if value is None else f"{value.value:.3f} ({value.low:.2f} to {value.high:.2f})"


def _left_table(document: SiteDocument) -> Table:
    figures = document.counts["release"]
    return Table(
        ("before the noise", "value", "bins hide up to"),
        (
            ("patients", number(figures.patients.value, 0), ""),
            *((NAMES.get(name, name), number(mean.value), number(mean.within)) for name, mean in figures.means.items()),
        ),
    )
