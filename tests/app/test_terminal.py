"""What somebody else wrote steers no terminal, and what rich writes itself still does."""

from __future__ import annotations

import io
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.live import Live
from rich.table import Table

from fedward import cli
from fedward.terminal import VisibleConsole, escaped, visible

#: Clears the screen; sets the title; goes back a line; the same by a single character; a bell; turns the writing.
STEERING = ("\x1b[2J", "\x1b]0;x\x07", "\x1b[1A\r", "\x9b2J", "\x07", "\u202e", "\x7f", "\x00")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printed(*what: object, soft_wrap: bool = False) -> str:
    file = io.StringIO()
    VisibleConsole(file=file, highlight=False, markup=False, width=60).print(*what, soft_wrap=soft_wrap)
    return file.getvalue()


@pytest.mark.parametrize("text", STEERING)
@pytest.mark.parametrize("soft_wrap", [False, True])
def test_no_text_and_no_cell_of_a_table_brings_a_control_character(text: str, soft_wrap: bool) -> None:
    table = Table("id", title=f"title{text}")
    table.add_row(f"before{text}after")
    for shown in (printed(f"before{text}after", soft_wrap=soft_wrap), printed(table)):
        assert _CONTROL.search(shown) is None
        assert "before" in shown
        assert "after" in shown


@given(st.text())
def test_whatever_is_printed_has_only_tabs_and_newlines(text: str) -> None:
    assert _CONTROL.search(printed(text)) is None
    assert visible(visible(text)) == visible(text)
    assert json.loads(escaped(json.dumps(text, ensure_ascii=False))) == text
    assert _CONTROL.search(escaped(json.dumps(text, ensure_ascii=False))) is None


def test_a_live_table_shows_them_too_and_keeps_its_own_colours_and_movements() -> None:
    file = io.StringIO()
    console = VisibleConsole(file=file, force_terminal=True, color_system="standard", width=60)
    with Live(console=console, auto_refresh=False) as live:
        for code in ("\x1b[2J", "\x9b8m"):
            table = Table("site")
            table.add_row(f"south{code}", style="red")
            live.update(table, refresh=True)
    assert "\x1b[2J" not in file.getvalue()
    assert "\x9b" not in file.getvalue()
    assert "\u241b[2J" in file.getvalue()
    assert "\x1b[31m" in file.getvalue(), "the row is red"
    assert "\x1b[1A" in file.getvalue(), "the second table is written over the first"


def test_a_table_with_them_stays_straight() -> None:
    table = Table("id")
    table.add_row("a\x1b[2Jb")
    assert len({len(line) for line in printed(table).splitlines()}) == 1


def test_a_word_between_colons_stays_in_a_text_and_in_a_cell() -> None:
    table = Table("id")
    table.add_row("scan:x:1")
    assert "scan:x:1" in printed("scan:x:1")
    assert "scan:x:1" in printed(table)


def test_the_programs_consoles_are_such(capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(cli.console, VisibleConsole)
    assert isinstance(cli.output, VisibleConsole)
    cli.print_json({"name": "\x1b[2J\x9b"})
    shown = capsys.readouterr().out
    assert _CONTROL.search(shown) is None
    assert json.loads(shown) == {"name": "\x1b[2J\x9b"}
