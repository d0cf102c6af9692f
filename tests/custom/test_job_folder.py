"""Which folders a site takes as a job: what our coordinator writes passes, every difference is refused by its code."""

from __future__ import annotations

import importlib
import io
import os
import pkgutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from nvflare.apis.fl_exception import UnsafeComponentError
from nvflare.app_common.widgets.component_path_authorizer import ComponentPathAuthorizer

import fedward
import fedward_flare
from fedward.errors import JobRefused
from fedward.settings.job import TrainingJob
from fedward_flare.job_config import SERVER_CLASSES, SITE_CLASSES, SITE_CONFIG
from fedward_flare.job_folder import SiteJobValidator, check_archive, check_folder
from fedward_flare.jobs import SITE_APP, export, prepare
from fedward_flare.workdir import Workdir
from job_folders import SIGNATURES, Change, add, edit, link_elsewhere, sign

CONFIG = f"config/{SITE_CONFIG}"


@pytest.fixture
def application(job: TrainingJob, workdir: Workdir, tmp_path: Path) -> Path:
    return sign(export(prepare(job, workdir), tmp_path / "job") / SITE_APP)


def archive_of(folder: Path) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder).as_posix())
    return content.getvalue()


def test_what_our_coordinator_writes_is_taken(application: Path) -> None:
    check_folder(application)
    check_archive(archive_of(application))
    assert SiteJobValidator().validate(str(application)) == ("", {})


def configure(key: str, value: object) -> Change:
    return edit(CONFIG, lambda config: config.update({key: value}))


def in_executor(key: str, value: object) -> Change:
    return edit(CONFIG, lambda config: config["executors"][0]["executor"].update({key: value}))


def argue(name: str, value: object) -> Change:
    return edit(CONFIG, lambda config: config["executors"][0]["executor"]["args"].update({name: value}))


CHANGES = {
    "an extra file": (add("notes.txt"), "unexpected_file"),
    "a folder": (add("data/x.json"), "unexpected_file"),
    "code": (add("custom/evil.py"), "custom_code"),
    "hocon beside": (add("config/config_fed_client.conf", "a = ${HOME}"), "not_plain_json"),
    "yaml beside": (add("config/config_fed_client.yml", "a: 1"), "not_plain_json"),
    "hocon inside": (add(CONFIG, 'include file("/etc/passwd")'), "not_plain_json"),
    "a variable inside": (add(CONFIG, "{a: ${HOME}}"), "not_plain_json"),
    "a number that is none": (add(CONFIG, '{"a": NaN}'), "not_plain_json"),
    "a key twice": (add(CONFIG, '{"executors": [], "executors": []}'), "not_plain_json"),
    "a large file": (add(CONFIG, " " * (256 * 1024 + 1)), "file_too_large"),
    "no signature": (lambda folder: (folder / SIGNATURES[0]).unlink(), "unsigned_job"),
    "no configuration": (lambda folder: (folder / CONFIG).unlink(), "unexpected_configuration"),
    "an extra key": (configure("handlers", []), "unexpected_configuration"),
    "a component": (configure("components", [{"id": "x", "path": "os.system"}]), "unexpected_configuration"),
    "a filter": (configure("task_data_filters", []), "unexpected_configuration"),
    "a slow beat": (configure("default_task_fetch_interval", 0.0), "unexpected_configuration"),
    "no executor": (configure("executors", []), "unexpected_configuration"),
    "an unlisted class": (in_executor("path", "nvflare.app_common.np.np_trainer.NPTrainer"), "class_not_allowed"),
    "an imported class": (in_executor("path", "fedward_flare.executors.Hospital"), "class_not_allowed"),
    "another kind": (in_executor("path", "fedward_flare.executors.InferenceExecutor"), "unexpected_configuration"),
    "an argument with a path": (argue("site_file", "/etc/passwd"), "unexpected_configuration"),
    "a path for a job": (argue("signed_job", "/etc/passwd"), "unexpected_configuration"),
    "a variable for a job": (argue("signed_job", "{HOME}"), "unexpected_configuration"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_difference_is_refused_by_its_code(name: str, application: Path) -> None:
    change, code = CHANGES[name]
    change(application)
    with pytest.raises(JobRefused, match=f"^{code}$"):
        check_folder(application)
    with pytest.raises(JobRefused, match=f"^{code}$"):
        check_archive(archive_of(application))
    assert SiteJobValidator().validate(str(application)) == (code, {})


@pytest.mark.parametrize("link", [os.symlink, os.link], ids=["symbolic", "hard"])
def test_a_link_is_refused(link: Callable[[Path, Path], None], application: Path, tmp_path: Path) -> None:
    link_elsewhere(application / CONFIG, tmp_path / "elsewhere", link)
    with pytest.raises(JobRefused, match="linked_file"):
        check_folder(application)


def test_a_link_in_an_archive_is_refused() -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        entry = zipfile.ZipInfo(CONFIG)
        entry.external_attr = 0o120777 << 16
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(JobRefused, match="linked_file"):
        check_archive(content.getvalue())


@pytest.mark.parametrize("name", ["../config/config_fed_client.json", "/etc/passwd", "config/../x"])
def test_a_name_that_leads_out_of_an_archive_is_refused(name: str) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(name, "{}")
    with pytest.raises(JobRefused, match="unexpected_file"):
        check_archive(content.getvalue())


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 none", "text", None])
def test_what_is_no_archive_is_refused(content: object) -> None:
    with pytest.raises(JobRefused, match=r"unexpected_file|file_too_large"):
        check_archive(content)


def test_an_archive_that_unpacks_to_more_is_refused_before_it_is_unpacked(application: Path) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(CONFIG, b" " * 200_000_000)
    assert len(content.getvalue()) < 1024 * 1024
    with pytest.raises(JobRefused, match="file_too_large"):
        check_archive(content.getvalue())


def public_names() -> set[str]:
    names = set()
    for package in (fedward, fedward_flare):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            names |= {f"{module.name}.{name}" for name in dir(importlib.import_module(module.name))}
    return names


@pytest.mark.parametrize(("kit", "listed"), [("server", SERVER_CLASSES), ("north", SITE_CLASSES)])
def test_of_every_name_of_both_packages_exactly_the_listed_ones_pass_the_engines_authoriser(
    kit: str, listed: tuple[str, ...], workdir: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    authoriser = ComponentPathAuthorizer()
    resources = workdir.kit(kit) / "local" / "resources.json.default"
    monkeypatch.setattr(authoriser, "_get_resources_file_path", lambda **_: str(resources))

    def passes(path: str) -> bool:
        try:
            authoriser.authorize_component_config({"path": path})
        except UnsafeComponentError:
            return False
        return True

    names = public_names()
    assert len(names) > 3000
    assert "fedward_flare.executors.Hospital" in names
    assert {name for name in names if passes(name)} == set(listed)
