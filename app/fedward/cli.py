"""The commands that need nothing but the hospital's own machine: ``data``, ``model`` and ``infer``.

Exit codes: 0 done, 1 failed or refused, 2 wrong usage. The detail of an error is printed here, on the local console,
and nowhere else.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from fedward.errors import FedwardError, SettingsError

if TYPE_CHECKING:
    from fedward.dicom.volume import Verdict
    from fedward.hospital import Hospital

#: What the program says about itself goes to standard error; what a script may read goes to standard output.
console = Console(stderr=True, highlight=False, soft_wrap=True)
output = Console(highlight=False)

SiteOption = Annotated[
    Path | None,
    typer.Option("--site", help="The hospital's site file.", envvar="FEDWARD_SITE_FILE", dir_okay=False, exists=True),
]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
ReadableFolder = Annotated[Path, typer.Argument(exists=True, help="A folder; everything below it is looked at.")]

data = typer.Typer(no_args_is_help=True, help="Look at a folder of images as fedward would read it.")
model = typer.Typer(no_args_is_help=True, help="The models of this hospital: install, activate, roll back, verify.")


@contextmanager
def explained() -> Iterator[None]:
    """End the command with exit code 1 and the local explanation when the work inside is refused."""
    try:
        yield
    except FedwardError as error:
        console.print(f"[bold red]refused[/]: {error.code}", markup=True)
        console.print(error.detail, markup=False)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        console.print("stopped")
        raise typer.Exit(1) from error


@contextmanager
def progress_bar(what: str) -> Iterator[Any]:
    """Give a function ``(done, total)`` that moves a bar on a terminal and is silent elsewhere."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def print_json(value: object) -> None:
    """Print ``value`` as JSON on standard output."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def open_hospital(site_file: Path | None) -> Hospital:
    """Open the hospital of ``site_file``.

    Raises:
        SettingsError: no site file was named.
    """
    from fedward.hospital import Hospital

    if site_file is None:
        raise SettingsError("missing_file", "name the hospital's site file with --site FILE or FEDWARD_SITE_FILE")
    return Hospital.open(site_file)


def _verdict_row(verdict: Verdict) -> list[str]:
    shape = " x ".join(map(str, verdict.shape)) if verdict.shape else ""
    spacing = " x ".join(f"{value:.3f}" for value in verdict.spacing_mm) if verdict.spacing_mm else ""
    colour = "green" if verdict.accepted else "red"
    return [
        f"[{colour}]{verdict.code}[/]",
        verdict.modality,
        verdict.manufacturer,
        shape,
        spacing,
        verdict.series_instance_uid,
    ]


@data.command("check")
def data_check(
    path: ReadableFolder,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write every verdict to this file as JSON.")] = None,
) -> None:
    """Read every series below PATH and say which are accepted, and why the others are not.

    Exit code 1 when no series is accepted.
    """
    with explained():
        from fedward.dicom.reader import as_record, check
        from fedward.files import write_text

        with progress_bar("reading") as progress:
            verdicts = check(path, progress=progress)
        table = Table("verdict", "modality", "maker", "slice x row x column", "spacing mm", "series")
        for verdict in verdicts:
            table.add_row(*_verdict_row(verdict))
        output.print(table)
        for verdict in verdicts:
            if not verdict.accepted:
                output.print(f"{verdict.code}: {verdict.sentence}", markup=False)
        accepted = sum(verdict.accepted for verdict in verdicts)
        output.print(f"{accepted} accepted, {len(verdicts) - accepted} refused")
        if json_file:
            write_text(json_file, json.dumps([as_record(v) for v in verdicts], indent=2, ensure_ascii=False) + "\n")
    raise typer.Exit(0 if accepted else 1)


@data.command("convert")
def data_convert(
    path: ReadableFolder,
    out: Annotated[Path, typer.Option("--out", help="Where the NIfTI files go.", file_okay=False)],
) -> None:
    """Write each accepted series to SERIESUID.nii.gz and its label to SERIESUID_label.nii.gz, in patient space.

    Exit code 1 when nothing could be converted.
    """
    with explained():
        from fedward.dicom.convert import convert

        with progress_bar("converting") as progress:
            converted = convert(path, out, progress=progress)
        for item in converted:
            for verdict in item.refusals:
                console.print(f"{verdict.code}: {verdict.sentence}", markup=False)
        written = [item for item in converted if item.image]
        for item in written:
            output.print(f"{item.image}" + (f"  with label {item.label}" if item.label else ""), markup=False)
        output.print(f"{len(written)} converted, {len(converted) - len(written)} refused")
    raise typer.Exit(0 if written else 1)


def environment_site() -> Path | None:
    """Give the site file that the environment names, if any."""
    named = os.environ.get("FEDWARD_SITE_FILE")
    return Path(named) if named else None
