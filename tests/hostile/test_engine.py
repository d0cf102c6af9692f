"""A malicious server at the engine's doors: the shell, the other topics, and what it may unpack at a site."""

from __future__ import annotations

import io
import json
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nvflare.lighter.utils import load_private_key_file, sign_folders
from nvflare.private import defs
from nvflare.private.defs import RequestHeader, SysCommandTopic, TrainingTopic

from fedward.identity import canonical
from fedward.identity.document import SignedJob
from fedward.identity.signing import load_private_key, sign
from fedward_flare import locks
from fedward_flare.job_config import SITE_CONFIG
from fedward_flare.jobs import SITE_APP, export, prepare
from fedward_flare.signed import decode_signed_job, encode_signed_job
from malicious_server import Order, give
from tiny_federation import training_job
from trust_cases import inference_job

pytestmark = pytest.mark.federation

#: What the server may say of who asks: everybody's rights, or nobody's.
CLAIMS: dict[str, dict[str, str]] = {
    "no header": {},
    "no authorisation": {RequestHeader.REQUIRE_AUTHZ: "false"},
    "the operator": {
        RequestHeader.REQUIRE_AUTHZ: "true",
        RequestHeader.ADMIN_COMMAND: "list_jobs",
        RequestHeader.USER_NAME: "operator@fedward.example",
        RequestHeader.USER_ROLE: "org_admin",
    },
}
CONFIG = f"config/{SITE_CONFIG}"

#: Every topic that the engine has a name for, whether or not its client answers it.
ENGINE_TOPICS = {
    topic
    for name, holder in vars(defs).items()
    if name.endswith("Topic") and isinstance(holder, type)
    for key, topic in vars(holder).items()
    if not key.startswith("_")
}


def test_the_engines_topics_are_all_there() -> None:
    assert locks.TOPICS < ENGINE_TOPICS
    assert {SysCommandTopic.SHELL, TrainingTopic.RESTART, "comp_caller.call", "control.do_command"} < ENGINE_TOPICS


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("command", ["cat", "head", "tail", "ls", "grep PRIVATE"])
def test_the_shell_reads_no_key(command: str, claim: str, hostile: Any) -> None:
    key = hostile.workdir.kit("north") / "startup" / "client.key"
    for path in (key, "startup/client.key", hostile.workdir.site_file("north")):
        order = Order("north", SysCommandTopic.SHELL, f"{command} {path}", CLAIMS[claim])
        assert give(hostile.orders, order)[1] == "topic_not_allowed"
    assert hostile.has_noted("topic_not_allowed", what=SysCommandTopic.SHELL)


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("topic", [*sorted(ENGINE_TOPICS - locks.TOPICS), "no.such.topic"])
def test_every_other_topic_is_refused_whoever_is_said_to_ask(topic: str, claim: str, hostile: Any) -> None:
    assert give(hostile.orders, Order("north", topic, "DEBUG", CLAIMS[claim]))[1] == "topic_not_allowed"
    assert hostile.has_noted("topic_not_allowed", what=topic)


@pytest.mark.parametrize("topic", sorted(locks.TOPICS))
def test_no_topic_at_all_is_answered_to_nobody(topic: str, hostile: Any) -> None:
    """Not even those that a federation needs: each wants a person with the right, or a job that was let in."""
    codes = {give(hostile.orders, Order("north", topic, b"", CLAIMS[claim]))[1] for claim in list(CLAIMS)[:2]}
    if topic == TrainingTopic.CANCEL_RESOURCE:
        assert "topic_not_allowed" not in codes, "it frees what was reserved for a job that will not come, and no more"
        return
    assert len(codes) == 1
    assert hostile.has_noted(codes.pop(), what=topic)


@pytest.mark.parametrize("topic", ["config_vars", "process_info", "comm_config", "conns", "change_root", "stop_cell"])
def test_the_network_layer_tells_nothing_and_leads_nowhere(topic: str, hostile: Any) -> None:
    order = Order("north", topic, "tcp://127.0.0.1:9", channel="_net_manager")
    headers, body = give(hostile.orders, order)
    assert "unauthenticated" in headers
    assert body == "None"
    assert hostile.has_noted("topic_not_allowed", what=f"network.{topic}")
    assert hostile.session.connected_sites() == ("east", "north")


@pytest.mark.parametrize("topic", [TrainingTopic.SHUTDOWN, TrainingTopic.DEPLOY, TrainingTopic.CHECK_RESOURCE])
def test_what_needs_a_person_is_refused_without_one(topic: str, hostile: Any) -> None:
    for claim in ({}, {RequestHeader.REQUIRE_AUTHZ: "false"}, {RequestHeader.USER_ROLE: "member"}):
        assert give(hostile.orders, Order("north", topic, b"", claim))[1] == "not_authorised"
    assert hostile.has_noted("not_authorised", what=topic)


