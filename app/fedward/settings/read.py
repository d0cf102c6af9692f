"""Reads a TOML file into a frozen model and reports all its faults at once."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from fedward.errors import SettingsError

_NAME_PATTERN = r"^[a-z0-9_-]{1,64}$"

#: A name that may come from a job: it never becomes a path.
Name = Annotated[str, Field(pattern=_NAME_PATTERN)]

#: Three numbers along (slice, row, column).
SpacingMm = tuple[
    Annotated[float, Field(gt=0, le=20)],
    Annotated[float, Field(gt=0, le=20)],
    Annotated[float, Field(gt=0, le=20)],
]

M = TypeVar("M")

#: The key that tells the kinds of a table apart, and the one that names a network or an algorithm.
_KIND, _NAME = "kind", "name"

#: Keys by which other systems' files name code; here they deserve more than "unknown".
_CODE_KEYS = {"args", "class", "class_path", "command", "components", "executor", "module", "path", "script", "url"}

#: A found value is quoted up to so many characters.
_LONGEST_QUOTE = 60


class Settings(BaseModel):
    """A frozen section of a settings file: unknown keys and wrong types are faults."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


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
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise SettingsError("not_toml", f"{path}: not TOML: {error}") from error
    return parse_settings(document, model, where=str(path))


def parse_settings(document: Mapping[str, Any], model: type[M], *, where: str) -> M:
    """Validate ``document`` whole as a ``model``; ``where`` names it in the error.

    Raises:
        SettingsError: one or more faults, all in ``detail``, one a line.
    """
    adapter: TypeAdapter[M] = TypeAdapter(model)
    try:
        # As JSON, since there a list may stand for a tuple and a text for a path while all else is strict.
        return adapter.validate_json(json.dumps(document, default=str), strict=True)
    except ValidationError as error:
        known = _known_keys(adapter)
        faults = [fault for fault in error.errors(include_url=False) if not _only_follows(fault)]
        lines = [f"  {_fault(fault, document, known)}" for fault in faults]
        count = f"{len(lines)} fault" + ("s" if len(lines) > 1 else "")
        raise SettingsError("invalid_settings", "\n".join([f"{where}: {count}", *lines])) from error


def _only_follows(fault: Mapping[str, Any]) -> bool:
    """Whether a list counts as too short only because members of it are faults of their own."""
    return fault["type"] == "too_short" and len(fault["input"]) >= int(fault["ctx"]["min_length"])


def _fault(fault: Mapping[str, Any], document: Mapping[str, Any], known: list[str]) -> str:
    """Give one line: the key as it stands in the file, what was expected and what was found."""
    kind, context = fault["type"], fault.get("ctx", {})
    key = _key(fault, document)
    match kind:
        case "extra_forbidden":
            return f"{key}: unknown key{_hint(str(fault['loc'][-1]), known)}"
        case "missing":
            return f"{key}: missing"
        case "union_tag_not_found":
            return f"{_joined(key, _tag(context))}: missing"
        case "union_tag_invalid":
            return (
                f"{_joined(key, _tag(context))}: should be one of {context['expected_tags']}, found {context['tag']!r}"
            )
        case "string_pattern_mismatch" if context["pattern"] == _NAME_PATTERN:
            expected = "should be a name of 1 to 64 of a-z, 0-9, _ and -, never a path"
        case _:
            expected = str(fault["msg"]).removeprefix("Value error, ").removeprefix("Input ")
            expected = expected.replace("Tuple", "list").replace("an object", "a table")
    return f"{key or '(whole file)'}: {expected[:1].lower()}{expected[1:]}{_found(fault['input'])}"


def _key(fault: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    """Give the fault's place without what is pydantic's own: a union's tag, and the mark of a mapping's key."""
    names_a_key = fault["type"] in {"extra_forbidden", "missing"}
    here: Any = document
    tag_seen = False
    key = ""
    for place, part in enumerate(fault["loc"]):
        is_key = names_a_key and place == len(fault["loc"]) - 1
        if not tag_seen and not is_key and _is_tag(part, here):
            tag_seen = True
            continue
        if part != "[key]":
            key = _joined(key, part)
        here, tag_seen = _below(here, part), False
    return key


def _tag(context: Mapping[str, Any]) -> str:
    return str(context["discriminator"]).strip("'")


def _is_tag(part: str | int, table: Any) -> bool:
    """Whether a part of a place is the table's own kind or name; a name may also be that of a key in the table."""
    if not isinstance(table, Mapping):
        return False
    return part == table.get(_KIND) or (part == table.get(_NAME) and part not in table)


def _below(value: Any, part: str | int) -> Any:
    if isinstance(value, Mapping):
        return value.get(part)
    is_there = isinstance(value, list | tuple) and isinstance(part, int) and part < len(value)
    return value[part] if is_there else None


def _joined(key: str, part: str | int) -> str:
    return f"{key}.{part}" if key else str(part)


def _known_keys(adapter: TypeAdapter[Any]) -> list[str]:
    schema = adapter.json_schema()
    parts = (schema, *schema.get("$defs", {}).values())
    return sorted({name for part in parts for name in part.get("properties", {})})


def _hint(key: str, known: list[str]) -> str:
    if key in _CODE_KEYS:
        return "; nothing here names code, a path or a command"
    close = get_close_matches(key, known, n=1, cutoff=0.75)
    return f"; did you mean {close[0]}?" if close and close[0] != key else ""


def _found(value: Any) -> str:
    if isinstance(value, dict):
        return ""
    text = repr(value)
    return f", found {text if len(text) <= _LONGEST_QUOTE else text[:_LONGEST_QUOTE] + '…'}"
