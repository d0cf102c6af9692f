from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedward.errors import IdentityError
from fedward.identity.canonical import decode, encode

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(TEXT, VALUES, max_size=4)


@settings(deadline=None)
@given(OBJECTS)
def test_decoding_undoes_encoding(value: dict[str, object]) -> None:
    assert decode(encode(value)) == value


@settings(deadline=None)
@given(OBJECTS)
def test_the_order_of_keys_does_not_matter(value: dict[str, object]) -> None:
    assert encode(dict(reversed(value.items()))) == encode(value)


@settings(deadline=None)
@given(OBJECTS, st.integers(min_value=0), st.integers(min_value=1, max_value=255))
def test_altered_bytes_are_refused_or_say_something_else(value: dict[str, object], place: int, change: int) -> None:
    content = bytearray(encode(value))
    content[place % len(content)] ^= change
    with contextlib.suppress(IdentityError):
        assert encode(decode(bytes(content))) != encode(value)


def test_the_bytes_are_the_documented_ones() -> None:
    assert (
        encode({"b": [1, 1.0, True, None], "a": "é \u2028"}) == b'{"a":"\xc3\xa9 \xe2\x80\xa8","b":[1,1.0,true,null]}'
    )


@pytest.mark.parametrize(
    "content",
    [
        b'{"a": 1}',
        b'{"a":1}\n',
        b'\xef\xbb\xbf{"a":1}',
        b'{"b":1,"a":1}',
        b'{"a":1,"a":1}',
        b'{"a":1,"a":2}',
        b'{"a":1e0}',
        b'{"a":1.00}',
        b'{"a":1e400}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":"\\u0041"}',
        b'{"a":"\\ud800"}',
        b'{"a":"\xff"}',
        b"[1]",
        b'"text"',
        b"{}{}",
        b"",
        b"9" * 5000,
        b'{"a":' + b"[" * 100_000,
    ],
)
def test_any_other_spelling_is_refused(content: bytes) -> None:
    with pytest.raises(IdentityError, match="not_canonical"):
        decode(content)


@pytest.mark.parametrize("depth", [200, 900, 1100, 5000])
def test_nesting_is_read_or_refused_and_never_another_error(depth: int) -> None:
    content = b'{"a":' + b"[" * depth + b"]" * depth + b"}"
    with contextlib.suppress(IdentityError):
        assert encode(decode(content)) == content


def test_a_document_has_a_largest_size() -> None:
    content = encode({"a": "x" * 100})
    assert decode(content, max_size=len(content))
    with pytest.raises(IdentityError, match="not_canonical") as caught:
        decode(content, max_size=len(content) - 1)
    assert f"found {len(content)}" in caught.value.detail


@pytest.mark.parametrize("value", [{"a": float("nan")}, {"a": {1, 2}}, {"a": "\ud800"}, {1: 2, "a": 3}])
def test_what_json_cannot_say_is_not_encoded(value: object) -> None:
    with pytest.raises(IdentityError, match="not_canonical"):
        encode(value)
