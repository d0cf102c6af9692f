"""A page as one HTML file, on screen and on paper."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from fedward.evaluation_page.view import Page

_HERE = Path(__file__).parent


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals.update(style=(_HERE / "page.css").read_text(encoding="utf-8"))
    return environment.get_template("page.html.j2")


def render(page: Page) -> str:
    """Write the page."""
    return _template().render(page=page)
