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

#: What a participant of each type may be called, as a pattern and in words. Names become those of files, and no
#: certificate has a longer one than 64 characters; the server's is its address, and ``server`` in a job is the server.
_NAMES = {
    "server": (
        r"(?!.{65})[A-Za-z0-9_][A-Za-z0-9_-]{0,62}(\.[A-Za-z0-9_-]{1,63})*",
        "a host's name, 64 characters at most",
    ),
    "client": (r"(?!server$)[a-z0-9_-]{1,64}", "[a-z0-9_-]{1,64}, and not server"),
    "admin": (r"[A-Za-z0-9_][A-Za-z0-9@._-]{0,63}", "[A-Za-z0-9_][A-Za-z0-9@._-]{0,63}"),
}

#: A hospital's stands in its site file too.
_ORGANISATION = r"[A-Za-z0-9_]{1,64}"

_PORTS = range(1, 65536)


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
        FederationError: ``provision_failed``: it is not one, a participant's type, name, organisation or port cannot be
            one, it names no server, hospital or coordinator, or its kits would have no locks or the server no place for
            jobs. The detail names the participant and the field.
    """
    try:
        return _plan(yaml.safe_load(project_file.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, ValueError) as error:
        raise FederationError("provision_failed", f"{project_file}: {error}") from error


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


def _plan(project: object) -> EnrolmentPlan:
    """Give the plan of a project file's content.

    Raises:
        ValueError: it makes no federation; the text says why.
    """
    if not isinstance(project, Mapping):
        raise _fault("project file", "a table", project)
    name = _matched("name", project.get("name"), (PROJECT_NAME.pattern, PROJECT_NAME.pattern))
    listed = _list_of(project, "participants")
    participants = [_checked(one, f"participant {place}") for place, one in enumerate(listed, 1)]
    _require_different([one["name"] for one in participants])
    servers, hospitals, persons = (tuple(one for one in participants if one["type"] == kind) for kind in _NAMES)
    if len(servers) != 1 or not hospitals:
        raise ValueError("participants: expected one server and at least one client")
    if not any(person.get("role") == "lead" for person in persons):
        raise ValueError("participants: no admin has the role lead: nobody signs jobs")
    builders = _list_of(project, "builders")
    if fault := _builders_fault(builders):
        raise ValueError(f"builders: {fault}")
    return EnrolmentPlan(name, servers[0], hospitals, persons, tuple(builders))


def _list_of(project: Mapping[str, Any], field: str) -> list[Any]:
    found = project.get(field)
    if not isinstance(found, list):
        raise _fault(field, "a list", found)
    return found


def _checked(participant: object, whose: str) -> Mapping[str, Any]:
    """Give a participant whose fields can be those of one.

    Raises:
        ValueError: a field cannot; the text names it, and whose it is.
    """
    if not isinstance(participant, Mapping):
        raise _fault(whose, "a table", participant)
    kind, whose = participant.get("type"), str(participant.get("name", whose))
    if kind not in tuple(_NAMES):
        raise _fault(f"type of {whose}", f"one of {', '.join(_NAMES)}", kind)
    _matched(f"name of {whose}", participant.get("name"), _NAMES[kind])
    _matched(f"org of {whose}", participant.get("org"), (_ORGANISATION, _ORGANISATION))
    for field in ("fed_learn_port", "admin_port"):
        port = participant.get(field, _DEFAULT_PORT)
        if type(port) is not int or port not in _PORTS:  # true is an int
            raise _fault(f"{field} of {whose}", f"a whole number from {_PORTS[0]} to {_PORTS[-1]}", port)
    return participant


def _matched(field: str, value: object, rule: tuple[str, str]) -> str:
    pattern, words = rule
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        raise _fault(field, words, value)
    return value


def _fault(field: str, expected: str, found: object) -> ValueError:
    return ValueError(f"{field}: expected {expected}, found {'nothing' if found is None else repr(found)}")


def _require_different(names: Sequence[str]) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two participants are named {', '.join(twice)}")


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
