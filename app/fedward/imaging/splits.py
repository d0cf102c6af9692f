"""Which patients a site trains on, validates with and tests with: decided by a keyed hash, for ever."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from typing import Literal

from fedward.settings.site import Split
from fedward.store.keys import read_key

Part = Literal["train", "validation", "test"]

#: In the site's state folder.
SPLIT_KEY = "split.key"


def read_split_key(state: Path) -> bytes:
    """Read ``state/split.key``, the secret that fixes the site's split; the first call makes it.

    Whoever loses this file loses the split: test patients of old models may then train new ones.

    Raises:
        StoreError: the file is not a key, or the folder cannot be written.
    """
    return read_key(state / SPLIT_KEY)


def assign(patient_key: str, *, key: bytes, split: Split) -> Part:
    """Give the part that a patient belongs to.

    The decision looks at this patient alone, so a new patient never moves an old one, and the key keeps outsiders from
    computing it. With few patients the realised shares scatter around those of ``split``.

    Args:
        patient_key: Issuer and normalised id, the same for all studies of the patient.
        key: The site's secret, 16 bytes or more.
        split: The shares of validation and test patients; the rest trains.

    Raises:
        ValueError: the key is shorter than 16 bytes.
    """
    if len(key) < 16:
        raise ValueError(f"a split key has at least 16 bytes, got {len(key)}")
    digest = hmac.digest(key, patient_key.encode(), hashlib.sha256)
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < split.test:
        return "test"
    return "validation" if place < split.test + split.validation else "train"
