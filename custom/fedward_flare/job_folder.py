"""What a site takes as a job: one JSON file, the engine's signatures, and nothing else.

NVFLARE would also read HOCON or YAML, in which ``${NAME}`` and ``include`` reach the site's environment and files. So a
job is held against what our own coordinator writes before the engine looks at it, and any difference is a refusal.
"""

from __future__ import annotations

import io
import json
import stat
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nvflare.apis.app_validation import AppValidator
from nvflare.lighter.tool_consts import NVFLARE_SIG_FILE, NVFLARE_SUBMITTER_CRT_FILE

from fedward.errors import FedwardError, JobRefused
from fedward.identity.document import parse_document
from fedward_flare.job_config import SITE_CLASSES, SITE_CONFIG, site_config
from fedward_flare.signed import decode_signed_job

#: The largest file of a job, and the largest job (bytes).
MAX_FILE = 256 * 1024
MAX_ARCHIVE = 1024 * 1024

_CONFIG = f"config/{SITE_CONFIG}"
_SIGNATURES = frozenset(
    f"{folder}{name}" for folder in ("", "config/") for name in (NVFLARE_SIG_FILE, NVFLARE_SUBMITTER_CRT_FILE)
)

#: Ends of names of configurations that NVFLARE would read, or run, beside JSON.
FORMATS = (".conf", ".hocon", ".yml", ".yaml", ".toml", ".py")


def check_archive(content: object) -> None:
    """Refuse the archive of a site's application unless it is what our coordinator writes; nothing is unpacked.

    Raises:
        JobRefused: ``unsigned_job``, ``unexpected_file``, ``linked_file``, ``custom_code``, ``file_too_large``,
            ``not_plain_json``, ``class_not_allowed`` or ``unexpected_configuration``.
    """
    if not isinstance(content, bytes) or len(content) > MAX_ARCHIVE:
        raise JobRefused("file_too_large", f"expected an archive of at most {MAX_ARCHIVE} bytes")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            _check_names([entry.filename for entry in archive.infolist()])
            for entry in entries:
                if stat.S_ISLNK(entry.external_attr >> 16):
                    raise JobRefused("linked_file", f"{entry.filename} is a link")
                check_size(entry.filename, entry.file_size)
            check_files({entry.filename: archive.read(entry) for entry in entries})
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise JobRefused("unexpected_file", f"not an archive that can be read: {error}") from error


def check_folder(folder: Path) -> None:
    """Refuse a site's application that lies in ``folder`` unless it is what our coordinator writes.

    Raises:
        JobRefused: as for :func:`check_archive`.
    """
    files = {}
    names = []
    for path in sorted(folder.rglob("*")):
        name, status = path.relative_to(folder).as_posix(), path.lstat()
        names.append(f"{name}/" if stat.S_ISDIR(status.st_mode) else name)
        if stat.S_ISDIR(status.st_mode):
            continue
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            raise JobRefused("linked_file", f"{name} is not a file of its own")
        check_size(name, status.st_size)
        files[name] = path
    _check_names(names)
    check_files({name: path.read_bytes() for name, path in files.items()})


def check_files(files: Mapping[str, bytes]) -> None:
    """Hold the content of a job's files, by name, against what our coordinator writes.

    Raises:
        JobRefused: as for :func:`check_archive`.
    """
    if missing := _SIGNATURES - set(files):
        raise JobRefused("unsigned_job", f"the job lacks {', '.join(sorted(missing))}")
    if _CONFIG not in files:
        raise JobRefused("unexpected_configuration", f"the job lacks {_CONFIG}")
    config = read_plain(files[_CONFIG], name=_CONFIG)
    executor = _executor_of(config)
    if executor.get("path") not in SITE_CLASSES:
        raise JobRefused("class_not_allowed", f"the job names {executor.get('path')!r}")
    try:
        text = executor["args"]["signed_job"]
        kind = parse_document(decode_signed_job(text).document).job.kind
    except (KeyError, TypeError, FedwardError) as error:
        raise JobRefused("unexpected_configuration", f"the executor's argument is not a signed job: {error}") from error
    if config != site_config(kind, text):
        raise JobRefused("unexpected_configuration", f"the configuration is not that of a {kind} job")


class SiteJobValidator(AppValidator):
    """NVFLARE's hook: called for an application that lies in the site's run folder, before it is read."""

    def validate(self, app_folder: str) -> tuple[str, dict[str, Any]]:
        """Give a refusal's code, or nothing."""
        try:
            check_folder(Path(app_folder))
        except JobRefused as refusal:
            return refusal.code, {}
        return "", {}


def _check_names(names: Iterable[str]) -> None:
    """Refuse every name but the expected ones; a folder ends in a slash."""
    seen = set()
    for name in names:
        if name.startswith("custom/") or "/custom/" in name:
            raise JobRefused("custom_code", f"the job brings {name}")
        if name.startswith("config/") and name.endswith(FORMATS):
            raise JobRefused("not_plain_json", f"the job brings {name}; a configuration is JSON")
        if name not in _SIGNATURES | {_CONFIG, "config/"} or name in seen:
            raise JobRefused("unexpected_file", f"the job brings {name}")
        seen.add(name)


def check_size(name: str, size: int) -> None:
    """Refuse a file of a job that is larger than any honest one.

    Raises:
        JobRefused: ``file_too_large``.
    """
    if size > MAX_FILE:
        raise JobRefused("file_too_large", f"{name} has {size} bytes, expected at most {MAX_FILE}")


def read_plain(content: bytes, *, name: str) -> dict[str, Any]:
    """Read a configuration as plain JSON, in which nothing is resolved and no key stands twice.

    Raises:
        JobRefused: ``not_plain_json``.
    """
    try:
        config = json.loads(content.decode(), object_pairs_hook=_without_repetition, parse_constant=_no_constant)
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise JobRefused("not_plain_json", f"{name} is not plain JSON: {error}") from error
    if not isinstance(config, dict):
        raise JobRefused("not_plain_json", f"{name} is not an object")
    return config


def _executor_of(config: Mapping[str, Any]) -> dict[str, Any]:
    match config.get("executors"):
        case [{"executor": dict() as executor}]:
            return executor
    raise JobRefused("unexpected_configuration", "expected one executor")


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
