from __future__ import annotations

import time

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from hypothesis import given, settings
from hypothesis import strategies as st

from fedward.errors import SumRefused
from fedward.federation.masks import add_mask, agree, derive, public_key_of, seal, unseal
from fedward.randomness import Secret

KEY = bytes(range(32))
SECRET = Secret()


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 300_000), st.binary(min_size=32, max_size=32))
def test_a_mask_is_the_ciphers_stream_and_taking_it_away_gives_the_vector_back(size: int, key: bytes) -> None:
    vector = np.arange(size, dtype=np.uint32)[::-1].copy()
    masked = vector.copy()
    add_mask(masked, key, sign=1)
    stream = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor().update(bytes(4 * size))
    assert np.array_equal(masked - vector, np.frombuffer(stream, "<u4"))
    add_mask(masked, key, sign=-1)
    assert np.array_equal(masked, vector)


def test_two_sides_agree_on_what_a_third_does_not_know() -> None:
    mine, theirs, third = (SECRET.take(32) for _ in range(3))
    assert agree(mine, public_key_of(theirs)) == agree(theirs, public_key_of(mine))
    assert agree(mine, public_key_of(third)) != agree(mine, public_key_of(theirs))
    assert public_key_of(mine) == X25519PrivateKey.from_private_bytes(mine).public_key().public_bytes_raw()


@pytest.mark.parametrize("public_key", [bytes(32), b"\1" + bytes(31), bytes(31)])
def test_a_key_that_gives_no_secret_is_refused(public_key: bytes) -> None:
    with pytest.raises(SumRefused, match="weak_key"):
        agree(KEY, public_key)


def test_a_key_holds_for_its_purpose_and_context_alone() -> None:
    keys = {
        derive(KEY, purpose=purpose, context=context) for purpose in ("pair", "self", "box") for context in (b"a", b"b")
    }
    assert len(keys) == 6


def test_a_box_opens_with_its_key_and_for_what_it_is_bound_to() -> None:
    box = seal(b"shares", KEY, about=b"from a to b", secret=SECRET)
    assert unseal(box, KEY, about=b"from a to b") == b"shares"
    for key, about, content in (
        (bytes(32), b"from a to b", box),
        (KEY, b"from b to a", box),
        (KEY, b"from a to b", box[:-1]),
        (KEY, b"from a to b", b""),
    ):
        with pytest.raises(SumRefused, match="share_altered"):
            unseal(content, key, about=about)


def test_no_flipped_byte_of_a_box_opens() -> None:
    box = seal(b"shares", KEY, about=b"", secret=SECRET)
    for place in range(len(box)):
        altered = bytearray(box)
        altered[place] ^= 1
        with pytest.raises(SumRefused, match="share_altered"):
            unseal(bytes(altered), KEY, about=b"")


def test_three_masks_of_five_million_numbers_take_less_than_a_second() -> None:
    vector = np.zeros(5_000_000, np.uint32)
    start = time.process_time()
    for number in range(3):
        add_mask(vector, bytes([number] * 32), sign=1)
    assert time.process_time() - start < 1.0
