"""Foreign input: an honest message of ours, changed a little or a lot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

#: What parsers trip over: ends of ranges, lengths that lie, brackets, separators, unfinished characters.
TOKENS = (
    b"\x00", b"\xff", b"\x00" * 8, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff" * 8,
    b"\xfe\xff\x00\xe0",
    b"\xed\xa0\x80", b"\\ud800", b"{" * 50, b"[" * 2000, b'"', b"NaN", b"1e999", b"-0", b"9" * 400, b"null", b"${HOME}",
    b"\n", b"'", b"..", b"/../", b"=", b",",
)  # fmt: skip

#: Values that a field of JSON or TOML may hold instead of its own.
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.sampled_from([-1, 0, 2**31, 2**63, 2**64, 10**30, -(10**400)]),
        st.floats(),
        st.text(max_size=40),
        st.sampled_from(["", "../../etc", "a" * 5000, "\ud800", "\x00", "2026-01-01T00:00:00Z", "ab" * 32]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=10), inner, max_size=4)),
    max_leaves=6,
)


@st.composite
def changed_bytes(draw: st.DrawFn, honest: bytes) -> bytes:
    """Give ``honest`` after a few edits: bytes put in another's place, inserted, removed, repeated, cut off."""
    content = bytearray(honest)
    for _ in range(draw(st.integers(0, 6))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.integers(0, 40)))
        piece = draw(st.one_of(st.sampled_from(TOKENS), st.binary(max_size=8)))
        match draw(st.sampled_from(["replace", "insert", "remove", "repeat", "overwrite", "cut"])):
            case "replace":
                content[start:end] = piece
            case "insert":
                content[start:start] = piece
            case "remove":
                del content[start:end]
            case "repeat":
                content[start:start] = content[start:end] * draw(st.integers(1, 20))
            case "overwrite":
                content[start : start + len(piece)] = piece
            case "cut":
                del content[start:]
    return bytes(content)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Give the path of every value inside."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


@st.composite
def changed_value(draw: st.DrawFn, honest: Any, values: st.SearchStrategy[Any] = VALUES) -> Any:
    """Give a copy of nested tables and lists in which a few values are others, are gone, or are new."""
    value = json.loads(json.dumps(honest)) if _is_plain(honest) else honest
    for _ in range(draw(st.integers(0, 3))):
        path = draw(st.sampled_from(list(places(value))))
        if not path:
            value = draw(st.one_of(values, st.just(value))) if draw(st.integers(0, 9)) == 0 else value
            continue
        holder = value
        for key in path[:-1]:
            holder = holder[key]
        match draw(st.sampled_from(["replace", "remove", "add"])):
            case "replace":
                holder[path[-1]] = draw(values)
            case "remove":
                del holder[path[-1]]
            case "add" if isinstance(holder, dict):
                holder[draw(st.text(max_size=12))] = draw(values)
            case "add":
                holder.insert(path[-1], draw(values))
    return value


def _is_plain(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
