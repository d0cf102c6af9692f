"""The house's plan, enforced: who may import whom."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
APP = ROOT / "app" / "fedward"
CUSTOM = ROOT / "custom" / "fedward_flare"

#: Rooms from the ground up, and what each may import besides the standard library, numpy, pydantic and rooms above it.
ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "files": set(),
    "settings": set(),
    "randomness": {"cryptography"},
    "identity": {"cryptography"},
    "store": {"sqlalchemy", "cryptography"},
    "dicom": {"pydicom", "SimpleITK", "highdicom", "gdcm"},
    "imaging": {"torch", "monai", "pydicom", "highdicom", "scipy"},
    "models": {"torch", "monai"},
    "privacy": {"scipy", "dp_accounting"},
    "training": {"torch", "monai"},
    "federation": {"cryptography", "tenseal"},
    "evaluation": {"scipy", "sklearn", "matplotlib", "torch", "monai"},
    "release": {"safetensors", "cryptography"},
    "inference": {"torch", "monai", "scipy", "captum"},
    "report": {"pydicom", "highdicom", "jinja2", "matplotlib"},
    "evaluation_page": {"jinja2", "matplotlib"},
    "site_party": set(),
    "site_sum": set(),
    "site_ckks": set(),
    "site_ranges": set(),
    "site_own": set(),
    "site_sums": set(),
    "site_counts": set(),
    "site_models": set(),
    "site_evaluation": set(),
    "site_training": set(),
    "round_values": set(),
    "acceptance": set(),
    "hospital": {
        "torch", "monai", "pydicom", "highdicom", "safetensors", "sqlalchemy", "cryptography", "scipy", "SimpleITK",
    },
    "forecast": set(),
    "forgetting": set(),
    "gating": set(),
    "terminal": {"rich"},
    "cli": {"typer", "rich"},
    "privacy_cli": {"typer", "rich"},
    "audit_cli": {"typer", "rich"},
    "site_cli": {"typer", "rich"},
    "alone_cli": {"typer"},
    "calibrate_cli": {"typer", "rich"},
}  # fmt: skip
EVERYWHERE = {"numpy", "pydantic"} | set(sys.stdlib_module_names)
MODULES = sorted(APP.rglob("*.py"))


def imports_of(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
            if node.module == "fedward":
                names |= {f"fedward.{alias.name}" for alias in node.names}
    return names


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(APP)))
def test_a_room_imports_only_what_the_plan_allows(path: Path) -> None:
    room = path.relative_to(APP).parts[0].removesuffix(".py")
    if room == "__init__":
        return
    assert room in ROOMS, f"{room} is not a room of the plan"
    order = list(ROOMS)
    for name in imports_of(path):
        top = name.split(".")[0]
        if top == "fedward":
            if name != "fedward":
                assert order.index(room_of(name)) <= order.index(room), f"{path.name} imports {name}, a room below"
        else:
            assert top in EVERYWHERE | ROOMS[room], f"{path.name} imports {top}, which {room} may not"


def test_only_the_flare_package_knows_nvflare() -> None:
    offenders = [p for p in MODULES if any(n.split(".")[0] == "nvflare" for n in imports_of(p))]
    assert offenders == []


@pytest.mark.parametrize("path", sorted(CUSTOM.rglob("*.py")), ids=lambda path: path.name)
def test_the_flare_package_holds_no_arithmetic(path: Path) -> None:
    forbidden = {"torch", "monai", "scipy", "pydicom", "SimpleITK", "highdicom", "opacus"}
    assert {name.split(".")[0] for name in imports_of(path)} & forbidden == set()


@pytest.mark.parametrize("path", [*MODULES, *sorted(CUSTOM.rglob("*.py"))], ids=lambda path: path.name)
def test_a_module_is_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("module", ["executors", "once_controllers", "evaluation_controller"])
def test_a_jobs_process_starts_without_what_only_work_needs(module: str) -> None:
    heavy = {"torch", "monai", "pydicom", "matplotlib"}
    code = f"import sys, fedward_flare.{module}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"