@pytest.mark.parametrize("topic", [TrainingTopic.START_JOB, TrainingTopic.DELETE_RUN, TrainingTopic.ABORT])
def test_a_job_that_the_site_did_not_let_in_is_neither_started_nor_deleted(topic: str, hostile: Any) -> None:
    state = hostile.workdir.hospital("north")
    before = sorted(path for path in state.rglob("*") if path.suffix != ".db-wal")
    for job_id in (str(uuid.uuid4()), "../../../../hospitals/north", str(state)):
        assert give(hostile.orders, Order("north", topic, "", {RequestHeader.JOB_ID: job_id}))[1] == "unknown_job"
    assert sorted(path for path in state.rglob("*") if path.suffix != ".db-wal") == before
    assert hostile.has_noted("unknown_job", what=topic)


@pytest.fixture
def application(hostile: Any, tmp_path: Path) -> Path:
    return export(prepare(training_job(minimum=2), hostile.workdir), tmp_path / "job") / SITE_APP


def deploy(hostile: Any, folder: Path, *, signer: str | None, change: Callable[[zipfile.ZipFile], None]) -> str:
    """Have the server bring ``folder`` to a site as an application, signed in NVFLARE's way."""
    if signer is not None:
        startup = hostile.workdir.kit(signer) / "startup"
        name = "server" if signer == "server" else "client"
        sign_folders(str(folder), load_private_key_file(startup / f"{name}.key"), startup / f"{name}.crt")
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder).as_posix())
        change(archive)
    headers = {
        RequestHeader.JOB_ID: str(uuid.uuid4()),
        RequestHeader.APP_NAME: "app",
        RequestHeader.JOB_META: {"name": "x", "submitter_name": "x", "submitter_org": "x", "submitter_role": "lead"},
        RequestHeader.USER_ROLE: "lead",
        RequestHeader.USER_NAME: "x",
    }
    return give(hostile.orders, Order("north", TrainingTopic.DEPLOY, content.getvalue(), headers))[1]


def untouched(_: zipfile.ZipFile) -> None:
    return


def test_an_honest_job_is_let_in(application: Path, hostile: Any) -> None:
    answer = deploy(hostile, application, signer=hostile.workdir.state().coordinator, change=untouched)
    assert answer == "ok"


def test_an_unsigned_job_is_refused(application: Path, hostile: Any) -> None:
    assert deploy(hostile, application, signer=None, change=untouched) == "unsigned_job"
    assert hostile.has_noted("unsigned_job", what=TrainingTopic.DEPLOY)


def write(name: str, content: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)

    return change


