"""The coordinator's folder, where the server runs elsewhere."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedward.errors import FederationError
from fedward.files import write_text
from fedward.settings.federation import read_federation
from fedward_flare import poc
from fedward_flare.cli import app
from fedward_flare.desk import make_desk
from fedward_flare.session import connect
from fedward_flare.share import shared
from fedward_flare.workdir import claimed

PROJECT = shared("provision", "project.yml")


def test_it_knows_the_federation_and_its_folders_are_the_owners_alone(tmp_path: Path) -> None:
    desk = make_desk(PROJECT, tmp_path / "desk")
    state = desk.state()
    assert (state.project, state.coordinator) == ("fedward_example", "coordinator@fedward.example")
    assert (state.server, state.port) == ("server.fedward.example", 8002)
    assert state.hospitals == ("north", "east", "south")
    assert desk.kit(state.coordinator) == desk.kits / "fedward_example" / "prod_00" / "coordinator@fedward.example"
    for folder in (desk.root, desk.kits, desk.coordinator):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_that_holds_anything_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(FederationError, match="workdir_not_ours"):
        make_desk(PROJECT, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
    desk = make_desk(PROJECT, tmp_path / "desk")
    before = desk.state_file.read_bytes()
    with pytest.raises(FederationError, match="workdir_in_use"):
        make_desk(PROJECT, tmp_path / "desk")
    assert desk.state_file.read_bytes() == before


def test_no_local_federation_is_started_in_it(tmp_path: Path) -> None:
    desk = make_desk(PROJECT, tmp_path / "desk")
    federation = read_federation(shared("poc", "federation.toml"))
    with claimed(desk.root) as workdir, pytest.raises(FederationError, match="workdir_not_ours") as caught:
        poc.up(federation, workdir)
    assert "server.fedward.example" in caught.value.detail
    assert list(desk.kits.iterdir()) == []


@pytest.mark.parametrize("words", [["status"], ["status", "--json"], ["down"], ["up"]], ids=" ".join)
def test_what_runs_of_its_federation_is_elsewhere_and_is_left_as_it_is(words: list[str], tmp_path: Path) -> None:
    desk = make_desk(PROJECT, tmp_path / "desk")
    before = {path: path.stat().st_mtime_ns for path in desk.root.rglob("*") if path.name != ".lock"}
    shown = CliRunner().invoke(app, ["poc", *words, "--workdir", str(desk.root)])
    said = " ".join(shown.output.split())
    assert (shown.exit_code, "workdir_not_ours" in said) == (1, True)
    assert "server.fedward.example" in said
    assert "nothing is started from here" in said
    assert {path: path.stat().st_mtime_ns for path in desk.root.rglob("*") if path.name != ".lock"} == before


def test_a_kit_that_is_not_packaged_yet_is_named_with_the_command(tmp_path: Path) -> None:
    desk = make_desk(PROJECT, tmp_path / "desk")
    shown = CliRunner().invoke(app, ["job", "list", "--workdir", str(desk.root)])
    said = "".join(shown.output.split())
    assert (shown.exit_code, "kit_missing" in said) == (1, True)
    assert str(desk.kit("coordinator@fedward.example")) in said
    assert f"-w{desk.kits}" in said.split("nvflarepackage")[1]


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    text = PROJECT.read_text(encoding="utf-8").replace("server.fedward.example", "localhost").replace("8002", "1")
    (tmp_path / "project.yml").write_text(text, encoding="utf-8")
    desk = make_desk(tmp_path / "project.yml", tmp_path / "desk")
    for name in ("client.key", "client.crt"):
        write_text(desk.kit(desk.state().coordinator) / "startup" / name, "of the kit")
    with pytest.raises(FederationError, match="not_reachable") as caught, connect(desk, timeout_s=0.1):
        raise AssertionError("nobody listens there")
    assert "port 1 of localhost" in caught.value.detail
