"""The coordinator's page: totals, and of each hospital no more than it shares."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedward.errors import FederationError
from fedward.evaluation.outcome import EvaluationOutcome
from fedward.evaluation.shares import counts_of
from fedward.evaluation.sheet import sheet_of
from fedward.evaluation_page.coordinator_page import page_of, read_outcome, write_coordinator_page
from fedward.randomness import Secret, Seeded
from fedward.settings.job import EvaluatedTask
from fedward.site_counts import noised_counts
from scan_cases import detected_scans, scored_scans
from trust_cases import NOW

SITES = ("east", "north", "west")


def outcome(
    task: EvaluatedTask = "lesions", *, shared: tuple[str, ...] = (), noise: float = 1.0, **more: Any
) -> EvaluationOutcome:
    sheet, generator = sheet_of(task), Seeded(2).generator("page")
    make = detected_scans if task == "lesions" else scored_scans
    exact = {name: counts_of(make(generator, patients=150), sheet, task=task, smallest_cohort=10) for name in SITES}
    total = np.sum(
        [noised_counts(one, bound=sheet.bound, noise_multiplier=noise, secret=Secret()) for one in exact.values()],
        axis=0,
    )
    return EvaluationOutcome.model_validate(
        {
            "job_id": "a" * 32,
            "name": "evaluation",
            "release": "ball",
            "number": 3,
            "model_sha256": "b" * 64,
            "task": task,
            "operating_point": 0.5,
            "exchange": "secure-sum",
            "created": NOW,
            "asked": SITES,
            "total": total.tolist(),
            "noise_multipliers": dict.fromkeys(SITES, noise),
            "privacy": {name: {"epsilon": 2.5, "delta": 1e-5} for name in SITES},
            "rows": {name: {"release": exact[name].tolist(), "local": exact["east"].tolist()} for name in shared},
            **more,
        }
    )


@pytest.mark.parametrize(("task", "plot"), [("lesions", "FROC"), ("classification", "ROC")])
def test_a_page_is_one_file_with_its_plots_in_it(tmp_path: Path, task: EvaluatedTask, plot: str) -> None:
    page = write_coordinator_page(tmp_path, outcome(task, shared=SITES))
    text = page.read_text()
    assert text.count('src="data:image/svg+xml;base64,') >= 4
    assert set(re.findall(r'(?:src|href)="([^:"]+):', text)) == {"data"}
    assert "<script" not in text
    assert f">{plot}" in text
    assert "stays at the site" not in text
    again = read_outcome((tmp_path / "evaluation.json").read_bytes())
    assert again == outcome(task, shared=SITES).model_copy(update={"total": again.total})


def test_a_hospital_that_shares_nothing_has_no_number_of_its_own() -> None:
    page = page_of(outcome(shared=("east",)))
    matrix = next(section for section in page.sections if section.title == "Hospital by hospital")
    rows = {row[0]: row[1:] for row in matrix.tables[0].rows}
    assert rows["north"] == rows["west"] == ("stays at the site", "stays at the site")
    assert all(re.fullmatch(r"0\.\d{3}", cell) for cell in rows["east"])
    assert re.fullmatch(r"0\.\d{3} ± 0\.\d{3}", rows["all, with noise"][0])
    assert not any("from the rows that they share" in section.title for section in page.sections)


def test_the_whole_matrix_has_a_column_for_each_hospitals_own_model() -> None:
    made = outcome(shared=("east", "north"))
    counts = {site: row["release"] for site, row in made.rows.items()}
    rows = {
        "east": {"release": counts["east"], "local": counts["east"], "of west": counts["north"]},
        "north": {"release": counts["north"], "of east": counts["east"], "of west": [0.0] * len(counts["north"])},
    }
    given = {"east": "a" * 64, "west": "b" * 64}
    page = page_of(outcome(rows=rows, local_models=given, not_given={"north": "no_own_model"}))
    assert ("own models not tried", "north (no_own_model)") in page.facts
    (table,) = next(section for section in page.sections if section.title == "Hospital by hospital").tables
    assert list(table.headers[2:]) == [f"the own model of {site}" for site in SITES]
    cells = {row[0]: row[1:] for row in table.rows}
    release, own, of_north, of_west = cells["east"]
    assert own == release
    assert of_north == "no such model"
    assert of_west not in ("", release)
    assert cells["north"] == (of_west, release, "no such model here", "too few patients, or no scores")
    assert cells["west"] == ("stays at the site",) * 4
    assert len(cells["all, with noise"]) == 4
    assert "own models of east, west went" in page.sections[-1].lead


def test_totals_are_near_what_all_rows_say() -> None:
    found = outcome(shared=SITES, noise=0.5)
    noised, exact = found.totals(), found.shared()
    assert exact is not None
    assert exact.patients.value == 450
    for name, mean in noised.means.items():
        assert abs(mean.value - exact.means[name].value) < 5 * mean.noise


def test_a_hospital_that_failed_is_named_with_its_code() -> None:
    left = dict.fromkeys(SITES[:2], 1.0)
    page = page_of(outcome(noise_multipliers=left, failures={"west": "too_few_patients"}))
    assert ("hospitals that are not", "west (too_few_patients)") in page.facts


def test_noise_that_hides_everything_is_said() -> None:
    page = page_of(outcome(noise=500.0, total=[0.0] * sheet_of("lesions").size))
    assert "noise hides everything" in page.sections[0].lead


@pytest.mark.parametrize(
    "change",
    [
        {"total": [0.0] * 3},
        {"total": [float("nan")] * 132},
        {"name": "<script>"},
        {"rows": {"east": {"other": []}}},
        {"rows": {"east": {"of west": [0.0] * sheet_of("lesions").size}}},
        {"rows": {"west": {"of west": [0.0] * sheet_of("lesions").size}}, "local_models": {"west": "a" * 64}},
        {"local_models": {"west": "none"}},
        {"more": 1},
    ],
)
def test_numbers_that_are_none_make_no_page(change: dict[str, Any]) -> None:
    content = outcome().model_dump(mode="json") | change
    import json

    with pytest.raises(FederationError, match="job_failed"):
        read_outcome(json.dumps(content).encode())
