"""Startup kits of a local federation, made by NVFLARE's provisioner from ``provision/project.yml``."""

from __future__ import annotations

import logging
import shutil
from typing import Any

from nvflare.lighter.constants import CtxKey
from nvflare.lighter.prov_utils import prepare_builders
from nvflare.lighter.provision import prepare_project
from nvflare.lighter.provisioner import Provisioner
from nvflare.lighter.utils import load_yaml

from fedward.errors import FederationError
from fedward.settings.federation import FederationSettings
from fedward_flare.enrolment import BUILDER
from fedward_flare.quiet import quietly
from fedward_flare.share import shared
from fedward_flare.workdir import LOOPBACK, Workdir

_log = logging.getLogger(__name__)


def provision(federation: FederationSettings, workdir: Workdir, *, port: int, builder: dict[str, Any]) -> None:
    """Write the kits of the server, every hospital and both persons below ``workdir.kits``.

    Keys and certificates that exist are kept; kits are always written anew.

    Args:
        federation: Who takes part.
        workdir: The work folder.
        port: The server's port on this machine.
        builder: Arguments for :class:`fedward_flare.provisioning.FedwardBuilder` besides the folder and loopback.

    Raises:
        FederationError: NVFLARE could not write the kits.
    """
    settings = load_yaml(str(shared("provision", "project.yml")))
    settings["name"] = federation.federation.project
    settings["participants"] = participants_of(federation, port)
    for entry in settings["builders"]:
        if entry["path"] == BUILDER:
            entry["args"] = {"loopback": True, "storage": str(workdir.root / "server"), **builder}
    shutil.rmtree(workdir.kits / settings["name"] / "prod_00", ignore_errors=True)
    with quietly():
        provisioner = Provisioner(str(workdir.kits), prepare_builders(settings))
        result = provisioner.provision(prepare_project(settings), logger=_log)
    if result.get(CtxKey.BUILD_ERROR):
        raise FederationError("provision_failed", "; ".join(result.get_errors()))


def participants_of(federation: FederationSettings, port: int) -> list[dict[str, Any]]:
    """Give the server, the hospitals and both persons as NVFLARE's project file names them."""
    project = federation.federation
    ours = {"org": project.organisation}
    server = {"name": "server", "type": "server", "default_host": LOOPBACK, "fed_learn_port": port, "admin_port": port}
    clients = [{"name": h.name, "type": "client", "org": h.organisation} for h in federation.hospital]
    return [
        {**server, **ours},
        *clients,
        {"name": project.coordinator, "type": "admin", "role": "lead", **ours},
        {"name": project.operator, "type": "admin", "role": "org_admin", **ours},
    ]
