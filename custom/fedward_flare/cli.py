"""The ``fedward`` program: the hospital's own commands, and those that need the federation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from fedward import __version__, alone_cli, audit_cli, calibrate_cli, cli, privacy_cli, site_cli
from fedward.cli import JsonFlag, console, explained, output, print_json
from fedward_flare import provision_cli, release_cli
from fedward_flare.options import (
    DEMO_FOLDER,
    POC_FOLDER,
    CandidateOption,
    JobFile,
    JobId,
    ReleaseOption,
    WorkdirOption,
)

if TYPE_CHECKING:
    from fedward.settings.job import Job
    from fedward_flare.results import FinishedJob
    from fedward_flare.session import Session
    from fedward_flare.workdir import Workdir

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Federated learning across hospitals: one diagnostic model, and no image leaves a hospital.",
    epilog="Exit codes: 0 done, 1 failed or refused, 2 wrong usage.",
)
poc = typer.Typer(no_args_is_help=True, help="A federation on this machine: a server, and a client for each hospital.")
job = typer.Typer(no_args_is_help=True, help="The coordinator's jobs: check, submit, watch, abort.")

app.add_typer(cli.data, name="data")
app.add_typer(poc, name="poc")
app.add_typer(job, name="job")
app.add_typer(cli.model, name="model")
app.add_typer(privacy_cli.privacy, name="privacy")
app.add_typer(audit_cli.audit, name="audit")
app.add_typer(site_cli.site, name="site")
app.add_typer(provision_cli.provision, name="provision")
app.command("infer")(cli.infer)
cli.model.command("train-alone")(alone_cli.train_alone)
cli.model.command("calibrate")(calibrate_cli.calibrate)
for name, command in release_cli.COMMANDS.items():
    cli.model.command(name)(command)


def _version(wanted: bool) -> None:
    if wanted:
        output.print(f"fedward {__version__}")
        raise typer.Exit(0)


@app.callback()
def main(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Federated learning across hospitals: one diagnostic model, and no image leaves a hospital."""


@app.command()
def demo(
    workdir: Annotated[Path, typer.Option(file_okay=False, help="A new or empty folder for all of it.")] = DEMO_FOLDER,
    seed: Annotated[int, typer.Option(min=0, help="Of the phantom patients and their split.")] = 1,
    private: Annotated[
        bool, typer.Option("--private", help="Train the released model under differential privacy.")
    ] = False,
) -> None:
    """Tell the whole story: make four hospitals' DICOM, train, publish, run inference, compare, keep the ledger."""
    with explained():
        from fedward_flare.demo import run_demo

        run_demo(workdir, seed=seed, private=private, console=console)


@poc.command("up")
def poc_up(
    federation: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="The federation file; the demo's four hospitals.")
    ] = None,
    workdir: WorkdirOption = POC_FOLDER,
    seed: Annotated[int, typer.Option(min=0, help="Of the phantom patients, where a hospital has them.")] = 1,
    shapes: Annotated[
        Path | None,
        typer.Option(
            exists=True, file_okay=False, help="LIDC-IDRI annotations: the phantoms have real nodules' forms."
        ),
    ] = None,
) -> None:
    """Make keys and site files where they are missing, and start the server and every hospital."""
    with explained():
        from fedward.settings.federation import read_federation
        from fedward_flare.phantoms import make_phantoms
        from fedward_flare.poc import require_same_project, up
        from fedward_flare.share import shared
        from fedward_flare.workdir import claimed

        settings = read_federation(federation or shared("poc", "federation.toml"))
        with claimed(workdir) as claimed_workdir:
            require_same_project(settings, claimed_workdir)  # before any image is made
            with cli.progress_bar("phantom patients") as show:
                make_phantoms(
                    settings,
                    claimed_workdir,
                    seed=seed,
                    shapes=shapes,
                    progress=lambda _, done, total: show(done, total),
                )
            up(settings, claimed_workdir, progress=lambda text: console.print(text, markup=False))
        output.print(f"{len(settings.names)} hospitals are connected: {', '.join(settings.names)}")


@poc.command("status")
def poc_status(workdir: WorkdirOption = POC_FOLDER, as_json: JsonFlag = False) -> None:
    """Say what runs and which hospitals the server sees. Exit code 1 when the server does not run."""
    with explained():
        from fedward_flare.poc import status
        from fedward_flare.workdir import Workdir

        found = status(Workdir(workdir.resolve()))
        if as_json:
            print_json({**vars(found), "processes": dict(found.processes), "is_running": found.is_running})
        elif not found.project:
            output.print("no federation was made here yet; start one with: fedward poc up")
        else:
            table = Table("process", "runs", "connected", title=f"{found.project}, port {found.port}")
            for name, alive in found.processes.items():
                connected = "" if name == "server" else "yes" if name in found.connected else "no"
                table.add_row(name, "yes" if alive else "no", connected)
            output.print(table)
    raise typer.Exit(0 if found.is_running else 1)


@poc.command("down")
def poc_down(workdir: WorkdirOption = POC_FOLDER) -> None:
    """End the jobs, the hospitals and the server; what they have written stays."""
    with explained():
        from fedward_flare.poc import down
        from fedward_flare.workdir import Workdir

        down(Workdir(workdir.resolve()), progress=lambda text: console.print(text, markup=False))
        output.print("nothing runs")


