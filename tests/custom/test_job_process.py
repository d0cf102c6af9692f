from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedward_flare.job_process import job_command

PROGRAM = """
import atexit, sys
from pathlib import Path


class Slow:
    def __del__(self):
        Path("taken_apart").touch()


kept = Slow()
kept.itself = kept
atexit.register(Path("tidied").touch)
print(__name__, sys.argv[1:], end="")
{end}
"""


def run(folder: Path, end: str) -> subprocess.CompletedProcess[str]:
    (folder / "program.py").write_text(PROGRAM.format(end=end))
    path = os.pathsep.join([str(folder), *sys.path])
    return subprocess.run(
        [*job_command(f"{sys.executable} -m program").split(), "one", "two words"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("end", "code"), [("", 0), ("sys.exit()", 0), ("sys.exit(101)", 101), ("sys.exit('why')", 1), ("1 / 0", 1)]
)
def test_the_module_runs_as_the_program_and_gives_its_code(tmp_path: Path, end: str, code: int) -> None:
    done = run(tmp_path, end)
    assert (done.stdout, done.returncode) == ("__main__ ['one', 'two words']", code)
    assert (tmp_path / "tidied").exists()
    assert ("ZeroDivisionError" in done.stderr) == ("1 / 0" in end)
    assert ("why\n" in done.stderr) == ("why" in end)


def test_the_end_takes_nothing_apart(tmp_path: Path) -> None:
    run(tmp_path, "sys.exit(0)")
    assert not (tmp_path / "taken_apart").exists()


MONITORED = """
import time
from nvflare.fuel.f3.mpm import MainProcessMonitor
MainProcessMonitor.add_cleanup_cb(Path("stopped").touch)
begun = time.monotonic()
code = MainProcessMonitor.run(main_func=lambda: 7)
assert time.monotonic() - begun < 2
sys.exit(code)
"""


def test_the_engines_monitor_does_not_sleep_before_it_tidies_up(tmp_path: Path) -> None:
    assert run(tmp_path, MONITORED).returncode == 7
    assert (tmp_path / "stopped").exists()


def test_a_command_that_starts_no_module_is_refused() -> None:
    with pytest.raises(ValueError, match="-m"):
        job_command("python program.py")
