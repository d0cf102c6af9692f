"""``fedward model calibrate``: what a hospital's own labelled patients say about a release."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from fedward.cli import JsonFlag, SiteOption, explained, open_hospital, output, print_json, progress_bar

if TYPE_CHECKING:
    from fedward.inference.own_record import OwnRecord


def calibrate(
    reference: Annotated[str, typer.Argument(metavar="NAME-NUMBER", help="An installed release.")],
    site_file: SiteOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Fit a release's probabilities to this hospital's labelled validation patients, for its reports.

    Also finds which measurements of labelled lesions go with the release's class. All of it stays in the hospital.
    """
    with explained():
        from fedward.inference.own_lesions import calibrate_release

        hospital = open_hospital(site_file)
        with progress_bar("calibration") as progress:
            chosen = hospital.choose_installed(reference)
            record = calibrate_release(hospital.site, chosen, now=hospital.clock(), progress=progress)
        hospital.audit.note("release", done="calibrated", model=record.model_sha256)
        if as_json:
            print_json(record.model_dump(mode="json"))
        else:
            _print(record)


def _print(record: OwnRecord) -> None:
    fitted = record.calibration
    output.print(f"{record.judged} of its answers on validation patients could be held against labels")
    if fitted:
        output.print(
            f"temperature {fitted.temperature:.2f}: calibration error {fitted.error_before:.3f} without it, "
            f"{fitted.error_after:.3f} with it"
        )
    else:
        output.print("too few to calibrate on: reports give the network's own probabilities")
    if record.association:
        table = Table("measurement", "AUC falls by", "±")
        for each in record.association.measurements:
            table.add_row(each.name, f"{each.fall:+.3f}", f"{each.deviation:.3f}")
        output.print(table)
    else:
        output.print("too few labelled lesions of both kinds to say which measurements go with the class")
