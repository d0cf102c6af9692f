from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from cryptography import x509
from nvflare.fuel.sec.authz import AuthzContext, Person
from nvflare.lighter.prov_utils import prepare_builders
from nvflare.lighter.provision import prepare_project
from nvflare.lighter.provisioner import Provisioner
from nvflare.lighter.utils import load_yaml
from nvflare.security.security import COMMAND_CATEGORIES, FLAuthorizer

from fedward.identity.certificates import check_issued, common_name, fingerprint_of_file, read_certificate
from fedward.settings.federation import FederationSettings
from fedward.settings.site import read_site_settings, require_identity
from fedward_flare.job_config import COMPONENTS
from fedward_flare.kits import provision
from fedward_flare.quiet import quietly
from fedward_flare.share import shared
from fedward_flare.workdir import Workdir

SITES = ("north", "east", "south")


def resources(workdir: Workdir, name: str) -> dict:
    return json.loads((workdir.kit(name) / "local" / "resources.json.default").read_text())


@pytest.mark.parametrize("name", ["server", *SITES])
def test_a_kit_allows_our_classes_one_by_one_and_nothing_else(workdir: Workdir, name: str) -> None:
    allowed = resources(workdir, name)["class_allow_list"]
    part = "Controller" if name == "server" else "Executor"
    assert len(allowed) == len(set(allowed)) == len(COMPONENTS)
    assert all(entry.startswith("fedward_flare.") and entry.endswith(part) for entry in allowed)
    assert resources(workdir, name)["class_list_enforcement_mode"] == "enforce"


@pytest.mark.parametrize("name", SITES)
def test_a_site_streams_no_log_and_starts_dead_jobs_again(workdir: Workdir, name: str) -> None:
    content = resources(workdir, name)
    components = {component["id"]: component["path"] for component in content["components"]}
    assert content["allow_log_streaming"] is False
    assert components["process_launcher"] == "fedward_flare.launcher.RestartingLauncher"
    assert content["components"][0]["path"] == "fedward_flare.locks.SiteLocks"
    assert "site_log_streamer" not in components


def test_what_a_site_registers_with_holds_nothing_of_the_site(workdir: Workdir) -> None:
    """NVFLARE sends unknown top-level keys to the server: there must be none but its own switch."""
    known = {"format_version", "class_list_enforcement_mode", "class_allow_list", "client", "components"}
    assert set(resources(workdir, "north")) - known == {"allow_log_streaming"}


def test_the_server_keeps_everything_in_the_work_folder_on_loopback(workdir: Workdir) -> None:
    content = resources(workdir, "server")
    storage = content["snapshot_persistor"]["args"]["storage"]["args"]["root_dir"]
    jobs = next(c for c in content["components"] if c["id"] == "job_manager")["args"]["uri_root"]
    assert all(Path(folder).is_relative_to(workdir.root) for folder in (storage, jobs))
    assert content["servers"][0]["heart_beat_timeout"] == 60
    launcher = next(c for c in content["components"] if c["id"] == "process_launcher")
    assert launcher["path"] == "fedward_flare.launcher.ServerLauncher"
    assert content["app_validator"]["path"] == "fedward_flare.server_folder.ServerJobValidator"
    started = json.loads((workdir.kit("server") / "startup" / "fed_server.json").read_text())
    assert started["servers"][0]["service"]["target"] == f"127.0.0.1:{workdir.state().port}"


def policy_of(workdir: Workdir, name: str) -> FLAuthorizer:
    policy = json.loads((workdir.kit(name) / "local" / "authorization.json.default").read_text())
    return FLAuthorizer("north_hospital", policy)


def rights_of(authorizer: FLAuthorizer, role: str) -> set[str]:
    user, other = Person("user", "north_hospital", role), Person("other", "other", "lead")
    names = {*COMMAND_CATEGORIES, "submit_job", "clone_job", "app_command", "byoc", "server-predeployed-flwr"}
    contexts = {name: AuthzContext(user=user, submitter=other, right=name) for name in names}
    return {name for name, context in contexts.items() if authorizer.authorize(context)[0]}


@pytest.mark.parametrize("name", ["server", *SITES])
@pytest.mark.parametrize("role", ["project_admin", "org_admin", "lead", "member"])
def test_nobody_may_bring_code_use_the_shell_or_restart(workdir: Workdir, name: str, role: str) -> None:
    rights = rights_of(policy_of(workdir, name), role)
    shell = {command for command, category in COMMAND_CATEGORIES.items() if category == "shell_commands"}
    forbidden = shell | {"byoc", "clone_job", "restart", "remove_client", "sys_info", "server-predeployed-flwr"}
    assert len(shell) == 6
    assert rights & forbidden == set()


