"""What the server takes as a job: one plain JSON file, the engine's signatures, and the files of a release.

A hospital trusts the server with nothing, so this protects no hospital. It keeps a coordinator from configuring the
server with anything but our controllers, and from reading its environment and files through another format.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import Any

from nvflare.apis.app_validation import AppValidator
from nvflare.lighter.tool_consts import NVFLARE_SIG_FILE, NVFLARE_SUBMITTER_CRT_FILE

from fedward.errors import FedwardError, JobRefused
from fedward.identity.document import parse_document
from fedward_flare.job_config import SERVER_CLASSES, SERVER_CONFIG, server_config
from fedward_flare.job_folder import FORMATS, check_size, read_plain
from fedward_flare.signed import decode_signed_job

_CONFIG = f"config/{SERVER_CONFIG}"

#: What a job carries to the server beside its configuration: data of known kinds, one folder deep.
_CARRIED = re.compile(r"(?!config/|custom/)[a-z_]{1,32}/[a-z_]{1,32}\.(safetensors|json|sig)")

#: The largest of them but a model (bytes); a passport grows with the job's rounds.
_MAX_CARRIED = 1 << 20

_SIGNATURES = (NVFLARE_SIG_FILE, NVFLARE_SUBMITTER_CRT_FILE)


class ServerJobValidator(AppValidator):
    """NVFLARE's hook: called for an application that lies in the server's run folder, before it is read."""

    def validate(self, app_folder: str) -> tuple[str, dict[str, Any]]:
        """Give a refusal's code, or nothing."""
        try:
            check_server_folder(Path(app_folder))
        except JobRefused as refusal:
            return refusal.code, {}
        return "", {}


def check_server_folder(folder: Path) -> None:
    """Refuse a server's application unless it is what our coordinator writes.

    Raises:
        JobRefused: ``unexpected_file``, ``linked_file``, ``custom_code``, ``file_too_large``, ``not_plain_json``,
            ``class_not_allowed`` or ``unexpected_configuration``.
    """
    for path in sorted(folder.rglob("*")):
        name, status = path.relative_to(folder).as_posix(), path.lstat()
        _check_name(name, is_folder=stat.S_ISDIR(status.st_mode))
        if stat.S_ISDIR(status.st_mode):
            continue
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            raise JobRefused("linked_file", f"{name} is not a file of its own")
        if name.startswith("config/"):
            check_size(name, status.st_size)
        elif not name.endswith(".safetensors") and status.st_size > _MAX_CARRIED:
            raise JobRefused("file_too_large", f"{name} has {status.st_size} bytes, expected at most {_MAX_CARRIED}")
    if not (folder / _CONFIG).is_file():
        raise JobRefused("unexpected_configuration", f"the job lacks {_CONFIG}")
    _check_config(read_plain((folder / _CONFIG).read_bytes(), name=_CONFIG))


def _check_name(name: str, *, is_folder: bool) -> None:
    if name.split("/")[0] == "custom" or "/custom" in name:
        raise JobRefused("custom_code", f"the job brings {name}")
    if is_folder:
        is_expected = re.fullmatch(r"[a-z_]{1,32}", name) is not None
    else:
        if name.startswith("config/") and name.endswith(FORMATS):
            raise JobRefused("not_plain_json", f"the job brings {name}; a configuration is JSON")
        folder, _, last = name.rpartition("/")
        is_signature = last in _SIGNATURES and folder.count("/") == 0
        is_expected = name == _CONFIG or is_signature or _CARRIED.fullmatch(name) is not None
    if not is_expected:
        raise JobRefused("unexpected_file", f"the job brings {name}")


def _check_config(config: dict[str, Any]) -> None:
    match config.get("workflows"):
        case [{"path": path, "args": {"signed_job": text}}]:
            pass
        case _:
            raise JobRefused("unexpected_configuration", "expected one workflow with one signed job")
    if path not in SERVER_CLASSES:
        raise JobRefused("class_not_allowed", f"the job names {path!r}")
    try:
        kind = parse_document(decode_signed_job(text).document).job.kind
    except FedwardError as error:
        raise JobRefused("unexpected_configuration", f"the workflow's argument is not a signed job: {error}") from error
    if config != server_config(kind, text):
        raise JobRefused("unexpected_configuration", f"the configuration is not that of a {kind} job")