@job.command("check")
def job_check(
    file: JobFile,
    site_files: Annotated[
        list[Path] | None,
        typer.Option("--site", exists=True, dir_okay=False, help="Would this site file take part? As often as needed."),
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option("--certificate", exists=True, dir_okay=False, help="Of the coordinator who would sign the job."),
    ] = None,
    with_data: Annotated[
        bool, typer.Option("--data", help="Count each hospital's patients too: on the hospital's own machine.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Validate a job file whole and, with site files, say which site would refuse, and why. Nothing is submitted.

    Exit code 1 when a site would refuse.
    """
    with explained():
        from datetime import UTC, datetime

        from fedward.forecast import Question, forecast
        from fedward_flare.tables import print_forecasts

        checked = _read_job(file)
        question = Question(checked, datetime.now(UTC), certificate=certificate)
        found = [forecast(question, path, with_data=with_data) for path in site_files or ()]
        if as_json:
            sites = [
                {**vars(one), "refusals": [{"code": why.code, "detail": why.detail} for why in one.refusals]}
                for one in found
            ]
            print_json({"job": checked.name, "kind": checked.kind, "sites": sites})
        else:
            output.print(f"{file}: a valid job of kind {checked.kind}", markup=False)
            print_forecasts(found, output)
    raise typer.Exit(1 if any(one.refusals for one in found) else 0)


@job.command("export")
def job_export(
    file: JobFile,
    out: Annotated[Path, typer.Option("--out", file_okay=False, help="The NVFLARE job's folder.")],
    workdir: WorkdirOption = POC_FOLDER,
    release: ReleaseOption = None,
) -> None:
    """Sign a job and write it as an NVFLARE job without code, to look at or to submit elsewhere."""
    with explained():
        from fedward_flare.jobs import export, prepare

        output.print(str(export(prepare(_read_job(file), _workdir(workdir), release=release), out)), markup=False)


@job.command("submit")
def job_submit(
    file: JobFile,
    workdir: WorkdirOption = POC_FOLDER,
    release: ReleaseOption = None,
    candidate: CandidateOption = None,
    watch: Annotated[bool, typer.Option("--watch", help="Follow the job to its end.")] = False,
) -> None:
    """Sign a job as the coordinator and submit it; print its id."""
    with explained():
        from fedward_flare.jobs import prepare
        from fedward_flare.releases import keep_document

        checked = _read_job(file)
        with _session(workdir) as session:
            trained = session.fetch(candidate).folder if candidate else None
            prepared = prepare(checked, _workdir(workdir), release=release, candidate=trained)
            keep_document(prepared, _workdir(workdir))
            output.print(session.submit(prepared))
            if watch:
                _watch(session, prepared.document.id, workdir)


@job.command("list")
def job_list(workdir: WorkdirOption = POC_FOLDER, as_json: JsonFlag = False) -> None:
    """List the jobs that the server knows, the latest first."""
    with explained(), _session(workdir) as session:
        jobs = session.jobs()
        if as_json:
            print_json([vars(listed) for listed in jobs])
            return
        table = Table("id", "job", "engine's status", "submitted")
        for listed in jobs:
            table.add_row(listed.id, listed.name, listed.status, listed.submitted)
        output.print(table)


@job.command("watch")
def job_watch(job_id: JobId, workdir: WorkdirOption = POC_FOLDER, as_json: JsonFlag = False) -> None:
    """Follow a job to its end and fetch its result. Exit code 1 when it did not complete."""
    with explained(), _session(workdir) as session:
        finished = _watch(session, job_id, workdir)
        if as_json:
            print_json(finished.record.model_dump(mode="json"))


@job.command("resume")
def job_resume(
    job_id: JobId,
    workdir: WorkdirOption = POC_FOLDER,
    release: ReleaseOption = None,
    watch: Annotated[bool, typer.Option("--watch", help="Follow the job to its end.")] = False,
) -> None:
    """Bring the very document of a job again: after a killed server, or once hospitals have approved it.

    Training goes on from the last committed round. No hospital trains a round twice or charges it twice: it gives the
    update that it sealed.
    """
    with explained():
        from fedward_flare.releases import kept_job

        prepared = kept_job(job_id, _workdir(workdir), release=release)
        with _session(workdir) as session:
            output.print(session.submit(prepared))
            if watch:
                _watch(session, prepared.document.id, workdir)


@job.command("abort")
def job_abort(job_id: JobId, workdir: WorkdirOption = POC_FOLDER) -> None:
    """End a job; the sites stop within seconds."""
    with explained(), _session(workdir) as session:
        session.abort(job_id)
        output.print(f"aborted {job_id}")


def _read_job(file: Path) -> Job:
    from fedward_flare.jobs import read_job

    return read_job(file)


def _workdir(path: Path) -> Workdir:
    from fedward_flare.workdir import Workdir

    return Workdir(path.resolve())


@contextmanager
def _session(workdir: Path) -> Iterator[Session]:
    from fedward_flare.session import connect

    with connect(_workdir(workdir)) as session:
        yield session


def _watch(session: Session, job_id: str, workdir: Path) -> FinishedJob:
    from fedward_flare.demo import require_completed
    from fedward_flare.tables import live

    with live(console) as show:
        finished = session.watch(job_id, on_progress=show)
        show(finished.record)
    output.print(f"result: {finished.folder}", markup=False)
    if finished.record.kind == "gate":
        from fedward_flare.releases import gate_lets_pass

        passes = gate_lets_pass(finished, _workdir(workdir))
        output.print("the model passes" if passes else "the model does not pass: see docs/releases.md")
    if finished.page:
        output.print(f"page: {finished.page}", markup=False)
    require_completed(finished, _workdir(workdir))
    return finished
