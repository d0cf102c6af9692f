"""``fedward site``: what a person at the hospital looks at and decides: certificates, and jobs that wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column, Table

from fedward.cli import JsonFlag, SiteOption, explained, open_hospital, output, print_json

if TYPE_CHECKING:
    from fedward.store.approvals import Decision

site = typer.Typer(no_args_is_help=True, help="This hospital: its certificates, and the jobs that wait for a person.")

HashArgument = Annotated[
    str, typer.Argument(metavar="HASH", help="The job document's hash, or its first 8 characters or more.")
]


@site.command("check")
def check(site_file: SiteOption = None, as_json: JsonFlag = False) -> None:
    """Look at certificates, key and roster: what is wrong, and what ends within 30 days.

    Exit code 1 when anything is found, so that a timer can run it.
    """
    with explained():
        from fedward.identity.inspection import inspect

        hospital = open_hospital(site_file)
        found = inspect(hospital.site, now=hospital.clock())
        if as_json:
            print_json([vars(finding) for finding in found])
        for finding in found if not as_json else ():
            output.print(f"{finding.level}: {finding.code}: {finding.sentence}", markup=False)
        if not found and not as_json:
            output.print(f"{hospital.site.name}: certificates, key and roster are in order")
    raise typer.Exit(1 if found else 0)


@site.command("jobs")
def jobs(site_file: SiteOption = None, as_json: JsonFlag = False) -> None:
    """List the jobs that a person here decides about; see [bounds] needs_approval in the site file."""
    with explained():
        from fedward.store.approvals import queued_jobs

        hospital = open_hospital(site_file)
        now = hospital.clock()
        found = queued_jobs(hospital.database)
        if as_json:
            print_json(
                [
                    {"hash": job.digest, "state": job.state(now), "document": job.document.model_dump(mode="json")}
                    for job in found
                ]
            )
            return
        table = Table(
            "hash", "state", "kind", "job", "sites", "usable until (UTC)", Column("signed by", overflow="fold")
        )
        for job in found:
            document = job.document
            until = f"{document.expires:%Y-%m-%d %H:%M}"
            described = (document.job.kind, document.job.name, str(len(document.sites)), until, job.signer[:23])
            table.add_row(job.digest[:16], job.state(now), *described)
        output.print(table if found else "no job waits for a person")


@site.command("approve")
def approve(digest: HashArgument, site_file: SiteOption = None) -> None:
    """Let this one job in: what is approved is the document with this hash, until its end date."""
    _decide(digest, "approved", site_file)


@site.command("reject")
def reject(digest: HashArgument, site_file: SiteOption = None) -> None:
    """Keep this job out; one that was approved before is refused from its next task on."""
    _decide(digest, "rejected", site_file)


def _decide(digest: str, decision: Decision, site_file: SiteOption) -> None:
    with explained():
        from fedward.acceptance import decide_on

        hospital = open_hospital(site_file)
        queued = decide_on(digest, decision, audit=hospital.audit, now=hospital.clock())
        output.print(f"{decision}: {queued.document.job.kind} job {queued.document.job.name}, {queued.digest}")
