"""Files are whole or not there."""

from __future__ import annotations

import resource
import signal
import stat
from pathlib import Path

import pytest

from fedward.errors import StoreError
from fedward.files import whole_file, whole_folder, write_bytes, write_text


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_text(path, "old")

    def fail_halfway() -> None:
        with whole_file(path) as temporary:
            temporary.write_text("half of the n")
            raise RuntimeError("the power went")

    with pytest.raises(RuntimeError, match="the power went"):
        fail_halfway()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    path = tmp_path / "model.bin"

    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(StoreError, match="no_space") as refused:
            write_bytes(path, bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    assert "model.bin" in refused.value.detail
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_readable_by_its_owner_alone_unless_said_otherwise(tmp_path: Path) -> None:
    write_bytes(tmp_path / "secret", b"x")
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


def test_a_folder_replaces_the_old_one_whole(tmp_path: Path) -> None:
    target = tmp_path / "report"
    for text in ("first", "second"):
        with whole_folder(target) as temporary:
            (temporary / text).write_text(text)
    assert [p.name for p in target.iterdir()] == ["second"]
    assert list(tmp_path.iterdir()) == [target]


def test_a_failed_folder_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "report"
    with whole_folder(target) as temporary:
        (temporary / "a").write_text("a")

    def fail_halfway() -> None:
        with whole_folder(target) as temporary:
            (temporary / "b").write_text("b")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail_halfway()
    assert [p.name for p in target.iterdir()] == ["a"]
    assert list(tmp_path.iterdir()) == [target]
