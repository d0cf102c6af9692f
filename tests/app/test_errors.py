from __future__ import annotations

import ast
import copy
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedward import errors
from fedward.errors import FedwardError, JobRefused
from support import ROOT

CLASSES = sorted(FedwardError.__subclasses__(), key=lambda kind: kind.__name__)


def test_str_is_the_code_and_the_detail_stays_apart() -> None:
    error = JobRefused("not_invited", "the job asks east, not north")
    assert (str(error), error.code, error.detail) == ("not_invited", "not_invited", "the job asks east, not north")
    assert "north" not in f"{error} {error!r} {error.args}"


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_codes_are_stable_names_that_may_leave(kind: type[FedwardError]) -> None:
    assert kind.codes
    assert all(re.fullmatch(r"[a-z][a-z0-9_]{0,63}", code) for code in kind.codes)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_a_code_of_another_error_is_a_programming_fault(kind: type[FedwardError]) -> None:
    with pytest.raises(ValueError, match=f"{kind.__name__} has no code 'nonsense'"):
        kind("nonsense", "")


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_an_error_travels_between_processes_whole(kind: type[FedwardError]) -> None:
    error = kind(min(kind.codes), "what was found")
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (type(other), other.code, other.detail) == (kind, error.code, "what was found")


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = re.findall(r"[├└]── (\w+)", errors.__doc__ or "")
    assert sorted(drawn) == [kind.__name__ for kind in CLASSES]


def raised() -> Iterator[tuple[Path, str, str]]:
    """Give each place that makes an error with a literal code: the file, the class and the code."""
    names = {kind.__name__ for kind in CLASSES}
    for path in sorted([*(ROOT / "app").rglob("*.py"), *(ROOT / "custom").rglob("*.py")]):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names and node.args:
                code = node.args[0]
                if isinstance(code, ast.Constant) and isinstance(code.value, str):
                    yield path, node.func.id, code.value


def test_every_code_is_given_somewhere() -> None:
    sources = [*(ROOT / "app").rglob("*.py"), *(ROOT / "custom").rglob("*.py")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources if path.name != "errors.py")
    dead = sorted({code for kind in CLASSES for code in kind.codes if f'"{code}"' not in text})
    assert dead == []


def test_every_error_is_raised_with_a_code_that_it_has() -> None:
    found = list(raised())
    wrong = [f"{path.name}: {name} {code}" for path, name, code in found if code not in getattr(errors, name).codes]
    assert wrong == []
    assert len(found) > 50
