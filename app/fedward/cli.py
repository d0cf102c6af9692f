"""The commands that need nothing but the hospital's own machine: ``data``, ``model`` and ``infer``.

Exit codes: 0 done, 1 failed or refused, 2 wrong usage. The detail of an error is printed here, on the local console,
and nowhere else.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from rich.text import Text

from fedward.errors import FedwardError, SettingsError
from fedward.terminal import VisibleConsole, escaped

if TYPE_CHECKING:
    from fedward.dicom.volume import Verdict
    from fedward.hospital import Hospital
    from fedward.release.package import Release

#: What the program says about itself goes to standard error; what a script may read goes to standard output. A scanner,
#: a path or a server may write what looks like rich's markup, or steers a terminal: it is printed as it stands.
console = VisibleConsole(stderr=True, highlight=False, markup=False, soft_wrap=True)
output = VisibleConsole(highlight=False, markup=False)

#: So many characters of a UID are shown.
_UID_END = 8

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
    typer.echo(escaped(json.dumps(value, indent=2, ensure_ascii=False, default=str)))


def open_hospital(site_file: Path | None) -> Hospital:
    """Open the hospital of ``site_file``.

    Raises:
        SettingsError: no site file was named.
    """
    from fedward.hospital import Hospital

    if site_file is None:
        raise SettingsError("missing_file", "name the hospital's site file with --site FILE or FEDWARD_SITE_FILE")
    return Hospital.open(site_file)


def _verdict_table(verdicts: Sequence[Verdict]) -> Table:
    """Give a line a series: UIDs by their ends, which tell them apart; the whole ones stand in the JSON file."""
    table = Table(
        "verdict", "", "maker", "shape", "spacing mm", "series UID", caption="shape and spacing: slice, row, column"
    )
    for column in table.columns:
        column.no_wrap = True
    table.columns[0].min_width = max((len(verdict.code) for verdict in verdicts), default=0)
    for verdict in verdicts:
        table.add_row(*_verdict_row(verdict))
    return table


def _verdict_row(verdict: Verdict) -> list[str | Text]:
    shape = ",".join(map(str, verdict.shape)) if verdict.shape else ""
    spacing = ",".join(f"{value:.3g}" for value in verdict.spacing_mm) if verdict.spacing_mm else ""
    uid = verdict.series_instance_uid
    colour = "green" if verdict.accepted else "red"
    return [
        Text(verdict.code, style=colour),
        verdict.modality,
        verdict.manufacturer,
        shape,
        spacing,
        uid if len(uid) <= _UID_END else f"…{uid[-_UID_END:]}",
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
        output.print(_verdict_table(verdicts))
        for verdict in verdicts:
            if not verdict.accepted:
                output.print(f"{verdict.code}: {verdict.sentence}", markup=False)
        accepted = sum(verdict.accepted for verdict in verdicts)
        output.print(f"{accepted} accepted, {len(verdicts) - accepted} refused")
        if json_file:
            write_text(
                json_file, json.dumps([as_record(v) for v in verdicts], indent=2, ensure_ascii=False) + "\n", mode=0o600
            )
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


@data.command("forget")
def data_forget(
    patient_id: Annotated[str, typer.Argument(metavar="ID", help="Patient ID; of a NIfTI folder the name's stem.")],
    issuer: Annotated[str, typer.Option("--issuer", help="Issuer of Patient ID, where the archive has one.")] = "",
    nifti: Annotated[
        bool, typer.Option("--nifti", help="Of a NIfTI folder, at a hospital that has DICOM too.")
    ] = False,
    site_file: SiteOption = None,
    sure: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a patient's images, labels, prepared cases and reports from this hospital's folders.

    Of the reports those below the site file's state are deleted, not those that fedward infer --out has written
    elsewhere, nor what data convert has written. The privacy ledger keeps its pseudonymous line. The releases that the
    patient was part of are listed, and this hospital's own models.
    """
    with explained():
        from fedward.dicom.values import key_of
        from fedward.forgetting import forget
        from fedward.settings.site import DicomSource

        hospital = open_hospital(site_file)
        is_dicom = not nifti and any(isinstance(source, DicomSource) for source in hospital.site.data)
        if not sure and not typer.confirm("Delete this patient's images, labels and reports for good?"):
            raise typer.Exit(1)
        forgotten = forget(hospital, key_of(issuer, patient_id) if is_dicom else patient_id)
        output.print(f"deleted {forgotten.files} files and {forgotten.reports} reports")
        if not forgotten.jobs:
            output.print("no training job has used this patient's data")
        for id_ in forgotten.jobs:
            output.print(f"took part in job {id_}")
        for release in forgotten.releases:
            output.print(f"was part of release {release}: it cannot unlearn; see its passport for what it promises")
        for path in forgotten.own_models:
            output.print(f"trained this hospital's own model {path}: train it again, or delete it", soft_wrap=True)
        for path in forgotten.unsure_models:
            output.print(f"may have trained {path}, which does not say: train it again, or delete it", soft_wrap=True)
        named = f", named {', '.join(forgotten.series)}" if forgotten.series else ""
        output.print(f"not deleted: what infer --out and data convert have written elsewhere{named}", soft_wrap=True)
    raise typer.Exit(0 if forgotten.files else 1)


