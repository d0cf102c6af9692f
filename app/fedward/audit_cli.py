"""``fedward audit``: what came to this hospital, what left it, what was refused and what was changed."""

from __future__ import annotations

import json
from datetime import MAXYEAR, UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Column, Table

from fedward.cli import JsonFlag, SiteOption, explained, open_hospital, output, print_json
from fedward.files import write_text
from fedward.store.audit import Line, what_left

audit = typer.Typer(no_args_is_help=True, help="The audit of this hospital: verify, show, export, left.")

Since = Annotated[datetime | None, typer.Option("--since", formats=["%Y-%m-%d"], help="From this day on (UTC).")]


@audit.command("verify")
def verify(site_file: SiteOption = None) -> None:
    """Check that no line was changed, moved or removed. Exit code 1 when one was."""
    with explained():
        lines = open_hospital(site_file).audit.lines()
        output.print(f"the audit is whole: {len(lines)} lines")


@audit.command("show")
def show(site_file: SiteOption = None, since: Since = None, as_json: JsonFlag = False) -> None:
    """List the lines, the oldest first."""
    with explained():
        lines = _since(open_hospital(site_file).audit.lines(), since)
        if as_json:
            print_json([_plain(line) for line in lines])
            return
        table = Table("time (UTC)", "line", Column("what", overflow="fold"))
        for line in lines:
            words = ", ".join(f"{name} {value}" for name, value in line.facts.items())
            table.add_row(f"{line.at.astimezone(UTC):%Y-%m-%d %H:%M:%S}", line.kind, words)
        output.print(table)


@audit.command("export")
def export(
    target: Annotated[Path, typer.Argument(metavar="FILE", dir_okay=False, help="The file to write.")],
    site_file: SiteOption = None,
    since: Since = None,
) -> None:
    """Write the verified lines to a file, one JSON object a line."""
    with explained():
        lines = _since(open_hospital(site_file).audit.lines(), since)
        text = "".join(json.dumps(_plain(line), sort_keys=True) + "\n" for line in lines)
        write_text(target, text, mode=0o600)
        output.print(f"wrote {len(lines)} lines to {target}")


@audit.command("left")
def left(
    site_file: SiteOption = None,
    month: Annotated[
        datetime | None, typer.Option("--month", formats=["%Y-%m"], help="The month (UTC); else the last one.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Say what left this hospital in a month: how many messages of each kind, and their bytes."""
    with explained():
        hospital = open_hospital(site_file)
        if month and month.year == MAXYEAR:
            raise typer.BadParameter(f"{month:%Y-%m} is beyond the calendar")
        start = month.replace(tzinfo=UTC) if month else _month_before(hospital.clock())
        found = what_left(hospital.audit.lines(), start=start, end=_month_after(start))
        if as_json:
            print_json({message: vars(sent) for message, sent in found.items()})
            return
        table = Table("message", Column("times", justify="right"), Column("bytes", justify="right"))
        for message, sent in sorted(found.items()):
            table.add_row(message, str(sent.messages), str(sent.bytes))
        output.print(f"what left this hospital in {start:%B %Y}:")
        output.print(table if found else "nothing")


def _since(lines: tuple[Line, ...], since: datetime | None) -> tuple[Line, ...]:
    return lines if since is None else tuple(line for line in lines if line.at >= since.replace(tzinfo=UTC))


def _plain(line: Line) -> dict[str, Any]:
    return {"at": line.at.isoformat(), "kind": line.kind, **line.facts}


def _month_before(moment: datetime) -> datetime:
    first = moment.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return first.replace(year=first.year - 1, month=12) if first.month == 1 else first.replace(month=first.month - 1)


def _month_after(start: datetime) -> datetime:
    return start.replace(year=start.year + 1, month=1) if start.month == 12 else start.replace(month=start.month + 1)
