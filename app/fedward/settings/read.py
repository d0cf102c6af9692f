"""Reads a TOML file into a frozen model and reports all its faults at once."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from fedward.errors import SettingsError

#: A name that may come from a job: it never becomes a path.
Name = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,64}$")]

#: Three numbers along (slice, row, column).
SpacingMm = tuple[
    Annotated[float, Field(gt=0, le=20)],
    Annotated[float, Field(gt=0, le=20)],
    Annotated[float, Field(gt=0, le=20)],
]

M = TypeVar("M")


class Settings(BaseModel):
    """A frozen section of a settings file: unknown keys and wrong types are faults."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, allow_inf_nan=False)


def read_settings(path: Path, model: type[M]) -> M:
    """Read the TOML file at ``path`` as a ``model`` (a class or a discriminated union).

    Raises:
        SettingsError: the file is missing, is not TOML, or has faults; ``detail`` names each with its key, what was
            expected and what was found.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError("missing_file", f"{path}: there is no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError("missing_file", f"{path}: cannot be read as UTF-8 text: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError("not_toml", f"{path}: not TOML: {error}") from error
    return parse_settings(document, model, where=str(path))


def parse_settings(document: Mapping[str, Any], model: type[M], *, where: str) -> M:
    """Validate ``document`` whole as a ``model``; ``where`` names it in the error.

    Raises:
        SettingsError: one or more faults, all in ``detail``, one a line.
    """
    try:
        return TypeAdapter(model).validate_python(document)
    except ValidationError as error:
        lines = [_fault(fault) for fault in error.errors(include_url=False, include_context=False)]
        count = f"{len(lines)} fault" + ("s" if len(lines) > 1 else "")
        raise SettingsError("invalid_settings", "\n".join([f"{where}: {count}", *lines])) from error


def _fault(fault: Mapping[str, Any]) -> str:
    key = ".".join(str(part) for part in fault["loc"]) or "(whole file)"
    if fault["type"] == "extra_forbidden":
        return f"  {key}: unknown key"
    if fault["type"] == "missing":
        return f"  {key}: missing"
    message = str(fault["msg"]).removeprefix("Value error, ")
    found = "" if isinstance(fault["input"], dict) else f", found {fault['input']!r}"
    return f"  {key}: {message[:1].lower()}{message[1:]}{found}"
