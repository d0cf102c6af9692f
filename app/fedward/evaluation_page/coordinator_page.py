"""The coordinator's page of an evaluation: the noised totals, and of each hospital what its site file shares."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from fedward.errors import FederationError
from fedward.evaluation.figures import Curve, Estimate, Figures
from fedward.evaluation.outcome import LOCAL, RELEASE, EvaluationOutcome, model_of
from fedward.evaluation.sheet import MOST_FALSE_MARKS, sheet_of
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
    estimate,
    number,
)
from fedward.files import write_text

#: The page, and the numbers behind it.
PAGE, NUMBERS = "evaluation.html", "evaluation.json"

_STAYS = "stays at the site"


def read_outcome(content: bytes) -> EvaluationOutcome:
    """Read what the server wrote.

    Raises:
        FederationError: ``job_failed``: it is not that.
    """
    try:
        return EvaluationOutcome.model_validate_json(content)
    except ValidationError as error:
        raise FederationError("job_failed", f"the server's {NUMBERS} cannot be read: {error}") from error


def write_coordinator_page(folder: Path, outcome: EvaluationOutcome) -> Path:
    """Write the page and the numbers behind it into ``folder``, and give the page.

    Raises:
        StoreError: the disk cannot take them.
    """
    write_text(folder / NUMBERS, outcome.model_dump_json(indent=2) + "\n")
    write_text(folder / PAGE, render(page_of(outcome)))
    return folder / PAGE


def page_of(outcome: EvaluationOutcome) -> Page:
    """Give the page of an outcome."""
    totals, shared = outcome.totals(), outcome.shared()
    spent = [one.epsilon for one in outcome.privacy.values()]
    return Page(
        title=f"{outcome.release} {outcome.number}",
        kicker=f"Evaluation over {len(outcome.noise_multipliers)} of {len(outcome.asked)} hospitals",
        lead="How the release does on patients of the hospitals whom no training has seen.",
        facts=(
            ("job", f"{outcome.name}, {outcome.job_id}"),
            ("made", f"{outcome.created:%Y-%m-%d %H:%M} UTC"),
            ("model", outcome.model_sha256),
            ("evaluated as", outcome.task),
            ("summed under", outcome.exchange),
            ("hospitals in the sum", ", ".join(sorted(outcome.noise_multipliers))),
            ("hospitals that are not", _coded(outcome.failures)),
            *([("own models not tried", _coded(outcome.not_given))] if outcome.local_models is not None else []),
            ("noise on each count", f"standard deviation {outcome.deviation:.1f}"),
            ("cost at a hospital", f"epsilon at most {max(spent):.2f}" if spent else NOTHING),
        ),
        sections=(
            *([_total_section(shared, "Over all hospitals, from the rows that they share", outcome)] if shared else []),
            _total_section(totals, "Over all hospitals, with noise", outcome),
            _matrix_section(outcome),
            Section(
                "What left the hospitals",
                lead=f"Of each hospital one vector of {sheet_of(outcome.task).size} counts in fixed bins, with noise. "
                "Every patient adds at most 1 to each group of bins. Exact curves, intervals and subgroups are on each "
                f"hospital's own page.{_models_left(outcome)}",
            ),
        ),
    )


def _total_section(figures: Figures, title: str, outcome: EvaluationOutcome) -> Section:
    tables = [
        Table(
            ("mean over patients", "value", "bins hide up to"),
            (
                ("patients", _patients(figures.patients), ""),
                *((NAMES.get(name, name), estimate(mean), number(mean.within)) for name, mean in figures.means.items()),
            ),
        )
    ]
    if figures.classified:
        tables += classified_tables(figures.classified, digits=1)
    if figures.calibrated:
        tables.append(calibration_table(figures.calibrated))
    return Section(
        title,
        lead="" if figures.means else "The noise hides everything: more patients or less noise would be needed.",
        tables=tables,
        plots=figure_plots({"all hospitals": figures}, outcome),
        note="A value after ± is the standard deviation that the noise gives; a mean that the noise hides is left out."
        if figures.patients.noise
        else "",
    )


def figure_plots(named: dict[str, Figures], outcome: EvaluationOutcome) -> list[Plot]:
    """Draw the curves of several models or sites over one another, and the first one's calibration and histogram."""
    drawn: list[Plot] = []
    frocs: dict[str, Curve] = {name: one.froc for name, one in named.items() if one.froc}
    rocs: dict[str, Curve] = {
        name: one.classified.roc for name, one in named.items() if one.classified and one.classified.roc
    }
    if frocs:
        drawn.append(
            plots.curves(
                frocs,
                x="false marks a scan",
                y="share of lesions found",
                text="FROC: lesions found against false marks, with the mean sensitivity at the rates of LUNA16",
                farthest=MOST_FALSE_MARKS,
            )
        )
    if rocs:
        drawn.append(
            plots.curves(
                rocs,
                x="1 - specificity",
                y="sensitivity",
                text="ROC, with the area under it",
                is_roc=True,
                farthest=1.0,
            )
        )
    first = next(iter(named.values()))
    if first.calibrated:
        drawn.append(plots.reliability(first.calibrated, text="Reliability: what came true against what was said"))
    sheet = sheet_of(outcome.task)
    for name in ("dice", "diameter_error_mm"):
        if name in first.means:
            block = sheet.block(name)
            drawn.append(
                plots.histogram(
                    block.edges.tolist(), first.histograms[name], x=NAMES[name], text=f"Patients by {NAMES[name]}"
                )
            )
    return drawn


