"""Every party makes its own key: what is rendered, and the way of requests and certificates."""

from __future__ import annotations

import json
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from typer.testing import CliRunner

from enrolled_federation import enrol, nvflare, root_fingerprint
from fedward.errors import FederationError, IdentityError
from fedward.identity.certificates import check_chain, common_name, fingerprint_of_file, organisation, read_certificate
from fedward.identity.inspection import inspect
from fedward.identity.release_identity import release_subject
from fedward.identity.trusted import roster_of
from fedward.settings.site import read_site_settings, require_identity
from fedward_flare.cli import app
from fedward_flare.enrolment import read_plan, render, roster_lines
from fedward_flare.services import require_locks
from fedward_flare.share import shared

PROJECT = "fedward_example"
COORDINATOR = "coordinator@fedward.example"
SERVER, OPERATOR = "server.fedward.example", "operator@fedward.example"
PARTIES = ("north", SERVER, COORDINATOR)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority and a party of each kind, enrolled with NVFLARE's own commands."""
    work = tmp_path_factory.mktemp("enrolment")
    render(shared("provision", "project.yml"), work / "plan")
    enrol(work / "plan", work, PARTIES)
    return work


def kit(work: Path, name: str) -> Path:
    return work / "kit" / PROJECT / "prod_00" / name


def test_everything_comes_from_one_project_file_and_no_key_is_in_it(tmp_path: Path) -> None:
    files = {
        str(path.relative_to(tmp_path / "plan"))
        for path in render(shared("provision", "project.yml"), tmp_path / "plan")
    }
    names = (SERVER, "north", "east", "south", COORDINATOR, OPERATOR)
    sites = {f"sites/{name}.toml" for name in ("north", "east", "south")}
    assert files == {"STEPS.md", "authority/profile.yml", *(f"requests/{name}.yml" for name in names), *sites}
    assert not [path for path in (tmp_path / "plan").rglob("*") if path.is_file() and "PRIVATE KEY" in path.read_text()]


def test_the_steps_name_what_this_federation_is_called_and_what_to_keep(tmp_path: Path) -> None:
    render(shared("provision", "project.yml"), tmp_path / "plan")
    text = (tmp_path / "plan" / "STEPS.md").read_text()
    assert "@PROJECT@" not in text
    assert PROJECT in text
    assert COORDINATOR in text
    for kept in ("rootCA.key", "client.key", "release.key", "server.key", "state/"):
        assert kept in text.split("## What to keep where")[1]


def test_a_rendered_site_file_is_read_and_says_what_is_missing(tmp_path: Path) -> None:
    render(shared("provision", "project.yml"), tmp_path / "plan")
    path = tmp_path / "plan" / "sites" / "north.toml"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    site = read_site_settings(path)
    identity = require_identity(site)
    assert (site.name, site.organisation, identity.project) == ("north", "north_hospital", PROJECT)
    assert [peer.name for peer in identity.hospitals] == ["north", "east", "south"]
    found = {finding.code for finding in inspect(site, now=datetime.now(UTC))}
    assert {"no_coordinator", "no_fingerprint"} <= found


def test_the_key_of_a_hospital_is_in_its_own_request_folder_and_kit_and_nowhere_else(work: Path) -> None:
    key = (work / "requests" / "north" / "north.key").read_bytes()
    holders = {path for path in work.rglob("*") if path.is_file() and key.strip() in path.read_bytes()}
    assert holders == {work / "requests" / "north" / "north.key", kit(work, "north") / "startup" / "client.key"}
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in holders)


def test_an_enrolled_kit_has_the_locks_and_the_limits_of_a_central_one(work: Path) -> None:
    require_locks(kit(work, "north"))
    resources = json.loads((kit(work, "north") / "local" / "resources.json.default").read_text())
    policy = json.loads((kit(work, "north") / "local" / "authorization.json.default").read_text())
    assert all(name.startswith("fedward_flare.executors.") for name in resources["class_allow_list"])
    assert resources["class_list_enforcement_mode"] == "enforce"
    assert resources["allow_log_streaming"] is False
    assert policy == json.loads(shared("provision", "authorization.json").read_text())
    assert not list(kit(work, COORDINATOR).rglob("release.*")), "the release key is the officer's own"


def test_an_enrolled_server_has_the_limits_of_a_central_one_and_no_release_key(work: Path) -> None:
    resources = json.loads((kit(work, SERVER) / "local" / "resources.json.default").read_text())
    assert all(name.endswith("Controller") for name in resources["class_allow_list"])
    assert resources["app_validator"]["path"] == "fedward_flare.server_folder.ServerJobValidator"
    policy = json.loads((kit(work, SERVER) / "local" / "authorization.json.default").read_text())
    assert policy == json.loads(shared("provision", "authorization.json").read_text())
    assert not list(kit(work, SERVER).rglob("release.*"))


