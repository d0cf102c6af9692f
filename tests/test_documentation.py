"""What the documentation names is there: tests, files, links, commands and options. Every setting is named in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from typer.main import get_command

from fedward.settings.federation import FederationSettings
from fedward.settings.job import Job
from fedward.settings.site import SiteSettings
from fedward_flare.cli import app
from support import ROOT

PAGES = sorted(path for pattern in ("*.md", "docs/*.md", "poc/*.md", "provision/*.md") for path in ROOT.glob(pattern))
#: What somebody reads beside the pages who writes a site, job or federation file.
EXAMPLES = [path for pattern in ("jobs/*.toml", "poc/**/*.toml", "provision/*.toml") for path in ROOT.glob(pattern)]


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def page(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_pages_are_found() -> None:
    assert {"README.md", "docs/security.md", "poc/README.md", "provision/steps.md"} <= set(map(page, PAGES))
    assert len(list(typed(text_of(ROOT / "README.md")))) > 30
    assert len(re.findall(r"`(test_\w+)`", text_of(ROOT / "docs/security.md"))) > 30
    assert ["privacy", "plan", "JOB"] in list(typed("`fedward privacy status | plan JOB`"))


@pytest.mark.parametrize("path", PAGES, ids=page)
def test_every_test_that_a_page_names_is_there(path: Path) -> None:
    tests = list((ROOT / "tests").rglob("test_*.py"))
    defined = set(re.findall(r"def (test_\w+)\(", "\n".join(map(text_of, tests))))
    assert sorted(set(re.findall(r"`(test_\w+)`", text_of(path))) - defined) == []
    assert sorted(set(re.findall(r"`(test_\w+\.py)`", text_of(path))) - {test.name for test in tests}) == []


@pytest.mark.parametrize("path", PAGES, ids=page)
def test_every_file_of_the_house_that_a_page_names_is_there(path: Path) -> None:
    houses = "app|custom|docs|jobs|poc|provision|tests"
    named = set(re.findall(rf"[`\s(]((?:{houses})/[\w./-]*\w\.(?:py|toml|md|yml|json|png))[`\s),;]", text_of(path)))
    examples = {"jobs/NAME.toml"}
    assert (
        sorted(one for one in named - examples if not (ROOT / one).is_file() and not (path.parent / one).is_file())
        == []
    )


@pytest.mark.parametrize("path", PAGES, ids=page)
def test_every_link_leads_somewhere(path: Path) -> None:
    links = {link for link in re.findall(r"\]\(([^)]+)\)", text_of(path)) if not link.startswith("https://")}
    assert sorted(link for link in links if not (path.parent / link).is_file()) == []


def typed(text: str) -> Iterator[list[str]]:
    """Give the words of each ``fedward`` command on a page; of ``a | b`` each of the two."""
    fenced = "\n".join(re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    lines = re.findall(r"^(?:\S+=\S+ )?fedward (.*)$", fenced, re.MULTILINE)
    for line in (*lines, *re.findall(r"`fedward ([^`]+)`", text)):
        first, *others = (part.split() for part in line.partition("#")[0].replace("\n", " ").split(" | "))
        yield first
        yield from ([first[0], *other] for other in others)


@pytest.mark.parametrize("path", PAGES, ids=page)
def test_every_command_that_a_page_shows_is_one_with_these_options(path: Path) -> None:
    program = get_command(app)
    for words in typed(text_of(path)):
        command: Any = program
        rest = list(words)
        while rest and hasattr(command, "commands"):
            assert rest[0] in command.commands, f"fedward {' '.join(words)}"
            command = command.commands[rest.pop(0)]
        known = {"--help", *(option for parameter in command.params for option in parameter.opts)}
        asked = {word.strip("[]") for word in rest if word.strip("[]").startswith("--")}
        assert asked <= known, f"fedward {' '.join(words)}"


@pytest.mark.parametrize("model", [SiteSettings, Job, FederationSettings], ids=["site", "job", "federation"])
def test_every_setting_is_named_where_a_person_looks_for_it(model: Any) -> None:
    schema = TypeAdapter(model).json_schema()
    tables = (schema, *schema.get("$defs", {}).values())
    settings = {name for table in tables for name in table.get("properties", {})}
    assert len(settings) > 10
    read = "\n".join(map(text_of, (*PAGES, *EXAMPLES)))
    assert sorted(name for name in settings if not re.search(rf"\b{name}\b", read)) == []