ReleaseReference = Annotated[
    str, typer.Argument(metavar="RELEASE", help="A release's folder, or NAME-NUMBER of one that is installed here.")
]


@model.command("list")
def model_list(site_file: SiteOption = None, as_json: JsonFlag = False) -> None:
    """List the releases of this hospital: the running one, the candidates, and those that ran before."""
    with explained():
        from fedward.store.releases import stored_releases

        releases = stored_releases(open_hospital(site_file).database)
        if as_json:
            print_json([vars(release) for release in releases])
            return
        table = Table("release", "state", "installed", "model")
        for release in releases:
            state = "active" if release.is_active else "retired" if release.was_active else "candidate"
            installed = f"{release.installed_at:%Y-%m-%d %H:%M}"
            table.add_row(f"{release.name}-{release.number}", state, installed, release.model_sha256[:16])
        output.print(table)


@model.command("show")
def model_show(reference: ReleaseReference, site_file: SiteOption = None, as_json: JsonFlag = False) -> None:
    """Show a release's passport: what the model is, what it stands on and promises, whether it passed the gate."""
    with explained():
        release = _release(reference, site_file)
        passport = release.passport.model_dump(mode="json")
        signer, promised = vars(release.signer), release.passport.line
        line = promised.model_dump(mode="json") if promised else None
        if as_json:
            print_json({"passport": passport, "line": line, "signer": signer})
            return
        shown = {**passport, "privacy of the whole line": line}
        table = Table("", Column(overflow="fold"), show_header=False)
        for name, value in {**shown, **{f"signer {key}": text for key, text in signer.items()}}.items():
            table.add_row(name, json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value))
        output.print(table)


@model.command("verify")
def model_verify(reference: ReleaseReference, site_file: SiteOption = None) -> None:
    """Check a release: that no byte was altered and, with a site file, that the project's release key signed it."""
    with explained():
        release = _release(reference, site_file)
        passport = release.passport
        output.print(f"release {passport.name}-{passport.number} of {passport.project}: its three files agree")
        _print_signer(release)


@model.command("install")
def model_install(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="The release's folder.")],
    site_file: SiteOption = None,
) -> None:
    """Verify a release and keep it as a candidate; a hospital installs only what it received itself in the job."""
    with explained():
        from fedward.release.package import read_parts

        release = open_hospital(site_file).install_parts(read_parts(folder))
        output.print(f"installed {release.passport.name}-{release.passport.number}")


