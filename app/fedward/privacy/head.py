"""The ledger's head: how long it is and the keyed hash of its last line, kept outside the database."""

from __future__ import annotations

import hmac
import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedward.errors import StoreError
from fedward.files import write_text
from fedward.store.keys import read_key

KEY, HEAD = "ledger.key", "ledger.head"


@dataclass(frozen=True)
class Head:
    """What a ledger's state is known by; it tells an outsider nothing but how many lines there are.

    Attributes:
        length: Lines.
        keyed_hash: Of the last one, under the site's own key: 64 hexadecimal digits.
    """

    length: int
    keyed_hash: str


class HeadFile:
    """The head and its key in the site's state folder."""

    def __init__(self, state: Path) -> None:
        self._state = state

    def check(self, digests: Sequence[str]) -> None:
        """Refuse a ledger that is older than its head says.

        A process may die between the database's commit and the head's: then the database is the longer one.

        Raises:
            StoreError: ``ledger_rolled_back``.
        """
        path = self._state / HEAD
        if not path.exists():
            if digests:
                raise StoreError("ledger_rolled_back", f"{HEAD} is missing: nobody can tell whether lines were lost")
            return
        try:
            head = json.loads(path.read_text(encoding="utf-8"))
            known = Head(int(head["length"]), str(head["hash"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError("ledger_rolled_back", f"{HEAD} cannot be read: {error}") from error
        self.check_seen(known, digests)

    def check_seen(self, seen: Head, digests: Sequence[str]) -> None:
        """Refuse a ledger that does not go on from a head that was seen before, here or by others.

        Raises:
            StoreError: ``ledger_rolled_back``.
        """
        if seen.length > len(digests) or not hmac.compare_digest(
            seen.keyed_hash, self.of(digests[: seen.length]).keyed_hash
        ):
            raise StoreError(
                "ledger_rolled_back",
                f"the database has {len(digests)} lines of the ledger, its head was at {seen.length}: it is an older "
                "copy or not this site's; nothing is trained on it",
            )

    def write(self, digests: Sequence[str]) -> None:
        """Move the head on, after the commit; a head of another process that is already further stays."""
        path = self._state / HEAD
        if path.exists() and json.loads(path.read_text(encoding="utf-8"))["length"] >= len(digests):
            return
        head = self.of(digests)
        write_text(path, json.dumps({"length": head.length, "hash": head.keyed_hash}), mode=0o600)

    def of(self, digests: Sequence[str]) -> Head:
        """Give the head of a ledger with these lines."""
        last = digests[-1] if digests else ""
        return Head(len(digests), hmac.digest(self._key(), f"{len(digests)}:{last}".encode(), "sha256").hex())

    def pseudonym(self, patient_key: str) -> str:
        """Give the name under which a patient stands in the ledger: the same for ever, meaningless without the key."""
        text = unicodedata.normalize("NFC", f"patient\0{patient_key}")
        return hmac.digest(self._key(), text.encode(), "sha256").hex()[:32]

    def _key(self) -> bytes:
        path = self._state / KEY
        if not path.exists() and (self._state / HEAD).exists():
            raise StoreError("ledger_rolled_back", f"{KEY} is missing, so the head cannot be checked")
        return read_key(path)