def replace(old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = (folder / CONFIG).read_text()
        assert old in text
        (folder / CONFIG).write_text(text.replace(old, new))

    return change


def set_argument(folder: Path, text: str) -> None:
    config = json.loads((folder / CONFIG).read_text())
    config["executors"][0]["executor"]["args"]["signed_job"] = text
    (folder / CONFIG).write_text(json.dumps(config))


FOLDERS = {
    "an extra file": (write("notes.txt", ""), "unexpected_file"),
    "a custom folder": (write("custom/evil.py", "import os"), "custom_code"),
    "hocon with a variable": (write("config/config_fed_client.conf", "x = ${HOME}"), "not_plain_json"),
    "yaml": (write("config/config_fed_client.yml", "x: ${oc.env:HOME}"), "not_plain_json"),
    "an include": (write(CONFIG, 'include file("/etc/passwd")'), "not_plain_json"),
    "a large file": (write(CONFIG, " " * 300_000), "file_too_large"),
    "an unlisted class": (replace("executors.TrainExecutor", "executors.PublishExecutorX"), "class_not_allowed"),
    "an imported class": (replace("executors.TrainExecutor", "poc.Popen"), "class_not_allowed"),
    "an argument with a path": (
        replace('"args": {', '"args": {"site_file": "/etc/passwd",'),
        "unexpected_configuration",
    ),
    "another kind's executor": (replace("TrainExecutor", "InferenceExecutor"), "unexpected_configuration"),
    "an argument with a url": (
        replace('"args": {', '"args": {"model": "https://example.org/model.safetensors",'),
        "unexpected_configuration",
    ),
    "a component of the stock": (
        replace('"components": []', '"components": [{"id": "x", "path": "nvflare.app_common.widgets.convert_to_fed"}]'),
        "unexpected_configuration",
    ),
    "a prefix of a class": (replace("fedward_flare.executors.TrainExecutor", "fedward_flare."), "class_not_allowed"),
    "the shell's class": (replace("fedward_flare.executors.TrainExecutor", "subprocess.Popen"), "class_not_allowed"),
    "a variable for a job": (
        lambda folder: set_argument(folder, "{HOME}"),
        "unexpected_configuration",
    ),
    "hocon inside the json": (write(CONFIG, '{"format_version": 2, "a": ${HOME}}'), "not_plain_json"),
    "an include inside the json": (write(CONFIG, '{include url("file:///etc/passwd")}'), "not_plain_json"),
    "toml": (write("config/config_fed_client.toml", "a = 1"), "not_plain_json"),
    "code beside": (write("config/evil.py", "import os"), "not_plain_json"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_job_with_anything_else_in_it_is_refused_by_its_code(name: str, application: Path, hostile: Any) -> None:
    change, code = FOLDERS[name]
    change(application)
    assert deploy(hostile, application, signer=hostile.workdir.state().coordinator, change=untouched) == code
    assert hostile.has_noted(code, what=TrainingTopic.DEPLOY)


#: What a coordinator might add to the document of an inference job, so that it brings a model of its own.
BROUGHT: dict[str, dict[str, Any]] = {
    "a model's name": {"job": {"model": "nodule-7"}},
    "a model's bytes": {"job": {"weights": "AAAA"}},
    "a path": {"job": {"path": "/tmp/model.safetensors"}},
    "a network": {"job": {"network": {"name": "unet3d", "channels": [4, 8]}}},
    "a release": {"release": {"model": "a" * 64, "passport": "b" * 64, "signature": "c" * 64}},
    "patients": {"job": {"patients": ["1"]}},
}


@pytest.mark.parametrize("name", BROUGHT)
def test_an_inference_job_that_brings_its_own_model_is_refused(name: str, hostile: Any, tmp_path: Path) -> None:
    """Signed by the very coordinator whom the hospital lists: there is no field for it."""
    folder = export(prepare(inference_job(), hostile.workdir), tmp_path / "job") / SITE_APP
    coordinator = hostile.workdir.state().coordinator
    signed = decode_signed_job(
        json.loads((folder / CONFIG).read_text())["executors"][0]["executor"]["args"]["signed_job"]
    )
    document = canonical.decode(signed.document)
    for key, value in BROUGHT[name].items():
        document[key] = {**document[key], **value} if document[key] else value
    content = canonical.encode(document)
    signature = sign(load_private_key(hostile.key_of(coordinator)), purpose="job", content=content)
    set_argument(folder, encode_signed_job(SignedJob(content, signature, signed.certificate)))
    assert deploy(hostile, folder, signer=coordinator, change=untouched) == "unexpected_configuration"
    assert hostile.has_noted("unexpected_configuration", what=TrainingTopic.DEPLOY)


def test_a_link_is_refused(application: Path, hostile: Any) -> None:
    def add_link(archive: zipfile.ZipFile) -> None:
        entry = zipfile.ZipInfo("config/link")
        entry.external_attr = 0o120777 << 16
        archive.writestr(entry, "/etc/passwd")

    coordinator = hostile.workdir.state().coordinator
    assert deploy(hostile, application, signer=coordinator, change=add_link) == "unexpected_file"

    def make_links(archive: zipfile.ZipFile) -> None:
        for entry in archive.infolist():
            if entry.filename == CONFIG:
                entry.external_attr = 0o120777 << 16

    assert deploy(hostile, application, signer=coordinator, change=make_links) == "linked_file"
    assert hostile.has_noted("linked_file", what=TrainingTopic.DEPLOY)


def test_files_that_were_swapped_after_they_were_signed_are_refused(
    application: Path, hostile: Any, tmp_path: Path
) -> None:
    coordinator = hostile.workdir.state().coordinator
    startup = hostile.workdir.kit(coordinator) / "startup"
    sign_folders(str(application), load_private_key_file(startup / "client.key"), startup / "client.crt")
    other = export(prepare(training_job(minimum=2), hostile.workdir), tmp_path / "other") / SITE_APP
    (application / CONFIG).write_bytes((other / CONFIG).read_bytes())
    assert deploy(hostile, application, signer=None, change=untouched) == "bad_signature"
    assert hostile.has_noted("bad_signature", what=TrainingTopic.DEPLOY)


def test_the_site_has_written_no_more_than_the_jobs_it_let_in(hostile: Any) -> None:
    assert not [path for path in hostile.workdir.kit("north").rglob("*") if path.name in ("evil.py", "notes.txt")]
