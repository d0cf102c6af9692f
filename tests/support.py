"""What several tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def shared_data(name: str) -> Path:
    """Give the folder of a real data set, or skip where this checkout has none beside it."""
    base = Path(os.environ.get("FEDWARD_TEST_DATA", ROOT.parent / "shared" / "data"))
    folder = base / name
    if not folder.is_dir():
        pytest.skip(f"real data set {name} is not beside this checkout (FEDWARD_TEST_DATA names another place)")
    return folder
