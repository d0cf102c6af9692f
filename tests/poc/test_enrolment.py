"""A federation whose parties each made their own key, started from the kits that NVFLARE packaged for them."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import psutil
import pytest
import tomlkit
import yaml
from typer.testing import CliRunner

from enrolled_federation import enrol
from fedward.federation.record import JobRecord
from fedward.files import write_bytes
from fedward.identity.certificates import read_certificate
from fedward.identity.release_identity import make_release_identity
from fedward.identity.signing import read_private_key
from fedward_flare import poc, processes
from fedward_flare.cli import app
from fedward_flare.desk import make_desk
from fedward_flare.enrolment import render
from fedward_flare.folders import render_hospitals
from fedward_flare.jobs import SERVER_APP, export, prepare
from fedward_flare.results import read_record
from fedward_flare.services import start_all
from fedward_flare.session import Session, connect
from fedward_flare.share import shared
from fedward_flare.workdir import FederationState, Workdir, claimed
from tiny_federation import federation_of, training_job, write_hospital

NAMES = ("north", "east")


def project_of(port: int, storage: str) -> dict:
    """Give the shipped project with this test's parties, on this machine alone."""
    project = yaml.safe_load(shared("provision", "project.yml").read_text())
    server = {"name": "localhost", "type": "server", "org": "coordination"}
    persons = [participant for participant in project["participants"] if participant["type"] == "admin"]
    project["name"] = "poc_tests"
    project["participants"] = [
        {**server, "fed_learn_port": port, "admin_port": port},
        *({"name": name, "type": "client", "org": name} for name in NAMES),
        *persons,
    ]
    for builder in project["builders"]:
        if builder["path"].startswith("fedward_flare."):
            builder["args"] = {"loopback": True, "storage": storage}
    return project


def provisioned(workdir: Workdir, port: int) -> None:
    plan, root = workdir.root / "plan", workdir.root
    (root / "project.yml").write_text(yaml.safe_dump(project_of(port, str(root / "server"))))
    render(root / "project.yml", plan)
    state = workdir.state()
    enrol(plan, root, ("localhost", *NAMES, state.coordinator, state.operator), kits="kits")
    (workdir.kit("localhost")).rename(workdir.kit("server"))


def status_of_a_job_in_hocon(session: Session, workdir: Workdir, folder: Path) -> str:
    """Submit an honest job beside whose configuration for the server lies another that reads its environment."""
    prepared = prepare(training_job(minimum=2, rounds=1, steps=1), workdir)
    config = export(prepared, folder) / SERVER_APP / "config"
    (config / "config_fed_server.conf").write_text((config / "config_fed_server.json").read_text() + "\nx = ${HOME}\n")
    session.submit_folder(folder)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        (status,) = [job.status for job in session.jobs() if job.id == prepared.document.id]
        if status.startswith("FINISHED"):
            return status
        time.sleep(0.3)
    return "not finished"


def desk_of(workdir: Workdir, root: Path) -> Workdir:
    """Make the coordinator's folder as on a machine of its own: with the kit, and nothing else."""
    desk = make_desk(workdir.root / "project.yml", root)
    coordinator = desk.state().coordinator
    shutil.copytree(workdir.kit(coordinator), desk.kit(coordinator))
    return desk


def officer_of(workdir: Workdir, desk: Workdir, folder: Path) -> Path:
    """Make the release officer's folder: the release key, and whom the officer trusts."""
    authority = workdir.root / "ca"
    root_key, certificate = read_private_key(authority / "rootCA.key"), read_certificate(authority / "rootCA.pem")
    key, release = make_release_identity(desk.state().project, root_key, certificate)  # type: ignore[arg-type]
    write_bytes(folder / "release.key", key)
    write_bytes(folder / "release.crt", release)
    shutil.copyfile(authority / "rootCA.pem", folder / "rootCA.pem")
    shutil.copyfile(desk.kit(desk.state().coordinator) / "startup" / "client.crt", folder / "coordinator.crt")
    return folder


def typed(*words: str) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, done.output
    return done.stdout


def release_from(desk: Workdir, officer: Path, folder: Path) -> JobRecord:
    """Train and sign a release with the commands of coordinator and officer alone; give the training's record."""
    folder.mkdir()
    job = training_job(minimum=2, rounds=1, steps=1).model_dump(mode="json", exclude_none=True)
    (folder / "job.toml").write_text(tomlkit.dumps(job))
    submitted = typed("job", "submit", str(folder / "job.toml"), "--workdir", str(desk.root), "--watch")
    job_id = submitted.split()[0]
    assert job_id in typed("job", "list", "--workdir", str(desk.root), "--json")
    proposal = folder / "proposal"
    typed("model", "propose", job_id, "--out", str(proposal), "--workdir", str(desk.root))
    typed("model", "sign", str(proposal), "--officer", str(officer))
    signed = officer / "releases" / f"{job['name']}-1"
    released = Path("".join(typed("model", "adopt", str(signed), "--workdir", str(desk.root)).split()))
    assert released == desk.releases / signed.name
    assert "its three files agree" in typed("model", "verify", str(released))
    record = read_record(desk.job(job_id))
    assert record is not None
    return record


@pytest.mark.federation
def test_parties_that_enrolled_themselves_train_together(tmp_path: Path) -> None:
    settings = federation_of(tmp_path, NAMES)
    with claimed(tmp_path / "work") as workdir:
        state = FederationState(
            project=settings.federation.project,
            coordinator=settings.federation.coordinator,
            operator=settings.federation.operator,
            hospitals=NAMES,
            port=poc.choose_port(None),
            mark=f"enrolled-{os.getpid()}-{time.monotonic_ns()}",
        )
        workdir.write_state(state)
        provisioned(workdir, state.port)
        for name in NAMES:
            write_hospital(workdir.hospital(name), name)
        render_hospitals(settings, workdir)
        try:
            started = start_all(settings, workdir, mark=state.mark, extra={})
            workdir.write_state(state.model_copy(update={"processes": started}))
            with connect(workdir, timeout_s=60.0) as session:
                deadline = time.monotonic() + 60
                while set(session.connected_sites()) != set(NAMES) and time.monotonic() < deadline:
                    time.sleep(0.2)
                listeners = {
                    connection.laddr.ip
                    for process in started
                    for connection in psutil.Process(process.pid).net_connections(kind="inet")
                    if connection.status == psutil.CONN_LISTEN
                }
                assert listeners == {"127.0.0.1"}
                desk = desk_of(workdir, tmp_path / "desk")
                record = release_from(desk, officer_of(workdir, desk, tmp_path / "officer"), tmp_path / "submitted")
                assert (record.status, set(record.rounds[0].weights)) == ("completed", set(NAMES))
                assert "FAILED_TO_RUN" in status_of_a_job_in_hocon(session, workdir, tmp_path / "job")
            with connect(workdir, as_operator=True, timeout_s=20.0) as operator:
                operator.shut_down()
            processes.wait_until_ended(state.mark, timeout_s=40)
            assert processes.running(state.mark) == [], "the operator's certificate has the right"
        finally:
            poc.down(workdir)
    assert processes.running(state.mark) == []
