"""One real federation for all tests here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fedward_flare import poc
from fedward_flare.workdir import claimed
from tiny_federation import NAMES, Federation, federation_of, write_hospital


@pytest.fixture(scope="session")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    sources = tmp_path_factory.mktemp("sites")
    with claimed(tmp_path_factory.mktemp("poc") / "work") as workdir:
        for name in NAMES:
            write_hospital(workdir.hospital(name), name)
        with poc.running(federation_of(sources), workdir) as session:
            yield Federation(workdir, session)


@pytest.fixture
def edited_site(federation: Federation) -> Iterator[Callable[[str, str, str], None]]:
    """Change a line of a hospital's site file for one test."""
    before: dict[Path, str] = {}

    def edit(name: str, line: str, replacement: str) -> None:
        path = federation.workdir.site_file(name)
        text = path.read_text()
        before.setdefault(path, text)
        assert line in text
        path.write_text(text.replace(line, replacement))

    yield edit
    for path, text in before.items():
        path.write_text(text)