def _matrix_section(outcome: EvaluationOutcome) -> Section:
    """Each hospital's data under the release, and under the hospitals' own models as far as they were tried."""
    measure = _measure(outcome)
    released = {}
    for site in outcome.asked:
        ours, own = outcome.row(site, RELEASE), outcome.row(site, LOCAL)
        if ours and (value := main_value(ours)) is not None:
            released[site] = value
        if own and (value := main_value(own)) is not None:
            released[f"{site} alone"] = value
    named = {site: figures for site in outcome.asked if (figures := outcome.row(site, RELEASE))}
    drawn = [plots.bars(released, y=measure, text=f"{measure} on each hospital's patients")] if released else []
    return Section(
        "Hospital by hospital",
        lead=f"{measure} on each hospital's own patients: the release, and what {_owners(outcome)} trained on its "
        "patients alone. A hospital's row is here only where its site file shares it.",
        tables=[_matrix(outcome)],
        plots=[*drawn, *(figure_plots(named, outcome)[:1] if named else [])],
    )


def _models_left(outcome: EvaluationOutcome) -> str:
    if not outcome.local_models:
        return ""
    owners = ", ".join(sorted(outcome.local_models))
    return f" The own models of {owners} went through the server to all hospitals, as every site file allows."


def _owners(outcome: EvaluationOutcome) -> str:
    return "the hospital" if outcome.local_models is None else "each hospital"


def _matrix(outcome: EvaluationOutcome) -> Table:
    """Write a row for each hospital's data, and a column for the release and for each model that a hospital trained."""
    owners = () if outcome.local_models is None else outcome.asked
    headers = [f"the own model of {owner}" for owner in owners] or ["the hospital's own model"]
    rows = []
    for site in outcome.asked:
        models = [RELEASE, *(LOCAL if site == owner else model_of(owner) for owner in owners or [site])]
        rows.append((site, *(_cell(outcome, site, model) for model in models)))
    totals = ("all, with noise", estimate(main_value(outcome.totals())), *(NOTHING for _ in headers))
    return Table(("patients of", "the release", *headers), (*rows, totals))


def main_value(figures: Figures) -> Estimate | None:
    """Give the number by which models are compared: Dice, or the area under the ROC curve."""
    return figures.classified.auc if figures.classified else figures.means.get("dice")


def _patients(counted: Estimate) -> str:
    return f"{counted.value:.0f} ± {counted.noise:.0f}" if counted.noise else f"{counted.value:.0f}"


def _measure(outcome: EvaluationOutcome) -> str:
    return NAMES["auc"].capitalize() if outcome.task in ("classification", "multitask") else NAMES["dice"]


def _cell(outcome: EvaluationOutcome, site: str, model: str) -> str:
    if site in outcome.failures:
        return outcome.failures[site]
    if site not in outcome.rows:
        return _STAYS
    if model != RELEASE and model not in outcome.rows[site]:
        return "no such model here" if model == LOCAL else "no such model"
    figures = outcome.row(site, model)
    if figures is None:
        return "too few patients" if model == RELEASE else "too few patients, or no scores"
    return estimate(main_value(figures))


def _coded(sites: Mapping[str, str]) -> str:
    return ", ".join(f"{site} ({code})" for site, code in sorted(sites.items())) or "none"
