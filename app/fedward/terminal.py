"""The local console: what somebody else wrote is shown on it, and steers nothing.

A server, a coordinator or a scanner may put control characters into a name or a code. A terminal would obey them: clear
the screen, hide a line, or write over one that was printed before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

#: The control characters but tab and newline, and what turns the direction of writing (Unicode's Bidi_Control).
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


class VisibleConsole(Console):
    """A console on which each control character within a text is a visible one, as wide as one letter.

    What rich itself writes for colours, and to move a live table, stays. A word between colons is no emoji.
    """

    def __init__(self, *, emoji: bool = False, **how: Any) -> None:
        super().__init__(emoji=emoji, **how)

    def render_str(self, text: str, **how: Any) -> Text:
        """Give a text to print; it is made visible before its width is measured."""
        return super().render_str(visible(text), **how)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Give the segments of something to print; everything that is printed comes through here."""
        return _visible(super().render(renderable, options))


def visible(text: str) -> str:
    """Give ``text`` with a visible character in the place of each one that would steer a terminal."""
    return _STEERING.sub(lambda found: _picture(found[0]), text)


def escaped(json_text: str) -> str:
    """Give a JSON text with JSON's own escape in the place of each character that would steer a terminal."""
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", json_text)


def _visible(segments: Iterable[Segment]) -> Iterator[Segment]:
    for segment in segments:
        yield segment if segment.control else Segment(visible(segment.text), segment.style)


def _picture(character: str) -> str:
    """Give Unicode's picture of a C0 control character or DEL, the replacement character for the others."""
    code = ord(character)
    return chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else "\ufffd"
