"""Which folders the server takes as a job: what our coordinator writes passes, every difference is refused."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from nvflare.apis.fl_constant import SiteType
from nvflare.apis.fl_context import FLContext
from nvflare.apis.workspace import Workspace
from nvflare.fuel.utils.zip_utils import zip_directory_to_bytes
from nvflare.lighter.utils import load_private_key_file, sign_folders
from nvflare.private.fed.app.fl_app_validator import FLAppValidator
from nvflare.private.fed.utils.app_authz import AppAuthzService
from nvflare.private.fed.utils.app_deployer import AppDeployer

from fedward.errors import JobRefused
from fedward.settings.job import PublishJob, TrainingJob
from fedward_flare.job_config import SERVER_CONFIG
from fedward_flare.jobs import RELEASE, SERVER_APP, export, prepare
from fedward_flare.server_folder import ServerJobValidator, check_server_folder
from fedward_flare.workdir import Workdir
from job_folders import add, edit, link_elsewhere, sign

CONFIG = f"config/{SERVER_CONFIG}"


@pytest.fixture
def application(job: TrainingJob, workdir: Workdir, tmp_path: Path) -> Path:
    return sign(export(prepare(job, workdir), tmp_path / "job") / SERVER_APP)


def test_what_our_coordinator_writes_is_taken(application: Path) -> None:
    check_server_folder(application)
    assert ServerJobValidator().validate(str(application)) == ("", {})


def test_a_release_and_its_large_model_travel_with_a_publishing_job(workdir: Workdir, tmp_path: Path) -> None:
    release = tmp_path / "release"
    release.mkdir()
    (release / "model.safetensors").write_bytes(bytes(1_000_000))
    for part in ("passport.json", "passport.sig"):
        (release / part).write_bytes(b"{}")
    prepared = prepare(PublishJob(kind="publish", name="publish"), workdir, release=release)
    application = sign(export(prepared, tmp_path / "job") / SERVER_APP)
    assert (application / RELEASE / "model.safetensors").exists()
    check_server_folder(application)


CHANGES = {
    "code": (add("custom/evil.py"), "custom_code"),
    "code beside the configuration": (add("config/evil.py"), "not_plain_json"),
    "hocon beside": (add("config/config_fed_server.conf", "a = ${HOME}"), "not_plain_json"),
    "yaml beside": (add("config/config_fed_server.yml", "a: 1"), "not_plain_json"),
    "hocon inside": (add(CONFIG, 'include file("/etc/passwd")'), "not_plain_json"),
    "another configuration": (add("config/other.json"), "unexpected_file"),
    "a pickle": (add("release/model.pkl"), "unexpected_file"),
    "a deep folder": (add("release/deep/model.json"), "unexpected_file"),
    "a large passport": (add("release/passport.json", " " * ((1 << 20) + 1)), "file_too_large"),
    "a large configuration": (add(CONFIG, " " * (256 * 1024 + 1)), "file_too_large"),
    "no configuration": (lambda folder: (folder / CONFIG).unlink(), "unexpected_configuration"),
    "an extra key": (edit(CONFIG, lambda config: config.update(handlers=[])), "unexpected_configuration"),
    "a component": (
        edit(CONFIG, lambda config: config["components"].append({"path": "os.system"})),
        "unexpected_configuration",
    ),
    "two workflows": (edit(CONFIG, lambda config: config["workflows"].append({})), "unexpected_configuration"),
    "a class of the stock": (
        edit(CONFIG, lambda config: config["workflows"][0].update(path="nvflare.app_common.workflows.fedavg.FedAvg")),
        "class_not_allowed",
    ),
    "an imported class": (
        edit(CONFIG, lambda config: config["workflows"][0].update(path="fedward_flare.controllers.Path")),
        "class_not_allowed",
    ),
    "another kind's controller": (
        edit(
            CONFIG,
            lambda config: config["workflows"][0].update(path="fedward_flare.once_controllers.InferenceController"),
        ),
        "unexpected_configuration",
    ),
    "an argument with a path": (
        edit(CONFIG, lambda config: config["workflows"][0]["args"].update(folder="/etc")),
        "unexpected_configuration",
    ),
    "a variable for a job": (
        edit(CONFIG, lambda config: config["workflows"][0]["args"].update(signed_job="{HOME}")),
        "unexpected_configuration",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_difference_is_refused_by_its_code(name: str, application: Path) -> None:
    change, code = CHANGES[name]
    change(application)
    with pytest.raises(JobRefused, match=f"^{code}$"):
        check_server_folder(application)
    assert ServerJobValidator().validate(str(application)) == (code, {})


@pytest.mark.parametrize("link", [os.symlink, os.link], ids=["symbolic", "hard"])
def test_a_link_is_refused(link: Callable[[Path, Path], None], application: Path, tmp_path: Path) -> None:
    link_elsewhere(application / CONFIG, tmp_path / "elsewhere", link)
    with pytest.raises(JobRefused, match="linked_file"):
        check_server_folder(application)


def deployed(folder: Path, workdir: Workdir, run: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """Have NVFLARE's own deployer take an application with our validator in place, as the server does."""
    startup = workdir.kit(workdir.state().coordinator) / "startup"
    sign_folders(str(folder), load_private_key_file(startup / "client.key"), startup / "client.crt")
    validator = FLAppValidator(site_type=SiteType.SERVER, custom_validators=[ServerJobValidator()])
    monkeypatch.setattr(AppAuthzService, "app_validator", validator)
    shutil.copytree(workdir.kit("server") / "startup", run / "startup")
    (run / "local").mkdir()
    workspace = Workspace(str(run), "server")
    content = zip_directory_to_bytes(str(folder), "")
    meta = {"submitter_name": "x", "submitter_org": "x", "submitter_role": "lead"}
    return AppDeployer().deploy(
        workspace, "da0f5d69-206e-4434-9389-1989d511f230", meta, SERVER_APP, content, FLContext()
    )


def test_the_engines_own_deployer_takes_what_our_coordinator_writes_and_nothing_else(
    job: TrainingJob, workdir: Workdir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = export(prepare(job, workdir), tmp_path / "job") / SERVER_APP
    assert deployed(honest, workdir, tmp_path / "run", monkeypatch) in ("", None)
    foreign = export(prepare(job, workdir), tmp_path / "other") / SERVER_APP
    add("config/config_fed_server.conf", "a = ${HOME}")(foreign)
    assert deployed(foreign, workdir, tmp_path / "again", monkeypatch) == "not_plain_json"
