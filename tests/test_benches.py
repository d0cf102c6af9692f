"""The benchmarks start as their documentation says: each script by itself, with its own folder alone on the path."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from support import ROOT

BENCH = ROOT / "tests" / "bench"
SCRIPTS = sorted(path.name for path in BENCH.glob("*.py") if '\nif __name__ == "__main__":\n' in path.read_text())

#: Starts every script that it is given with --help, one after the other as if each were alone, and prints what came of
#: it: the exit status (None where it did not end by itself) and what was printed, or the traceback.
STARTER = """
import contextlib, io, json, pathlib, runpy, sys, traceback

bench, *names = sys.argv[1:]
own, tests = list(sys.path), pathlib.Path(bench).parent
found = {}
for name in names:
    script = str(pathlib.Path(bench, name))
    sys.path[:], sys.argv[:] = [bench, *own], [script, "--help"]
    for loaded, module in list(sys.modules.items()):
        if loaded != "__main__" and tests in pathlib.Path(getattr(module, "__file__", None) or "/").parents:
            del sys.modules[loaded]
    printed, status = io.StringIO(), None
    with contextlib.redirect_stdout(printed):
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as ended:
            status = ended.code
        except Exception:
            traceback.print_exc(file=printed)
    found[name] = (status, printed.getvalue())
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def started() -> dict[str, tuple[int | None, str]]:
    """What each script says to ``--help``, started without this folder on the path."""
    packages = os.pathsep.join(str(ROOT / name) for name in ("app", "custom"))
    done = subprocess.run(
        [sys.executable, "-P", "-c", STARTER, str(BENCH), *SCRIPTS],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": packages},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, tuple[int | None, str]] = json.loads(done.stdout.splitlines()[-1])
    return found


def documented() -> list[tuple[str, str]]:
    """Give each script and its options, as the command lines of the documentation name them."""
    text = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    return re.findall(r"^\.venv/bin/python tests/bench/(\w+\.py)(.*)$", text, re.MULTILINE)


def test_every_benchmark_starts_by_itself(started: dict[str, tuple[int | None, str]]) -> None:
    failed = {name: said for name, (status, said) in started.items() if status != 0 or "usage:" not in said}
    assert failed == {}
    assert sorted(started) == SCRIPTS
    assert len(SCRIPTS) >= 10


def test_every_option_of_a_documented_command_line_is_one(started: dict[str, tuple[int | None, str]]) -> None:
    for script, options in documented():
        known = set(re.findall(r"--[a-z-]+", started[script][1]))
        assert set(re.findall(r"--[a-z-]+", options)) <= known, script


def test_make_runs_what_is_documented() -> None:
    names = re.search(r"for name in ([^;]*);", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert names is not None
    run = {f"{name}.py" for name in names[1].split()}
    assert run <= set(SCRIPTS)
    assert {script for script, _ in documented()} <= run
