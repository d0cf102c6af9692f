"""The security document names the test of every row: it must not name one that is not there."""

from __future__ import annotations

import re

from support import ROOT


def test_every_test_that_the_document_names_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "security.md").read_text(encoding="utf-8")))
    text = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert sorted(named - set(re.findall(r"def (test_\w+)\(", text))) == []
    assert len(named) > 30
