"""A federation whose server is malicious: its kit holds no limits and a component that sends any site anything."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fedward.settings.site import read_site_settings
from fedward.store.audit import Audit, Line
from fedward.store.database import Database
from fedward_flare import poc
from fedward_flare.folders import render_coordinator, render_hospitals
from fedward_flare.kits import provision
from fedward_flare.services import start_all
from fedward_flare.session import Session, connect
from fedward_flare.workdir import FederationState, Workdir, claimed
from tiny_federation import federation_of, write_hospital

NAMES = ("north", "east")


@dataclass(frozen=True)
class Hostile:
    """The running federation, its coordinator's session, and the folder through which the server takes orders."""

    workdir: Workdir
    session: Session
    orders: Path

    def key_of(self, name: str) -> bytes:
        startup = self.workdir.kit(name) / "startup"
        return (startup / ("server.key" if name == "server" else "client.key")).read_bytes()

    def audit_of(self, name: str) -> tuple[Line, ...]:
        """Give the lines of a hospital's audit, checked whole."""
        site = read_site_settings(self.workdir.site_file(name))
        database = Database.open(site.state)
        try:
            return Audit(database, site.state).lines()
        finally:
            database.close()

    def has_noted(self, code: str, *, what: str = "", site: str = "north") -> bool:
        """Whether the hospital's audit holds a refusal with this code (of this request)."""
        refusals = [line.facts for line in self.audit_of(site) if line.kind == "refusal"]
        return any(facts["code"] == code and what in ("", facts["what"]) for facts in refusals)

    def certificate_of(self, name: str) -> bytes:
        startup = self.workdir.kit(name) / "startup"
        return (startup / ("server.crt" if name == "server" else "client.crt")).read_bytes()


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostile]:
    orders = tmp_path_factory.mktemp("orders")
    settings = federation_of(tmp_path_factory.mktemp("sites"), NAMES)
    project = settings.federation
    path = os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path)
    with claimed(tmp_path_factory.mktemp("hostile") / "work") as workdir:
        state = FederationState(
            project=project.project,
            coordinator=project.coordinator,
            operator=project.operator,
            hospitals=NAMES,
            port=poc.choose_port(None),
            mark=f"hostile-{os.getpid()}-{time.monotonic_ns()}",
        )
        workdir.write_state(state)
        for name in NAMES:
            write_hospital(workdir.hospital(name), name)
        provision(settings, workdir, port=state.port, builder={})
        corrupt(workdir, orders)
        render_hospitals(settings, workdir)
        ask_a_person(workdir.site_file("east"))
        render_coordinator(workdir)
        try:
            started = start_all(settings, workdir, mark=state.mark, extra={"PYTHONPATH": path})
            workdir.write_state(state.model_copy(update={"processes": started}))
            with connect(workdir, timeout_s=60.0) as session:
                deadline = time.monotonic() + 90
                while set(session.connected_sites()) != set(NAMES) and time.monotonic() < deadline:
                    time.sleep(0.2)
                time.sleep(2.0)  # a site opens its doors a moment after it has registered
                yield Hostile(workdir, session, orders)
        finally:
            poc.down(workdir)


def ask_a_person(site_file: Path) -> None:
    """Have one hospital decide about inference jobs itself."""
    text = site_file.read_text()
    assert "min_sites = 2" in text
    site_file.write_text(text.replace("min_sites = 2", 'min_sites = 2\nneeds_approval = ["infer"]'))


def corrupt(workdir: Workdir, orders: Path) -> None:
    """Take the limits out of the server's kit and put the component in; no hospital's kit is touched."""
    local = workdir.kit("server") / "local"
    resources = json.loads((local / "resources.json.default").read_text())
    resources["class_allow_list"] = ["*"]
    del resources["app_validator"]
    resources["components"].append({"id": "malice", "path": "malicious_server.Malice", "args": {"folder": str(orders)}})
    (local / "resources.json.default").write_text(json.dumps(resources))
