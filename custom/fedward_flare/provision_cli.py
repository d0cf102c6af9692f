"""``fedward provision``: what each party of a real federation needs, and the release officer's key."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from fedward.cli import explained, output
from fedward.errors import FederationError

provision = typer.Typer(
    no_args_is_help=True, help="Set up a real federation: render it from a project file, enrol, make the roster."
)

ProjectOption = Annotated[str, typer.Option("--project", help="The federation's name, as in its project file.")]


@provision.command("render")
def render_project(
    out: Annotated[Path, typer.Option("--out", file_okay=False, help="A new folder.")],
    project_file: Annotated[
        Path | None, typer.Option("--project-file", exists=True, dir_okay=False, help="Else the one that is shipped.")
    ] = None,
) -> None:
    """Write the authority's profile, every party's request, every hospital's site file, and STEPS.md: who does what."""
    with explained():
        from fedward_flare.enrolment import render
        from fedward_flare.share import shared

        if out.exists():
            raise FederationError("provision_failed", f"{out} is there already; name a new folder")
        for path in render(project_file or shared("provision", "project.yml"), out):
            output.print(str(path), markup=False, soft_wrap=True)
        output.print(f"begin with {out / 'STEPS.md'}: who does what, and what to keep where", markup=False)


@provision.command("coordinator")
def coordinator(
    workdir: Annotated[Path, typer.Option("--workdir", file_okay=False, help="A new or empty folder.")],
    project_file: Annotated[
        Path, typer.Option("--project-file", exists=True, dir_okay=False, help="What the federation was rendered from.")
    ],
) -> None:
    """Make the coordinator's folder: there fedward job and fedward model propose work, with the server elsewhere."""
    with explained():
        from fedward_flare.desk import make_desk

        desk = make_desk(project_file, workdir)
        state = desk.state()
        for text in (
            f"package the kit of {state.coordinator} into it: nvflare package ... -w {desk.kits}",
            f"then: fedward job submit JOB --workdir {desk.root}",
            "the release officer, elsewhere, signs what this writes: "
            f"fedward model propose JOB --out PROPOSAL --workdir {desk.root}",
            f"where you are the officer too: release.key and release.crt go into {desk.coordinator}",
        ):
            output.print(text, soft_wrap=True)


@provision.command("roster")
def roster(
    certificates: Annotated[
        list[Path], typer.Argument(metavar="CERTIFICATE...", exists=True, dir_okay=False, help="Of each hospital.")
    ],
) -> None:
    """Print the roster of a site file, with the fingerprints to compare by another way than the server."""
    with explained():
        from fedward.terminal import visible
        from fedward_flare.enrolment import roster_lines

        typer.echo(visible(roster_lines(certificates)), nl=False)


@provision.command("release-request")
def release_request(
    project: ProjectOption,
    out: Annotated[Path, typer.Option("--out", file_okay=False, help="The officer's folder.")],
) -> None:
    """Make the release key here and a request for its certificate; the key stays, the request goes to the authority."""
    with explained():
        from fedward.files import write_bytes
        from fedward.identity.release_identity import request_release_identity

        if (out / "release.key").exists():
            raise FederationError("provision_failed", f"{out / 'release.key'} is there already")
        key, request = request_release_identity(project)
        write_bytes(out / "release.key", key)
        write_bytes(out / "release.csr", request, mode=0o644)
        output.print(f"send {out / 'release.csr'} to the authority; {out / 'release.key'} stays here", markup=False)
        output.print(
            f"what comes back goes into {out} as release.crt, with rootCA.pem and the coordinator's client.crt as "
            "coordinator.crt; then: fedward model sign",
            soft_wrap=True,
        )


@provision.command("release-approve")
def release_approve(
    request: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="release.csr, from the officer.")],
    project: ProjectOption,
    authority: Annotated[Path, typer.Option("--ca", exists=True, file_okay=False, help="rootCA.key and rootCA.pem.")],
    out: Annotated[Path, typer.Option("--out", dir_okay=False, help="The certificate to send back.")],
    valid_days: Annotated[int, typer.Option("--valid-days", min=1, max=1095)] = 360,
) -> None:
    """Sign the release officer's certificate, at the authority."""
    with explained():
        from fedward.files import write_bytes
        from fedward.identity.certificates import fingerprint, load_certificate, read_certificate
        from fedward.identity.release_identity import approve_release_identity
        from fedward.identity.signing import read_private_key

        key = read_private_key(authority / "rootCA.key")
        certificate = approve_release_identity(
            request.read_bytes(),
            project,
            key,  # type: ignore[arg-type]
            read_certificate(authority / "rootCA.pem"),
            valid=timedelta(days=valid_days),
        )
        write_bytes(out, certificate, mode=0o644)
        output.print(f"{out}: {fingerprint(load_certificate(certificate))}", markup=False, soft_wrap=True)
