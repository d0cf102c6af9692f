from __future__ import annotations

import base64
import json
import re

import pytest

from fedward.errors import IdentityError
from fedward.identity.document import SignedJob
from fedward_flare.signed import decode_signed_job, encode_signed_job

SIGNED = SignedJob(document=b'{"id":"{$HOME}"}', signature=bytes(range(256)), certificate=b"-----BEGIN")


def test_the_text_form_gives_the_same_job_back() -> None:
    assert decode_signed_job(encode_signed_job(SIGNED)) == SIGNED


def test_the_text_form_has_nothing_that_nvflare_would_replace() -> None:
    assert re.fullmatch(r"[A-Za-z0-9_=-]+", encode_signed_job(SIGNED))


def text_of(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


@pytest.mark.parametrize(
    "text",
    [
        None,
        7,
        "",
        "!!!",
        "bm90IGpzb24=",
        text_of([]),
        text_of(7),
        text_of({"document": "", "signature": ""}),
        text_of({"document": "", "signature": "", "certificate": "", "more": ""}),
        text_of({"document": "!", "signature": "", "certificate": ""}),
        text_of({"document": 1, "signature": "", "certificate": ""}),
        "A" * (256 * 1024 + 4),
    ],
    ids=lambda text: str(text)[:24],
)
def test_anything_else_is_refused(text: object) -> None:
    with pytest.raises(IdentityError, match="not_canonical"):
        decode_signed_job(text)
