"""The hospitals' ledger heads as the server has seen them: a hospital whose database was put back learns it here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from fedward.files import write_text
from fedward.privacy.head import Head

#: In the server's own folder, beside its jobs.
HEADS = "ledger-heads.json"


class SeenHeads:
    """The latest head of each site, kept over all jobs.

    Args:
        path: The file; it need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = _read(path)

    @property
    def known(self) -> Mapping[str, Head]:
        """By site."""
        return dict(self._known)

    def note(self, site: str, head: Head) -> None:
        """Keep a site's head unless a longer one is known."""
        known = self._known.get(site)
        if known is None or head.length > known.length:
            # Another job of this server may have noted other sites meanwhile.
            self._known = {**_read(self._path), **self._known, site: head}
            content = {name: [one.length, one.keyed_hash] for name, one in sorted(self._known.items())}
            write_text(self._path, json.dumps(content, indent=2) + "\n", mode=0o600)


def _read(path: Path) -> dict[str, Head]:
    if not path.is_file():
        return {}
    content = json.loads(path.read_text(encoding="utf-8"))
    return {site: Head(int(length), str(keyed_hash)) for site, (length, keyed_hash) in content.items()}
