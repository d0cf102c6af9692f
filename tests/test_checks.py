"""The checks of ``make check`` that are ours: they must find what they are for."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest

from support import ROOT


def check(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"ci_{name}", ROOT / ".ci" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("stated", "is_copyleft"),
    [
        ("GPL-3.0-or-later", True),
        ("GNU Lesser General Public License v3 (LGPLv3)", True),
        ("AGPL-3.0-only", True),
        ("MIT AND GPL-2.0-only", True),
        ("Apache-2.0 OR GPL-2.0-only", False),
        ("Mozilla Public License 2.0 (MPL 2.0)", False),
        ("BSD-3-Clause", False),
    ],
)
def test_copyleft_is_found_unless_there_is_a_choice(stated: str, is_copyleft: bool) -> None:
    assert check("dependencies").is_copyleft(stated) == is_copyleft


def test_a_known_hole_is_a_fault_and_a_skipped_distribution_was_not_asked_about() -> None:
    answer = [
        {"name": "sound", "version": "1", "vulns": []},
        {"name": "holed", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]},
        {"name": "ours", "skip_reason": "Dependency not found on PyPI"},
    ]
    faults, asked = check("dependencies").read_answer(answer)
    assert faults == ["holed 2 has PYSEC-1, fixed in ['3']"]
    assert asked == 2


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("-----BEGIN " + "PRIVATE KEY-----", "Private Key"),
        ("-----BEGIN OPENSSH " + "PRIVATE KEY-----", "Private Key"),
        ("token = 'ghp_" + 36 * "a" + "'", "GitHub Token"),
        ("url = 'https://user:" + "pass9word@example.org'", "Basic Auth Credentials"),
    ],
)
def test_a_secret_is_found_and_not_shown(line: str, kind: str) -> None:
    pytest.importorskip("detect_secrets", reason="the secrets scan is of the development extra")
    leaks = check("leaks")
    with leaks.transient_settings({"plugins_used": [{"name": name} for name in leaks.DETECTORS]}):
        assert list(leaks.found_in([("file:1", line)])) == [f"file:1 holds what looks like: {kind}"]
