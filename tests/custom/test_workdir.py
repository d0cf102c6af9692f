from __future__ import annotations

import os
import stat
import sys
import time
from pathlib import Path

import pytest

from fedward.errors import FederationError
from fedward.randomness import Secret
from fedward_flare.processes import MARK, end, running, start
from fedward_flare.workdir import claimed


def test_a_new_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    with claimed(tmp_path / "new") as workdir:
        assert stat.S_IMODE(workdir.root.stat().st_mode) == 0o700
        assert stat.S_IMODE(workdir.state_file.stat().st_mode) == 0o600


def test_a_folder_is_held_by_one_process_at_a_time(tmp_path: Path) -> None:
    with (
        claimed(tmp_path),
        pytest.raises(FederationError, match="workdir_in_use"),
        claimed(tmp_path),
    ):
        pass
    with claimed(tmp_path):
        pass


def test_a_folder_with_somebody_elses_files_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(FederationError, match="workdir_not_ours"), claimed(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_is_no_work_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FederationError, match="workdir_not_ours"), claimed(tmp_path / "file"):
        pass


def test_a_marker_that_fedward_did_not_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "federation.json").write_text('{"format": "something else"}')
    with pytest.raises(FederationError, match="workdir_not_ours"), claimed(tmp_path):
        pass


def test_a_folder_is_in_use_while_a_federation_runs_from_it(tmp_path: Path) -> None:
    mark = Secret().token()
    with claimed(tmp_path) as workdir:
        workdir.write_state(workdir.state().model_copy(update={"mark": mark}))
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    start("server", command, environment={**os.environ, MARK: mark}, log=tmp_path / "logs" / "server.log")
    try:
        until = time.monotonic() + 10
        while not running(mark) and time.monotonic() < until:  # a process that is just starting shows no environment
            time.sleep(0.01)
        with pytest.raises(FederationError, match="workdir_in_use"), claimed(tmp_path):
            pass
    finally:
        end(mark, grace_s=2)
    with claimed(tmp_path):
        pass
