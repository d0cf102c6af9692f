"""The server's and the hospitals' own programs: NVFLARE's modules, started without its shell scripts.

A script would start again what was killed on purpose, and would not say which process it started.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from fedward.errors import FederationError
from fedward.settings.federation import FederationSettings
from fedward_flare.processes import MARK, OwnProcess, start
from fedward_flare.provisioning import LOCKS
from fedward_flare.workdir import SERVER_STATE, Workdir

_SERVER = "nvflare.private.fed.app.server.server_train"
_CLIENT = "nvflare.private.fed.app.client.client_train"

SERVER = "server"

#: After the last round the server waits this long (s) for the end of each site's job process; 900 without it.
_OUTCOME_WAIT_S = 10


def start_all(
    federation: FederationSettings, workdir: Workdir, *, mark: str, extra: Mapping[str, str]
) -> tuple[OwnProcess, ...]:
    """Start the server and every hospital, each in a session of its own, with output into ``workdir.logs``.

    Args:
        federation: Who takes part; the kits and site files are written.
        workdir: The work folder.
        mark: What every process carries in its environment.
        extra: Further variables for every process.
    """
    common = {**common_environment(workdir, mark=mark, sites=len(federation.names)), **extra}
    lasting = {**common, SERVER_STATE: str(workdir.root / "server")}
    started = [_start(workdir, SERVER, organisation=federation.federation.organisation, environment=lasting)]
    for hospital in federation.hospital:
        environment = {**common, "FEDWARD_SITE_FILE": str(workdir.site_file(hospital.name))}
        started.append(_start(workdir, hospital.name, organisation=hospital.organisation, environment=environment))
    return tuple(started)


def require_locks(kit: Path) -> None:
    """Refuse to start a hospital's kit in which nothing closes the engine's doors.

    Raises:
        FederationError: ``kit_without_locks``.
    """
    local = kit / "local"
    for name in ("resources.json", "resources.json.default"):  # NVFLARE reads the first of them that is there
        if (local / name).exists():
            components = json.loads((local / name).read_text(encoding="utf-8")).get("components", [])
            if LOCKS in components:
                return
            break
    raise FederationError("kit_without_locks", f"{local} has no component {LOCKS['path']}: provision the kit again")


def _start(workdir: Workdir, name: str, *, organisation: str, environment: Mapping[str, str]) -> OwnProcess:
    kit = workdir.kit(name)
    if name != SERVER:
        require_locks(kit)
    (kit / "shutdown.fl").unlink(missing_ok=True)
    command = command_of(kit, name, organisation=organisation)
    return start(name, command, environment=environment, log=workdir.logs / f"{name}.log")


def command_of(kit: Path, name: str, *, organisation: str) -> list[str]:
    """Give the command that starts the server, or the hospital of that name, from its kit."""
    module, config = (_SERVER, "fed_server.json") if name == SERVER else (_CLIENT, "fed_client.json")
    names = [] if name == SERVER else [f"uid={name}"]
    return [
        *(sys.executable, "-u", "-m", module, "-m", str(kit), "-s", config),
        *("--set", "secure_train=true", *names, f"org={organisation}", "config_folder=config"),
    ]


def common_environment(workdir: Workdir, *, mark: str, sites: int) -> dict[str, str]:
    """Give the user's own environment with everything that points outside the work folder turned into it."""
    home, temporary = workdir.root / "home", workdir.root / "tmp"
    for folder in (home, temporary):
        folder.mkdir(parents=True, exist_ok=True)
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "NVFLARE_", "FEDWARD_"))}
    path = os.pathsep.join([str(Path(sys.executable).parent), inherited.get("PATH", os.defpath)])
    threads = max(1, (os.cpu_count() or 1) // sites)
    return {
        **inherited,
        MARK: mark,
        "PATH": path,
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "OMP_NUM_THREADS": str(threads),
        "NVFLARE_SECURE_LOGGING": "true",
        "NVFLARE_CLIENT_OUTCOME_WAIT_TIMEOUT": str(_OUTCOME_WAIT_S),
    }