def test_an_enrolled_hospital_is_accepted_by_its_fingerprint_and_by_nothing_else(work: Path) -> None:
    certificate = kit(work, "north") / "startup" / "client.crt"
    text = roster_lines([certificate])
    site = work / "site.toml"
    identity = f'[identity]\nproject = "{PROJECT}"\nroot_certificate = "ca/rootCA.pem"\n'
    roster = text.replace("[[identity.hospitals]]", identity + "[[identity.hospitals]]", 1)
    site.write_text(
        f'name = "north"\norganisation = "north_hospital"\ndata = [{{ kind = "dicom", path = "x" }}]\n{roster}'
    )
    found = roster_of(require_identity(read_site_settings(site)))
    accepted = found.accept(certificate.read_bytes(), name="north", role="hospital", now=datetime.now(UTC))
    assert (accepted.name, accepted.organisation) == ("north", "north_hospital")
    other = kit(work, COORDINATOR) / "startup" / "client.crt"
    with pytest.raises(IdentityError, match="wrong_role"):
        found.accept(other.read_bytes(), name=COORDINATOR, role="hospital", now=datetime.now(UTC))


def test_a_certificate_of_a_request_says_who_it_is_and_ends(work: Path) -> None:
    certificate = read_certificate(kit(work, "north") / "startup" / "client.crt")
    check_chain(certificate, read_certificate(work / "ca" / "rootCA.pem"), now=datetime.now(UTC))
    assert (common_name(certificate), organisation(certificate)) == ("north", "north_hospital")
    assert 358 <= (certificate.not_valid_after_utc - datetime.now(UTC)).days <= 360


def test_a_kit_is_not_packaged_under_another_root_than_the_one_that_was_told(work: Path) -> None:
    signed, requests = work / "signed" / "north.signed.zip", work / "requests" / "north"
    words = ["package", str(signed), "--request-dir", str(requests), "-w", str(work / "other")]
    done = nvflare(work, *words, "--fingerprint", ":".join(["AB"] * 32), check=False)
    assert done.returncode != 0
    assert not (work / "other").exists()
    assert root_fingerprint(work)


def run(*words: str) -> str:
    result = CliRunner().invoke(app, ["provision", *words])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_release_officers_key_is_made_apart_and_never_leaves(work: Path, tmp_path: Path) -> None:
    run("release-request", "--project", PROJECT, "--out", str(tmp_path / "officer"))
    words = ["--project", PROJECT, "--ca", str(work / "ca"), "--out", str(tmp_path / "release.crt")]
    run("release-approve", str(tmp_path / "officer" / "release.csr"), *words)
    certificate = read_certificate(tmp_path / "release.crt")
    check_chain(certificate, read_certificate(work / "ca" / "rootCA.pem"), now=datetime.now(UTC))
    assert common_name(certificate) == release_subject(PROJECT)
    key = serialization.load_pem_private_key((tmp_path / "officer" / "release.key").read_bytes(), password=None)
    assert key.public_key() == certificate.public_key()
    assert stat.S_IMODE((tmp_path / "officer" / "release.key").stat().st_mode) == 0o600
    again = CliRunner().invoke(
        app, ["provision", "release-request", "--project", PROJECT, "--out", str(tmp_path / "officer")]
    )
    assert again.exit_code == 1, "a key that is there is not replaced"


def test_the_authority_signs_no_request_of_another_project_as_a_release_key(work: Path, tmp_path: Path) -> None:
    run("release-request", "--project", "another", "--out", str(tmp_path))
    words = ["--project", PROJECT, "--ca", str(work / "ca"), "--out", str(tmp_path / "release.crt")]
    result = CliRunner().invoke(app, ["provision", "release-approve", str(tmp_path / "release.csr"), *words])
    assert result.exit_code == 1
    assert "wrong_name" in result.output
    assert not (tmp_path / "release.crt").exists()


def test_an_authority_without_its_root_key_is_told_so(tmp_path: Path) -> None:
    run("release-request", "--project", PROJECT, "--out", str(tmp_path))
    words = ["--project", PROJECT, "--ca", str(tmp_path), "--out", str(tmp_path / "release.crt")]
    result = CliRunner().invoke(app, ["provision", "release-approve", str(tmp_path / "release.csr"), *words])
    assert result.exit_code == 1
    assert "unreadable_key" in result.output
    assert "rootCA.key" in result.output


@pytest.mark.parametrize("project", ["", "../x", "two words", 57 * "x"])
def test_no_release_key_is_made_for_what_cannot_be_a_project(project: str, tmp_path: Path) -> None:
    words = ["--project", project, "--out", str(tmp_path / "officer")]
    result = CliRunner().invoke(app, ["provision", "release-request", *words])
    assert result.exit_code == 1
    assert "wrong_name" in result.output
    assert not (tmp_path / "officer").exists()


