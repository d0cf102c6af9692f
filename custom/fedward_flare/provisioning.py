"""What a federation's kits say: which of our classes may run, who may do what, and where things are kept.

NVFLARE's own builders write kits that trust more than we do; :class:`FedwardBuilder` runs after them and narrows
every kit. Unknown keys at the top of ``resources.json`` would be sent to the server: nothing of the site's goes there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nvflare.lighter.constants import CtxKey
from nvflare.lighter.entity import Participant, Project
from nvflare.lighter.spec import Builder, ProvisionContext

from fedward.identity.release_identity import make_release_identity
from fedward_flare.job_config import SERVER_CLASSES, SITE_CLASSES
from fedward_flare.share import shared

SITE_LAUNCHER = "fedward_flare.launcher.RestartingLauncher"
SERVER_LAUNCHER = "fedward_flare.launcher.ServerLauncher"
LOCKS = {"id": "fedward_locks", "path": "fedward_flare.locks.SiteLocks", "args": {}}
VALIDATOR = {"path": "fedward_flare.server_folder.ServerJobValidator", "args": {}}

#: Where a real server keeps jobs unless its project file says otherwise.
SERVER_STORAGE = "/var/lib/fedward-server"

#: A lost site is noticed after this (s); NVFLARE waits ten times as long.
HEARTBEAT_TIMEOUT_S = 60

_RESOURCES = "resources.json.default"
_LOG_STREAMS = {"site_log_streamer", "log_receiver"}


class FedwardBuilder(Builder):
    """Narrow every kit to what fedward needs and issue the coordinator's release identity.

    Args:
        loopback: Listen on this machine alone (a proof of concept).
        storage: The server's folder for jobs, absolute: NVFLARE takes no other, and does not start.
        server_classes: Classes that a job may name on the server.
        site_classes: Classes that a job may name at a site.
    """

    def __init__(
        self,
        *,
        loopback: bool = False,
        storage: str = SERVER_STORAGE,
        server_classes: tuple[str, ...] | list[str] = SERVER_CLASSES,
        site_classes: tuple[str, ...] | list[str] = SITE_CLASSES,
    ) -> None:
        super().__init__()
        self._loopback = loopback
        if not Path(storage).is_absolute():
            raise ValueError(f"storage must be an absolute path, got {storage!r}")
        self._storage = storage
        self._server_classes = list(server_classes)
        self._site_classes = list(site_classes)

    def build(self, project: Project, ctx: ProvisionContext) -> None:
        """Rewrite the kits that the builders before this one have made."""
        server = project.get_server()
        policy = json.loads(shared("provision", "authorization.json").read_text(encoding="utf-8"))
        for participant in (server, *project.get_clients()):
            local = Path(ctx.get_local_dir(participant))
            _write_json(local / "authorization.json.default", policy)
        _rewrite(_resources(ctx, server), self._narrow_server)
        for client in project.get_clients():
            _rewrite(_resources(ctx, client), self._narrow_site)
        if self._loopback:
            _rewrite(Path(ctx.get_kit_dir(server)) / "fed_server.json", _listen_on_loopback)
        _issue_release_identity(project, ctx)

    def _narrow_server(self, resources: dict[str, Any]) -> None:
        storage = self._storage
        resources["class_list_enforcement_mode"] = "enforce"
        resources["class_allow_list"] = self._server_classes
        if self._server_classes == list(SERVER_CLASSES):  # it would refuse every other class
            resources["app_validator"] = VALIDATOR
        resources["servers"][0]["heart_beat_timeout"] = HEARTBEAT_TIMEOUT_S
        resources["snapshot_persistor"]["args"]["storage"]["args"]["root_dir"] = f"{storage}/snapshots"
        components = [c for c in resources["components"] if c["id"] not in _LOG_STREAMS]
        for component in components:
            if component["id"] == "job_manager":
                component["args"]["uri_root"] = f"{storage}/jobs"
            if component["id"] == "process_launcher":
                component.update({"path": SERVER_LAUNCHER, "args": {}})
        resources["components"] = components

    def _narrow_site(self, resources: dict[str, Any]) -> None:
        resources["class_list_enforcement_mode"] = "enforce"
        resources["class_allow_list"] = self._site_classes
        resources["allow_log_streaming"] = False
        components = [c for c in resources["components"] if c["id"] not in _LOG_STREAMS]
        for component in components:
            if component["id"] == "process_launcher":
                component.update({"path": SITE_LAUNCHER, "args": {}})
        resources["components"] = [LOCKS, *components]


def _issue_release_identity(project: Project, ctx: ProvisionContext) -> None:
    """Give each coordinator the release key; it is made once and never reaches the server's or a site's kit.

    Where every party makes its own key there is no root key here, and the release officer has asked for a certificate.
    """
    if ctx.get(CtxKey.ROOT_PRI_KEY) is None:
        return
    state = Path(ctx.get_state_dir())
    key_file, certificate_file = state / "release.key", state / "release.crt"
    if not key_file.exists():
        key, certificate = make_release_identity(project.name, ctx[CtxKey.ROOT_PRI_KEY], ctx[CtxKey.ROOT_CERT])
        _write_private(key_file, key)
        certificate_file.write_bytes(certificate)
    for admin in project.get_admins():
        if admin.get_prop("role") == "lead":
            kit = Path(ctx.get_kit_dir(admin))
            _write_private(kit / "release.key", key_file.read_bytes())
            (kit / "release.crt").write_bytes(certificate_file.read_bytes())


def _listen_on_loopback(config: dict[str, Any]) -> None:
    """NVFLARE binds to all interfaces unless the server's own target is a loopback address."""
    service = config["servers"][0]["service"]
    service["target"] = f"127.0.0.1:{service['target'].rsplit(':', 1)[1]}"


def _resources(ctx: ProvisionContext, participant: Participant) -> Path:
    return Path(ctx.get_local_dir(participant)) / _RESOURCES


def _rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    _write_json(path, content)


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _write_private(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
