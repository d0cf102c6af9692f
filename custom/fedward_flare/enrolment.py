"""A federation in which every party makes its own key: what each of them needs, from one ``project.yml``.

NVFLARE's distributed provisioning is followed: a request at each party, an approval at the authority, a kit at each
party. Nothing that is rendered here is secret; the keys are made where they are used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit
import yaml

from fedward.errors import FederationError
from fedward.files import whole_folder, write_text
from fedward.identity.certificates import common_name, fingerprint, organisation, read_certificate
from fedward.identity.inspection import nobodys_fingerprint
from fedward.identity.release_identity import PROJECT_NAME
from fedward_flare.share import shared

#: Writes the locks and the limits into every kit.
BUILDER = "fedward_flare.provisioning.FedwardBuilder"

_STATIC_FILES = "nvflare.lighter.impl.static_file.StaticFileBuilder"
_DEFAULT_PORT = 8002

#: Names become those of files; a hospital's stands in its site file too, and so does its organisation.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9@._-]{0,253}")
_HOSPITAL = re.compile(r"[a-z0-9_-]{1,64}")
_ORGANISATION = re.compile(r"[A-Za-z0-9_]{1,64}")


@dataclass(frozen=True)
class EnrolmentPlan:
    """Who takes part, as ``project.yml`` says."""

    name: str
    server: Mapping[str, Any]
    hospitals: tuple[Mapping[str, Any], ...]
    persons: tuple[Mapping[str, Any], ...]
    builders: tuple[Mapping[str, Any], ...]

    @property
    def port(self) -> int:
        """The server's port for hospitals."""
        return int(self.server.get("fed_learn_port", _DEFAULT_PORT))

    @property
    def admin_port(self) -> int:
        """The server's port for persons."""
        return int(self.server.get("admin_port", self.port))

    @property
    def scheme(self) -> str:
        """How hospitals reach the server, inside mutual TLS."""
        found = next((one for one in self.builders if one.get("path") == _STATIC_FILES), {})
        return str((found.get("args") or {}).get("scheme", "grpc"))


def read_plan(project_file: Path) -> EnrolmentPlan:
    """Read NVFLARE's project file.

    Raises:
        FederationError: ``provision_failed``: it is not one, a name in it cannot be one, it names no server, hospital
            or coordinator, or its kits would have no locks or the server no place for jobs.
    """
    try:
        project = yaml.safe_load(project_file.read_text(encoding="utf-8"))
        participants = {kind: _of_kind(project["participants"], kind) for kind in ("server", "client", "admin")}
        name, builders = _matched(project["name"], PROJECT_NAME), tuple(project.get("builders") or ())
        _require_different([one["name"] for found in participants.values() for one in found])
        _require_ports(participants["server"])
    except KeyError as error:
        raise FederationError("provision_failed", f"{project_file} is not a project file: no {error} in it") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, ValueError, AttributeError) as error:
        raise FederationError("provision_failed", f"{project_file} is not a project file: {error}") from error
    if len(participants["server"]) != 1 or not participants["client"]:
        raise FederationError("provision_failed", f"{project_file}: expected one server and at least one client")
    if not any(person.get("role") == "lead" for person in participants["admin"]):
        raise FederationError("provision_failed", f"{project_file}: no admin has the role lead: nobody signs jobs")
    if fault := _builders_fault(builders):
        raise FederationError("provision_failed", f"{project_file}: builders: {fault}")
    (server,) = participants["server"]
    return EnrolmentPlan(name, server, participants["client"], participants["admin"], builders)


def render(project_file: Path, out: Path) -> tuple[Path, ...]:
    """Write what each party needs below ``out``, whole or not at all; give the files.

    Raises:
        FederationError: ``provision_failed``: see :func:`read_plan`.
    """
    plan = read_plan(project_file)
    with whole_folder(out, mode=0o755) as folder:
        _write_yaml(folder / "authority" / "profile.yml", _profile(plan))
        for participant in (plan.server, *plan.hospitals, *plan.persons):
            _write_yaml(folder / "requests" / f"{participant['name']}.yml", _request(plan, participant))
        for hospital in plan.hospitals:
            write_text(folder / "sites" / f"{hospital['name']}.toml", _site_file(plan, hospital), mode=0o600)
        write_text(folder / "STEPS.md", _steps(plan))
    return tuple(sorted(path for path in out.rglob("*") if path.is_file()))


def roster_lines(certificates: Iterable[Path]) -> str:
    """Give the roster of a site file, a section for each hospital's certificate.

    Raises:
        IdentityError: ``untrusted_certificate``: a file is not a certificate.
    """
    roster = tomlkit.aot()
    for path in certificates:
        certificate = read_certificate(path)
        roster.append(_line(common_name(certificate), organisation(certificate), fingerprint(certificate)))
    document = tomlkit.document()
    document["identity"] = tomlkit.table(is_super_table=True)
    document["identity"]["hospitals"] = roster
    return tomlkit.dumps(document)


