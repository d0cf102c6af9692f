"""The controller's record of a running job, on its way to whoever watches."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from fedward.federation.record import JobRecord

#: The name under which a running job answers `fedward job watch`.
PROGRESS_TOPIC = "fedward.progress"

_RECORD = "record"


def pack_progress(record: JobRecord) -> dict[str, Any]:
    """Make the answer to somebody who watches."""
    return {_RECORD: record.model_dump(mode="json")}


def parse_progress(answer: object) -> JobRecord | None:
    """Read the answer of :func:`pack_progress`; None when the job has nothing to show yet."""
    if not isinstance(answer, dict) or _RECORD not in answer:
        return None
    try:
        return JobRecord.model_validate(answer[_RECORD])
    except ValidationError:
        return None
