"""A signed job as one string, the only argument that a controller or an executor takes from a job.

NVFLARE replaces ``{NAME}`` inside the strings of a job's configuration, environment variables included: the text form
holds letters, digits and ``-_=`` alone.
"""

from __future__ import annotations

import base64
import binascii
import json

from fedward.errors import IdentityError
from fedward.identity.document import SignedJob

#: No honest job comes near this (bytes); a larger text is refused before it is decoded.
_MAX_TEXT = 256 * 1024

_PARTS = ("document", "signature", "certificate")


def encode_signed_job(signed: SignedJob) -> str:
    """Give the text form of ``signed``."""
    parts = {name: base64.b64encode(getattr(signed, name)).decode() for name in _PARTS}
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode()


def decode_signed_job(text: object) -> SignedJob:
    """Read the text form; nothing in it is trusted yet.

    Raises:
        IdentityError: it is not the text form of a signed job.
    """
    if not isinstance(text, str) or len(text) > _MAX_TEXT:
        raise IdentityError("not_canonical", "the job's argument is not a signed job: expected one short string")
    try:
        parts = json.loads(base64.b64decode(text, altchars=b"-_", validate=True))
        if set(parts) != set(_PARTS):
            raise ValueError(f"expected {_PARTS}")
        return SignedJob(**{name: base64.b64decode(parts[name], validate=True) for name in _PARTS})
    except (binascii.Error, ValueError, TypeError, RecursionError) as error:
        raise IdentityError("not_canonical", f"the job's argument is not a signed job: {error}") from error
