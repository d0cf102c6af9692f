"""``report.html``: one file that needs no other, on screen and on paper."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from fedward.report import second_look, words
from fedward.report.codes import colour_of
from fedward.report.document import Report
from fedward.report.pictures import KeySlice

_HERE = Path(__file__).parent


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals.update(
        words=words,
        page=words.PAGE,
        second=second_look,
        look=second_look.LOOK,
        style=(_HERE / "report.css").read_text(encoding="utf-8"),
        colour_of=lambda number: "#{:02x}{:02x}{:02x}".format(*colour_of(number)),
    )
    return environment.get_template("report.html.j2")


def render(report: Report, pictures: Sequence[KeySlice]) -> str:
    """Write the report as a page.

    Args:
        report: What it says.
        pictures: The slices that it shows; none for a refused series.
    """
    return _template().render(report=report, pictures=pictures)