@model.command("activate")
def model_activate(
    reference: Annotated[str, typer.Argument(metavar="NAME-NUMBER", help="An installed release.")],
    site_file: SiteOption = None,
) -> None:
    """Make an installed release the model that inference runs."""
    with explained():
        name, number = open_hospital(site_file).activate(reference)
        output.print(f"active: {name}-{number}")


@model.command("rollback")
def model_rollback(site_file: SiteOption = None) -> None:
    """Go back to the model that ran before the running one."""
    with explained():
        name, number = open_hospital(site_file).roll_back()
        output.print(f"active: {name}-{number}")


def infer(
    path: ReadableFolder,
    reference: Annotated[str, typer.Option("--model", metavar="RELEASE", help="A release's folder, or NAME-NUMBER.")],
    out: Annotated[Path, typer.Option("--out", file_okay=False, help="Where the reports go, a folder a series.")],
    lesions_from: Annotated[
        str,
        typer.Option(
            "--lesions-from", metavar="RELEASE", help="The segmentation whose lesions a classification judges."
        ),
    ] = "",
    site_file: SiteOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Run a model over every series below PATH and write a report for each, also for those that are refused.

    Lesions for a classification of places come from --lesions-from, else from the release that the site file names;
    one of whole images needs none. Exit code 1 when no series could be read.
    """
    with explained():
        from fedward.dicom.source import open_source
        from fedward.inference.load import Chosen
        from fedward.report.studies import Run, report_studies
        from fedward.settings.site import Compute, DicomSource, read_site_settings
        from fedward.settings.site import Inference as Asked

        release = _release(reference, site_file)
        site = read_site_settings(site_file) if site_file else None
        source = open_source(DicomSource(kind="dicom", path=path))
        detector = _release(lesions_from, site_file) if lesions_from else _own_detector(release, site_file)
        chosen = open_hospital(site_file).choose(release, detector) if site else Chosen(release, detector)
        asked = site.inference if site else Asked()
        run = Run(chosen, out, site=site.name if site else "", now=datetime.now(UTC), asked=asked)
        with progress_bar("inference") as progress:
            counts = report_studies(
                run,
                source.studies(),
                source.refused,
                compute=site.compute if site else Compute(),
                progress=progress,
            )
        _print_signer(release)
        if detector:
            _print_signer(detector)
        _print_counts(counts, out, as_json=as_json)
    raise typer.Exit(0 if counts["findings"] + counts["no_findings"] else 1)


def _release(reference: str, site_file: Path | None) -> Release:
    """Give a release by its folder or by the name of an installed one, as well verified as can be."""
    from fedward.release.model_store import find_installed, load_installed
    from fedward.release.package import read_parts, verify_release

    folder = Path(reference)
    if folder.is_dir():
        return verify_release(read_parts(folder), open_hospital(site_file).trust() if site_file else None)
    hospital = open_hospital(site_file)
    return load_installed(find_installed(hospital.database, reference), state=hospital.site.state)


def _own_detector(release: Release, site_file: Path | None) -> Release | None:
    """Give what the site file names to find the lesions that ``release`` judges, if anything."""
    from fedward.release.detector import find_detector

    if site_file is None:
        return None
    hospital = open_hospital(site_file)
    return find_detector(release, hospital.site, hospital.database)


def _print_signer(release: Release) -> None:
    signer, name = release.signer, f"{release.passport.name}-{release.passport.number}"
    if signer.is_verified:
        text = f"{name}: signed by {signer.subject}, checked against the federation's root"
    else:
        text = (
            f"{name}: signer not checked, it says {signer.subject} ({signer.fingerprint}); "
            "name the hospital's site file with --site to check it"
        )
    console.print(text, markup=False)


def _print_counts(counts: Mapping[str, int], out: Path, *, as_json: bool) -> None:
    if as_json:
        print_json({"counts": counts, "out": str(out)})
        return
    for outcome, count in counts.items():
        output.print(f"{count:5d}  {outcome.replace('_', ' ')}")
    output.print(f"reports: {out}")
