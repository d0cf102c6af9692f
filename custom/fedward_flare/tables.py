"""What the coordinator's console shows of a job: rounds, sites and scores."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.table import Table

from fedward.federation.record import JobRecord, RoundRecord

if TYPE_CHECKING:
    from fedward.forecast import Forecast

#: A long job's table shows its latest rounds.
_SHOWN_ROUNDS = 20


def job_table(record: JobRecord) -> Table:
    """Give the table of a job as it stands."""
    return _training_table(record) if record.kind == "train" else _sites_table(record)


@contextmanager
def live(console: Console) -> Iterator[Callable[[JobRecord], None]]:
    """Give a function that shows a job's record: a table that grows on a terminal, a line a round elsewhere."""
    if not sys.stderr.isatty():
        printed: set[int] = set()
        yield lambda record: _print_lines(record, printed, console)
        return
    with Live(console=console, refresh_per_second=4) as table:
        yield lambda record: table.update(job_table(record))


def _print_lines(record: JobRecord, printed: set[int], console: Console) -> None:
    """Print each round once, when the sites have said what it is worth (or the job is over).

    They say it with the answer to the next round, so two rounds later it is known or will never be.
    """
    latest = max((entry.number for entry in record.rounds), default=0)
    for entry in record.rounds:
        is_settled = entry.score is not None or entry.number < latest - 1 or record.status != "running"
        if is_settled and entry.number not in printed:
            printed.add(entry.number)
            cells = ", ".join(f"{site} {_state(entry, site)}" for site in record.asked)
            spent = f"epsilon {_epsilon(entry)}  " if entry.privacy else ""
            console.print(f"round {entry.number}/{record.planned_rounds}  score {_number(entry.score)}  {spent}{cells}")


def _training_table(record: JobRecord) -> Table:
    table = Table(title=f"{record.name}: {record.status}")
    is_private = any(entry.privacy for entry in record.rounds)
    shown = ("round", "score", "epsilon" if is_private else "false positives", "seconds")
    for column in (*shown, *record.asked):
        table.add_column(column, justify="right")
    for entry in record.rounds[-_SHOWN_ROUNDS:]:
        best = " *" if entry.number == record.best_round else ""
        table.add_row(
            f"{entry.number}/{record.planned_rounds}",
            _number(entry.score) + best,
            _epsilon(entry) if is_private else _number(entry.false_positives),
            f"{entry.seconds:.1f}",
            *(_state(entry, site) for site in record.asked),
        )
    return table


def _sites_table(record: JobRecord) -> Table:
    table = Table("site", "outcome", "rounded counts", title=f"{record.name}: {record.status}")
    for site in record.asked:
        outcome = record.sites.get(site)
        counts = ", ".join(f"{name} {count}" for name, count in outcome.counts.items()) if outcome else ""
        table.add_row(site, outcome.code if outcome else "...", counts)
    return table


def _state(entry: RoundRecord, site: str) -> str:
    if site in entry.failures:
        return entry.failures[site]
    if entry.privacy:
        return "trained" if site in entry.weights else "-"
    return _number(entry.metrics.get(site, {}).get("validation_score"))


def _epsilon(entry: RoundRecord) -> str:
    """Give the largest of the sites'."""
    return f"{max(spent.epsilon for spent in entry.privacy.values()):.2f}" if entry.privacy else "-"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def print_forecasts(found: Iterable[Forecast], console: Console) -> None:
    """Say for each hospital whether it would take part, every reason why not, and what could not be asked."""
    for one in found:
        for refusal in one.refusals:
            console.print(f"{one.site} refuses: {refusal.code}: {refusal.detail}", markup=False)
        if not one.refusals:
            person = ", once a person there has approved the job" if one.asks_a_person else ""
            console.print(f"{one.site} would take part{person}", markup=False)
        if one.unasked:
            console.print(f"{one.site} was not asked about: {', '.join(one.unasked)}", markup=False)