def _of_kind(participants: Sequence[Mapping[str, Any]], kind: str) -> tuple[Mapping[str, Any], ...]:
    """Give the participants of a kind.

    Raises:
        KeyError: one has no name, type or organisation.
        ValueError: a name cannot be one.
    """
    found = tuple(participant for participant in participants if participant["type"] == kind)
    for participant in found:
        _matched(participant["name"], _HOSPITAL if kind == "client" else _NAME)
        _matched(participant["org"], _ORGANISATION)
    return found


def _matched(name: object, pattern: re.Pattern[str]) -> str:
    if not isinstance(name, str) or not pattern.fullmatch(name):
        raise ValueError(f"{name!r} is not a name; expected {pattern.pattern}")
    return name


def _require_different(names: Sequence[str]) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two participants are named {', '.join(twice)}")


def _require_ports(servers: Sequence[Mapping[str, Any]]) -> None:
    ports = [server[key] for server in servers for key in ("fed_learn_port", "admin_port") if key in server]
    if wrong := [port for port in ports if not isinstance(port, int)]:
        raise ValueError(f"{wrong[0]!r} is not a port")


def _builders_fault(builders: Sequence[object]) -> str:
    """Say why the builders make no kits that can be used; empty where they do."""
    if unnamed := [one for one in builders if not isinstance(one, Mapping) or not isinstance(one.get("path"), str)]:
        return f"expected a path in each, found {unnamed[0]!r}"
    ours = [one for one in builders if isinstance(one, Mapping) and one["path"] == BUILDER]
    if len(ours) != 1:
        return f"{BUILDER} stands there {len(ours)} times, expected once: without its locks no kit starts"
    args = ours[0].get("args") or {}
    if not isinstance(args, Mapping):
        return f"args of {BUILDER}: expected a table, found {args!r}"
    storage = args.get("storage", "/")
    if not isinstance(storage, str) or not Path(storage).is_absolute():
        return f"args.storage of {BUILDER}: expected an absolute path, found {storage!r}"
    return ""


def _profile(plan: EnrolmentPlan) -> dict[str, Any]:
    """What the authority approves requests under; the hospitals' kits take the server's address from it."""
    server = {"host": plan.server["name"], "fed_learn_port": plan.port, "admin_port": plan.admin_port}
    return {"name": plan.name, "scheme": plan.scheme, "connection_security": "mtls", "server": server}


def _request(plan: EnrolmentPlan, participant: Mapping[str, Any]) -> dict[str, Any]:
    """One party and the builders that make its kit; its own machine runs them."""
    return {
        "api_version": 3,
        "name": plan.name,
        "participants": [dict(participant)],
        "builders": [dict(builder) for builder in plan.builders],
    }


def _site_file(plan: EnrolmentPlan, hospital: Mapping[str, Any]) -> str:
    document = tomlkit.parse(shared("provision", "site.toml").read_text(encoding="utf-8"))
    document["name"], document["organisation"] = hospital["name"], hospital["org"]
    identity: Any = document["identity"]
    identity["project"] = plan.name
    kit = f"kit/{plan.name}/prod_00/{hospital['name']}/startup"
    identity["root_certificate"] = f"{kit}/rootCA.pem"
    identity["certificate"], identity["private_key"] = f"{kit}/client.crt", f"{kit}/client.key"
    roster = tomlkit.aot()
    for number, peer in enumerate(plan.hospitals):
        roster.append(_line(peer["name"], peer["org"], nobodys_fingerprint(number)))
    roster[-1].add(tomlkit.nl())
    identity["hospitals"] = roster
    return tomlkit.dumps(document)


def _line(name: str, owner: str, found: str) -> tomlkit.items.Table:
    line = tomlkit.table()
    line["name"], line["organisation"], line["fingerprint"] = name, owner, found
    return line


def _steps(plan: EnrolmentPlan) -> str:
    coordinator = next(str(person["name"]) for person in plan.persons if person.get("role") == "lead")
    parties = ", ".join(str(one["name"]) for one in (plan.server, *plan.hospitals, *plan.persons))
    text = shared("provision", "steps.md").read_text(encoding="utf-8")
    for word, value in (
        ("PROJECT", plan.name),
        ("COORDINATOR", coordinator),
        ("SERVER", str(plan.server["name"])),
        ("HOSPITAL", str(plan.hospitals[0]["name"])),
        ("PARTIES", parties),
    ):
        text = text.replace(f"@{word}@", value)
    return text


def _write_yaml(path: Path, content: Mapping[str, Any]) -> None:
    write_text(path, yaml.safe_dump(dict(content), sort_keys=False))