def test_of_several_files_the_one_that_is_no_certificate_is_named(work: Path, tmp_path: Path) -> None:
    (tmp_path / "east.crt").write_text("not a certificate")
    certificates = [kit(work, "north") / "startup" / "client.crt", tmp_path / "east.crt"]
    with pytest.raises(IdentityError, match="untrusted_certificate") as caught:
        roster_lines(certificates)
    assert "east.crt" in caught.value.detail


def test_the_command_prints_a_roster_that_a_site_file_can_hold(work: Path) -> None:
    certificate = kit(work, "north") / "startup" / "client.crt"
    printed = run("roster", str(certificate))
    assert fingerprint_of_file(certificate) in printed
    assert printed.count("[[identity.hospitals]]") == 1


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("name: x\nparticipants: []\n", "one server"),
        ("name: x\n", "participants: expected a list, found nothing"),
        ("participants: []\n", "name: expected "),
        ("name: ../x\nparticipants: []\n", "found '../x'"),
        ("name: x\nparticipants: [c]\n", "participant 1: expected a table, found 'c'"),
        ("name: x\nparticipants: [{type: client, org: o}]\n", "name of participant 1: expected "),
        (
            "name: x\nparticipants: [{name: c, org: o}]\n",
            "type of c: expected one of server, client, admin, found noth",
        ),
        ("name: x\nparticipants: [{name: c, type: clent, org: o}]\n", "type of c: expected one of server, client, adm"),
        ("name: x\nparticipants: [{name: c, type: [client], org: o}]\n", "type of c: expected one of"),
        ("name: x\nparticipants: [{name: s, type: server}]\n", "org of s: expected [A-Za-z0-9_]{1,64}, found nothing"),
        (
            "name: x\nparticipants: [{name: c, type: client, org: the clinic}]\n",
            "org of c: expected [A-Za-z0-9_]{1,64}, f",
        ),
        ("name: x\nparticipants: [{name: North, type: client, org: o}]\n", "name of North: expected [a-z0-9_-]{1,64}"),
        ("name: x\nparticipants: [{name: server, type: client, org: o}]\n", "name of server: expected"),
        *(
            (f"name: x\nparticipants: [{{name: {name}, type: server, org: o}}]\n", f"name of {name}: expected a host's")
            for name in ("a..b", "a.", "-a", "a@b", 64 * "a", 33 * "a" + "." + 31 * "b")
        ),
        *(
            (
                f"name: x\nparticipants: [{{name: s, type: server, org: o, {field}: {port}}}]\n",
                f"{field} of s: expected a whole number from 1 to 65535, found",
            )
            for field in ("fed_learn_port", "admin_port")
            for port in ("web", "0", "-1", "65536", "true", "8002.0", "null")
        ),
        (
            "name: x\nparticipants:\n- {name: c, type: client, org: o}\n- {name: c, type: client, org: p}\n",
            "two participants are named c",
        ),
        ("- a\n", "project file: expected a table, found ['a']"),
        ("name: [\n", "project.yml"),
        (
            "name: x\nparticipants:\n- {name: s, type: server, org: o}\n- {name: ../c, type: client, org: o}\n",
            "name of ../c: expected",
        ),
        (
            "name: x\nparticipants:\n- {name: s, type: server, org: o}\n- {name: c, type: client, org: o}\n",
            "nobody signs jobs",
        ),
    ],
)
def test_a_project_file_that_cannot_make_a_federation_is_refused(text: str, word: str, tmp_path: Path) -> None:
    (tmp_path / "project.yml").write_text(text)
    with pytest.raises(FederationError, match="provision_failed") as caught:
        read_plan(tmp_path / "project.yml")
    assert word in caught.value.detail


OURS = "fedward_flare.provisioning.FedwardBuilder"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (OURS, "another.Builder", (OURS, "0 times")),
        ("nvflare.lighter.impl.cert.CertBuilder", OURS, (OURS, "2 times")),
        ("/var/lib/fedward-server ", "server ", ("args.storage", "'server'")),
        ("/var/lib/fedward-server ", "[/var] ", ("args.storage", "['/var']")),
        ("path: nvflare.lighter.impl.cert.CertBuilder", "module: x", ("expected a path", "'x'")),
    ],
)
def test_a_project_file_whose_kits_could_not_start_is_refused_by_the_field(
    old: str, new: str, words: tuple[str, ...], tmp_path: Path
) -> None:
    text = shared("provision", "project.yml").read_text()
    assert old in text
    (tmp_path / "project.yml").write_text(text.replace(old, new))
    out = tmp_path / "out"
    command = ["provision", "render", "--project-file", str(tmp_path / "project.yml"), "--out", str(out)]
    result = CliRunner().invoke(app, command)
    assert (result.exit_code, out.exists()) == (1, False)
    assert [word for word in ("provision_failed", "builders", *words) if word not in result.output] == []


def test_render_needs_a_new_folder(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["provision", "render", "--out", str(tmp_path)])
    assert result.exit_code == 1
    assert list(tmp_path.iterdir()) == []
