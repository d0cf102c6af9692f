"""Folders of a job as our coordinator writes them, and what may be changed in one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

SIGNATURES = (".__nvfl_sig.json", ".__nvfl_submitter.crt")

Change = Callable[[Path], object]


def sign(folder: Path) -> Path:
    for place in (folder, *(path for path in folder.iterdir() if path.is_dir())):
        for name in SIGNATURES:
            (place / name).write_text("{}")
    return folder


def add(name: str, content: str = "{}") -> Change:
    def change(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)

    return change


def edit(name: str, change: Callable[[dict[str, Any]], object]) -> Change:
    """Change what the JSON file of this name holds."""

    def apply(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))

    return apply


def link_elsewhere(path: Path, target: Path, link: Callable[[Path, Path], None]) -> None:
    """Move a file to ``target`` and leave a link to it."""
    path.rename(target)
    link(target, path)
