"""The folders of hospitals and coordinator in the work folder: what each would keep at home."""

from __future__ import annotations

import os
from pathlib import Path

import tomlkit

from fedward.files import write_bytes, write_text
from fedward.identity.certificates import fingerprint_of_file
from fedward.settings.federation import FederationSettings, HospitalEntry
from fedward_flare.workdir import Workdir


def render_hospitals(federation: FederationSettings, workdir: Workdir) -> None:
    """Write each hospital's ``site.toml``: the file that the federation names, with ``[identity]`` added.

    A site file that stands in the work folder already is the hospital's and is left alone. Relative paths in it are
    taken from the hospital's folder there.
    """
    for hospital in federation.hospital:
        if not workdir.site_file(hospital.name).exists():
            _render(federation, hospital, workdir)


def render_coordinator(workdir: Workdir) -> None:
    """Give the coordinator's folder the release key with its certificate, and a link to the admin kit."""
    kit = workdir.kit(workdir.state().coordinator)
    for name, mode in (("release.key", 0o600), ("release.crt", 0o644)):
        write_bytes(workdir.coordinator / name, (kit / "startup" / name).read_bytes(), mode=mode)
    link = workdir.coordinator / "kit"
    link.unlink(missing_ok=True)
    link.symlink_to(os.path.relpath(kit, workdir.coordinator))


def _render(federation: FederationSettings, hospital: HospitalEntry, workdir: Workdir) -> None:
    document = tomlkit.parse(hospital.site_file.read_text(encoding="utf-8"))
    kit = workdir.kit(hospital.name) / "startup"
    root = workdir.hospital(hospital.name) / "root.pem"
    write_text(root, (kit / "rootCA.pem").read_text(encoding="utf-8"))
    identity = tomlkit.table()
    identity["project"] = federation.federation.project
    identity["root_certificate"] = root.name
    identity["coordinators"] = [_coordinator(federation, workdir)]
    for key, name in (("certificate", "client.crt"), ("private_key", "client.key")):
        identity[key] = os.path.relpath(kit / name, workdir.hospital(hospital.name))
    roster = tomlkit.aot()
    for peer in federation.hospital:
        line = tomlkit.table()
        line["name"], line["organisation"] = peer.name, peer.organisation
        line["fingerprint"] = fingerprint_of_file(workdir.kit(peer.name) / "startup" / "client.crt")
        roster.append(line)
    identity["hospitals"] = roster
    document["identity"] = identity
    write_text(workdir.site_file(hospital.name), tomlkit.dumps(document), mode=0o600)


def _coordinator(federation: FederationSettings, workdir: Workdir) -> str:
    certificate: Path = workdir.kit(federation.federation.coordinator) / "startup" / "client.crt"
    return fingerprint_of_file(certificate)
