"""What a page holds, whoever it is for: tables and plots in sections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedward.evaluation.exact import Exact
from fedward.evaluation.figures import Calibrated, Classified, Estimate

#: A number that is not there.
NOTHING = "–"

#: What a mean is called, and in which unit.
NAMES = {
    "dice": "Dice",
    "iou": "intersection over union",
    "hd95_mm": "Hausdorff distance, 95 % (mm)",
    "lesion_sensitivity": "lesions found (share)",
    "false_positives": "false positives a scan",
    "diameter_error_mm": "diameter error (mm)",
    "seconds": "network's time a scan (s)",
    "auc": "area under the ROC curve",
}


@dataclass(frozen=True)
class Table:
    """Rows under headers; the first cell of each row names it."""

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Plot:
    """A drawn figure.

    Attributes:
        source: A ``data:`` URI.
        text: What it shows, for those who do not see it.
    """

    source: str
    text: str


@dataclass(frozen=True)
class Section:
    """A part of a page."""

    title: str
    lead: str = ""
    tables: Sequence[Table] = ()
    plots: Sequence[Plot] = ()
    note: str = ""


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
        title: What was evaluated.
        kicker: The line above it.
        lead: The line below it.
        facts: Names and values.
        sections: In their order.
    """

    title: str
    kicker: str
    lead: str
    facts: Sequence[tuple[str, str]]
    sections: Sequence[Section]


def number(value: float | None, digits: int = 3) -> str:
    """Write a number, or what stands for none."""
    return NOTHING if value is None else f"{value:.{digits}f}"


def estimate(value: Estimate | None) -> str:
    """Write an estimate with its noise where it has any."""
    if value is None:
        return NOTHING
    return f"{value.value:.3f} ± {value.noise:.3f}" if value.noise else f"{value.value:.3f}"


def exact(value: Exact | None) -> str:
    """Write a mean with its interval."""
    return NOTHING if value is None else f"{value.value:.3f} ({value.low:.3f} to {value.high:.3f})"


def classified_tables(classified: Classified, *, digits: int) -> tuple[Table, ...]:
    """Write what scores are worth at the chosen point, and the confusion matrix."""
    known = classified
    at = Table(
        ("at the chosen point", "value"),
        (
            ("threshold", number(known.threshold, 2)),
            ("accuracy", number(known.accuracy)),
            ("F1", number(known.f1)),
            ("sensitivity", number(known.sensitivity)),
            ("specificity", number(known.specificity)),
            ("area under the ROC curve", estimate(known.auc)),
        ),
    )
    matrix = Table(
        ("truth", "called positive", "called negative"),
        (
            ("positive", number(known.true_positives, digits), number(known.false_negatives, digits)),
            ("negative", number(known.false_positives, digits), number(known.true_negatives, digits)),
        ),
    )
    return at, matrix


def calibration_table(calibrated: Calibrated) -> Table:
    """Write the calibration errors and the temperature."""
    return Table(
        ("calibration", "value"),
        (
            ("expected calibration error", number(calibrated.ece.value)),
            ("temperature that fits", number(calibrated.temperature, 2)),
            ("error with that temperature", number(calibrated.ece_with_temperature)),
        ),
    )