def test_each_person_has_only_the_rights_of_the_office(workdir: Workdir) -> None:
    authorizer = policy_of(workdir, "north")
    coordinator, operator = rights_of(authorizer, "lead"), rights_of(authorizer, "org_admin")
    assert rights_of(authorizer, "project_admin") == rights_of(authorizer, "member") == set()
    assert "submit_job" in coordinator
    assert "shutdown" not in coordinator
    assert "abort_job" not in coordinator, "another coordinator's job"
    assert "shutdown" in operator
    assert {"submit_job", "download_job"} & operator == set()


def test_the_release_key_lies_with_the_coordinator_alone(workdir: Workdir) -> None:
    key = (workdir.coordinator / "release.key").read_bytes()
    holders = [path for path in workdir.kits.rglob("*") if path.is_file() and path.read_bytes() == key]
    kits = {path.relative_to(workdir.kits).parts[2] for path in holders if "prod_00" in path.parts}
    assert kits == {workdir.state().coordinator}
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in [*holders, workdir.coordinator / "release.key"])


def test_the_release_certificate_comes_from_the_root(workdir: Workdir) -> None:
    certificate = read_certificate(workdir.coordinator / "release.crt")
    check_issued(certificate, root_of(workdir))
    assert common_name(certificate) == "release.unit_tests"


def root_of(workdir: Workdir) -> x509.Certificate:
    return read_certificate(workdir.hospital("north") / "root.pem")


def test_a_rendered_site_file_trusts_the_root_and_the_coordinator(workdir: Workdir) -> None:
    site = read_site_settings(workdir.site_file("north"))
    identity = require_identity(site)
    coordinator = workdir.coordinator / "kit" / "startup" / "client.crt"
    assert identity.project == "unit_tests"
    assert identity.coordinators == (fingerprint_of_file(coordinator),)
    check_issued(read_certificate(coordinator), read_certificate(identity.root_certificate))
    assert stat.S_IMODE(workdir.site_file("north").stat().st_mode) == 0o600
    assert site.state == workdir.hospital("north") / "state"


def test_keys_survive_a_second_provisioning(federation: FederationSettings, workdir: Workdir) -> None:
    names = ("server", *SITES, workdir.state().coordinator)
    keys = {name: sorted(p.read_bytes() for p in (workdir.kit(name) / "startup").glob("*.key")) for name in names}
    assert all(keys.values())
    provision(federation, workdir, port=workdir.state().port, builder={})
    for name in names:
        assert sorted(p.read_bytes() for p in (workdir.kit(name) / "startup").glob("*.key")) == keys[name]


def test_the_shipped_project_makes_kits_for_a_real_federation(tmp_path: Path) -> None:
    project = load_yaml(str(shared("provision", "project.yml")))
    with quietly():
        Provisioner(str(tmp_path), prepare_builders(project)).provision(prepare_project(project))
    kits = tmp_path / project["name"] / "prod_00"
    site = json.loads((kits / "north" / "local" / "resources.json.default").read_text())
    assert all(name.startswith("fedward_flare.") for name in site["class_allow_list"])
    assert (kits / "coordinator@fedward.example" / "startup" / "release.key").exists()
    assert not list((kits / "server.fedward.example").rglob("release.*"))
    server = json.loads((kits / "server.fedward.example" / "local" / "resources.json.default").read_text())
    snapshots = server["snapshot_persistor"]["args"]["storage"]["args"]["root_dir"]
    jobs = next(c for c in server["components"] if c["id"] == "job_manager")["args"]["uri_root"]
    assert Path(snapshots).is_absolute(), "NVFLARE's server does not start with another"
    assert Path(jobs).is_absolute()
    started = json.loads((kits / "server.fedward.example" / "startup" / "fed_server.json").read_text())
    assert started["servers"][0]["service"]["target"] == "server.fedward.example:8002"


def test_the_shipped_site_template_trusts_and_shares_nothing_yet() -> None:
    site = read_site_settings(shared("provision", "site.toml"))
    assert site.bounds.exchange_modes == ("secure-sum",)
    assert site.privacy.share_metrics == ()
    assert not site.privacy.allow_non_private
    assert not site.models.auto_activate
