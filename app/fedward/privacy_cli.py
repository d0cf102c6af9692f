"""``fedward privacy``: what each patient has spent here, what a job would cost, and whether the ledger is whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.table import Column, Table

from fedward.cli import JsonFlag, SiteOption, explained, open_hospital, output, print_json
from fedward.errors import SettingsError

if TYPE_CHECKING:
    from fedward.privacy.accounts import Account
    from fedward.privacy.ledger import Ledger

privacy = typer.Typer(no_args_is_help=True, help="The privacy ledger of this hospital: status, history, plan, verify.")

#: The ledger's words for what a line is about, in the order in which they are shown.
_SHOWN = ("job", "round", "model", "update")


@privacy.command("status")
def status(site_file: SiteOption = None, as_json: JsonFlag = False) -> None:
    """Show what patients have spent and what is left, patients of one history together."""
    with explained():
        from fedward.privacy.accounts import accounts

        ledger = open_hospital(site_file).ledger()
        terms, found = ledger.terms, accounts(ledger.entries(), ledger.terms)
        if as_json:
            print_json({"terms": vars(terms), "accounts": [vars(account) for account in found]})
            return
        output.print(
            f"promise to each patient: epsilon {terms.epsilon:g} at delta {terms.delta:g} for a lifetime here, "
            f"kept at Renyi order {terms.order}"
        )
        output.print(_accounts_table(found))
        if any(account.is_unprotected for account in found):
            output.print("* a job without privacy has used their data: as a whole their epsilon is infinite")


@privacy.command("history")
def history(site_file: SiteOption = None, as_json: JsonFlag = False) -> None:
    """List the ledger's lines, the oldest first. No line names a patient: they stand there by pseudonym."""
    with explained():
        lines = open_hospital(site_file).ledger().entries().contents
        if as_json:
            print_json(lines)
            return
        table = Table("time (UTC)", "line", "job", "round", "what")
        for line in lines:
            job, number = str(line.get("job", ""))[:8], str(line.get("round", ""))
            table.add_row(str(line["at"])[:19].replace("T", " "), line["kind"], job, number, _words(line))
        output.print(table)


@privacy.command("plan")
def plan(
    job_file: Annotated[Path, typer.Argument(metavar="JOB", exists=True, dir_okay=False, help="A job file (TOML).")],
    site_file: SiteOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Say what a job would cost each patient whose data it uses, and whether this hospital would take part.

    Exit code 1 when the hospital's own bounds or the cap rule it out.
    """
    with explained():
        from fedward.privacy.accounts import jobs_affordable
        from fedward.privacy.plan import cost_of
        from fedward.settings.admission import asked_sites, refusals
        from fedward.settings.job import InferenceJob, Job, PublishJob
        from fedward.settings.read import read_settings

        hospital = open_hospital(site_file)
        site = hospital.site
        job: Job = read_settings(job_file, cast("type[Any]", Job))
        if isinstance(job, PublishJob | InferenceJob):
            raise SettingsError("invalid_settings", f"a job of kind {job.kind} costs no patient anything")
        ledger, planned = hospital.ledger(), cost_of(job, site.privacy)
        costs, spent = ledger.terms.costs(planned.spend), planned.spent
        reasons = [r.detail for r in refusals(job, sites=asked_sites(job, site=site), site=site)]
        affordable = jobs_affordable(max(costs.values()), ledger.terms)
        if not affordable and spent is not None:
            reasons.append(f"its cost is beyond the cap of epsilon {ledger.terms.epsilon:g}")
        result: dict[str, Any] = {
            "job": job.name,
            "epsilon": spent.epsilon if spent else None,
            "delta": spent.delta if spent else None,
            "noise_multiplier": planned.noise_multiplier,
            "share_of_budget": max(costs.values()) / ledger.terms.budget if spent else None,
            "refusals": reasons,
        }
        if as_json:
            print_json(result)
        else:
            _print_plan(result, affordable=affordable)
    raise typer.Exit(1 if reasons else 0)


@privacy.command("verify")
def verify(site_file: SiteOption = None) -> None:
    """Check that no line of the ledger was changed, moved or removed, and that none is missing at its end."""
    with explained():
        ledger = open_hospital(site_file).ledger()
        output.print(f"the ledger is whole: {len(ledger.entries().contents)} lines; head {_head(ledger)}")


@privacy.command("end")
def end(
    job_id: Annotated[str, typer.Argument(metavar="ID", help="The job's id, or its beginning.")],
    site_file: SiteOption = None,
) -> None:
    """End a job here: what it reserved and did not use is free again, and no further round of it is trained."""
    with explained():
        ledger = open_hospital(site_file).ledger()
        open_jobs = [id_ for id_, job in ledger.entries().jobs.items() if job.is_open and id_.startswith(job_id)]
        if len(open_jobs) != 1:
            raise typer.BadParameter(f"{len(open_jobs)} open jobs have an id that begins with {job_id}")
        ledger.close(open_jobs[0])
        output.print(f"ended {open_jobs[0]}")


def _accounts_table(found: tuple[Account, ...]) -> Table:
    table = Table("patients", "epsilon spent", "with open jobs", "budget left", Column("jobs", overflow="fold"))
    for account in found:
        mark = " *" if account.is_unprotected else ""
        table.add_row(
            str(account.patients),
            f"{account.epsilon:.2f}{mark}",
            f"{account.reserved:.2f}{mark}",
            f"{account.left:.0%}",
            ", ".join(account.jobs),
        )
    return table


def _words(line: dict[str, Any]) -> str:
    """Say what a line holds beside time, kind, job and round."""
    match line["kind"]:
        case "open":
            return f"epsilon {line['epsilon']:g}, delta {line['delta']:g}, order {line['order']}"
        case "reserve":
            return f"{line['name']}: {len(line['patients'])} patients, {_costs(line['costs'])}"
        case "charge":
            return f"model {line['model'][:12]}, {_costs(line['costs'])}"
        case "seal":
            return f"update {line['update'][:12]}"
    return ""


def _costs(costs: dict[str, float | str]) -> str:
    return ", ".join(
        f"{group} {cost:.3f}" if isinstance(cost, float) else f"{group} {cost}" for group, cost in costs.items()
    )


def _print_plan(result: dict[str, Any], *, affordable: float) -> None:
    if result["epsilon"] is None:
        output.print(f"{result['job']} is without privacy: epsilon is infinite")
    else:
        output.print(
            f"{result['job']}: epsilon {result['epsilon']:.2f} at delta {result['delta']:g} for each patient, with "
            f"noise multiplier {result['noise_multiplier']:g}; {result['share_of_budget']:.0%} of the budget, so that "
            f"a patient could take part in {affordable:g} such jobs"
        )
    for reason in result["refusals"]:
        output.print(f"refused: {reason}", markup=False)


def _head(ledger: Ledger) -> str:
    head = ledger.head()
    return json.dumps([head.length, head.keyed_hash[:16]])
