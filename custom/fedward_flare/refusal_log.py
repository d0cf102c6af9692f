"""Refusals of the site's parent process, written into the hospital's audit.

A server may ask as often as it likes, so the same refusal is written once in a while, and all together are limited.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from pathlib import Path

from fedward.errors import FedwardError
from fedward.settings.site import read_site_settings
from fedward.store.audit import Audit
from fedward.store.database import Database

#: The same topic and code is written again after this (s).
_PAUSE_S = 60.0

#: No more lines than this in an hour.
_PER_HOUR = 500
_HOUR_S = 3600.0

_last: dict[tuple[str, str], float] = {}
_written: deque[float] = deque(maxlen=_PER_HOUR)


def note(topic: object, code: str) -> None:
    """Write that the server's request on ``topic`` was refused; a site that cannot write refuses all the same."""
    now, what = time.monotonic(), str(topic)[:64]
    if now - _last.get((what, code), -_PAUSE_S) < _PAUSE_S:
        return
    if len(_written) == _PER_HOUR and now - _written[0] < _HOUR_S:
        return
    if len(_last) >= _PER_HOUR:
        _last.clear()
    _last[what, code] = now
    _written.append(now)
    site_file = os.environ.get("FEDWARD_SITE_FILE")
    if not site_file:
        return
    with contextlib.suppress(FedwardError, OSError):
        site = read_site_settings(Path(site_file))
        database = Database.open(site.state, site.database)
        try:
            Audit(database, site.state).note("refusal", what=what, code=code)
        finally:
            database.close()
