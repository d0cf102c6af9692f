"""The firewall for words: what a job's process answers leaves field by field under a schema, or not at all.

Each message that our executors give has a kind (the task's name or the direct message's topic), each kind its fields,
each field a check that no free text passes: numbers, vectors, hashes, signed values read to their last word, and names
out of closed lists. One field that does not fit keeps the whole answer back; a code leaves in its place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from functools import partial
from typing import get_args

import numpy as np
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.shareable import ReservedHeaderKey, Shareable

from fedward.errors import FedwardError, IdentityError, MessageWithheld, SumRefused
from fedward.federation.consent import Consent
from fedward.federation.secure_messages import Box, Opened, Receipt, SetUp, SetUpContent, Value, Vote
from fedward.hospital import COUNT_STEP, OUTCOMES
from fedward.identity import canonical
from fedward.privacy.metrics import PATIENTS, TOTAL
from fedward.settings.site import ShareableMetric
from fedward_flare import tasks

#: What an error that nobody foresaw is called outside the site; its text stays in the site's own log.
INTERNAL_ERROR = "internal_error"

_TRAITS = ("slice_spacing", "pixel_spacing", "dark_intensity", "middle_intensity", "bright_intensity")

#: Every number that a site may tell about a model or about what its images are like, by name.
METRICS = frozenset(get_args(ShareableMetric)) | {
    TOTAL,
    PATIENTS,
    *(f"trained_{trait}_{place:02}" for trait in _TRAITS for place in range(15)),
}

#: The models of which a site may share a row of exact counts.
ROWS = frozenset({"release", "local"})

_HASH = re.compile(r"[0-9a-f]{64}")
_CERTIFICATE = re.compile(rb"(-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]+-----END CERTIFICATE-----\n?){1,4}")
_ERROR = "fedward.error"

#: No certificate, signature or sealed box of a job is larger (bytes).
_LARGEST = 1 << 24


@dataclass(frozen=True)
class Names:
    """Whom a message may name: the job's sites."""

    sites: Set[str] = frozenset()


Check = Callable[[object, Names], bool]


def passed(kind: str, answer: Shareable, names: Names) -> Shareable:
    """Give the answer back when every field of it fits its kind.

    Raises:
        MessageWithheld: ``unknown_kind``, ``unknown_field`` or ``unfit_field``; the detail names the field alone.
    """
    fields = KINDS.get(kind)
    if fields is None:
        raise MessageWithheld("unknown_kind", "an answer of a kind that has no schema")
    if type(answer) is not Shareable or answer.get(ReservedHeaderKey.HEADERS) != {}:
        raise MessageWithheld("unfit_field", f"the answer to {kind} is no message of ours, or has headers")
    for name, value in answer.items():
        if name == ReservedHeaderKey.HEADERS:
            continue
        if name not in fields:
            raise MessageWithheld("unknown_field", f"the answer to {kind} has a field that is not in its schema")
        if not fields[name](value, names):
            raise MessageWithheld("unfit_field", f"{name} of the answer to {kind} does not fit its schema")
    return answer


def failure(error: Exception) -> Shareable:
    """Give the answer of a site that could not do its part: a code of our own and nothing else."""
    answer = Shareable()
    answer.set_return_code(ReturnCode.EXECUTION_EXCEPTION)
    code = error.code if isinstance(error, FedwardError) else INTERNAL_ERROR
    answer[_ERROR] = code if code in CODES else INTERNAL_ERROR
    return answer


def _codes(kind: type[FedwardError]) -> frozenset[str]:
    return kind.codes.union(*(_codes(below) for below in kind.__subclasses__()))


#: Every code that may leave a site.
CODES = _codes(FedwardError) | {INTERNAL_ERROR}


def _whole(value: object, _: Names) -> bool:
    return type(value) is int and 0 <= value < 1 << 53


def _real(value: object, _: Names) -> bool:
    return value is None or (type(value) is float and bool(np.isfinite(value)))


def _bit(value: object, _: Names) -> bool:
    return type(value) is bool


def _rows(value: object, names: Names) -> bool:
    return type(value) is dict and all(
        type(name) is str and name in ROWS and _vector(np.float64, row, names) for name, row in value.items()
    )


def _vector(dtype: type, value: object, _: Names) -> bool:
    return type(value) is np.ndarray and value.dtype == dtype and value.ndim == 1


def _hash(value: object, _: Names) -> bool:
    return type(value) is str and _HASH.fullmatch(value) is not None


def _head(value: object, names: Names) -> bool:
    if value is None:
        return True
    return type(value) is tuple and len(value) == 2 and _whole(value[0], names) and _hash(value[1], names)


def _metrics(value: object, names: Names) -> bool:
    if type(value) is not dict:
        return False
    return all(
        type(name) is str and name in METRICS and number is not None and _real(number, names)
        for name, number in value.items()
    )


def _counts(value: object, names: Names) -> bool:
    if type(value) is not dict:
        return False
    return all(
        type(name) is str and name in OUTCOMES and _whole(count, names) and count % COUNT_STEP == 0
        for name, count in value.items()
    )


def _signed(kind: type[Value], value: object, names: Names) -> bool:
    """Whether these are the bytes of such a value, to the last one, and name only sites of the job."""
    if type(value) is not bytes or len(value) > _LARGEST:
        return False
    try:
        read = kind.from_bytes(value)
        return read.to_bytes() == value and _named(read) <= names.sites
    except (SumRefused, IdentityError):
        return False


def _named(value: Value) -> Set[str]:
    match value:
        case SetUp():
            canonical.decode(value.content, max_size=_LARGEST)
            content = SetUpContent.from_bytes(value.content)
            return {content.site, *content.session.sites, *_beside(value.certificate)}
        case Box():
            return {value.sender, value.receiver}
        case Opened():
            return {value.site, *value.seeds, *value.keys}
        case Receipt() | Vote():
            return {value.site}
        case Consent():
            return {value.site, *_beside(value.certificate)}
    raise TypeError(f"no names are known of a {type(value).__name__}")


def _beside(certificate: bytes) -> Set[str]:
    """Give what is no site's name where more than certificates stands in these bytes."""
    return set() if _CERTIFICATE.fullmatch(certificate) else {"beside the certificate"}


def _boxes(value: object, names: Names) -> bool:
    return type(value) is list and all(_signed(Box, box, names) for box in value)


_SPENT: Mapping[str, Check] = {"fedward.epsilon": _real, "fedward.delta": _real, "fedward.head": _head}
_SUMMED: Mapping[str, Check] = {
    "fedward.receipt": partial(_signed, Receipt),
    "fedward.vector": partial(_vector, np.uint32),
    "fedward.blocks": partial(_vector, np.uint8),
    "fedward.block_ends": partial(_vector, np.int64),
}
_ANSWER: Mapping[str, Check] = {"fedward.weight": _whole, "fedward.metrics": _metrics, **_SPENT, **_SUMMED}

#: By kind of message, its fields and what each may hold.
KINDS: Mapping[str, Mapping[str, Check]] = {
    tasks.TRAIN_TASK: {**_ANSWER, "fedward.update": partial(_vector, np.float32)},
    tasks.EVALUATE_TASK: _ANSWER,
    tasks.PUBLISH_TASK: {"fedward.counts": _counts},
    tasks.INFER_TASK: {"fedward.counts": _counts},
    tasks.GATE_TASK: {"fedward.non_inferior": _bit},
    tasks.COUNT_TASK: {
        **_SPENT,
        **_SUMMED,
        "fedward.noise_multiplier": _real,
        "fedward.noised": partial(_vector, np.float64),
        "fedward.rows": _rows,
        "fedward.others": partial(_vector, np.float64),
    },
    tasks.AGREE_TASK: {"fedward.consent": partial(_signed, Consent)},
    tasks.GIVE_TASK: {"fedward.local_model": partial(_vector, np.float32), "fedward.head": _head},
    tasks.SET_UP_TASK: {"fedward.set_up": partial(_signed, SetUp)},
    tasks.SHARES_TASK: {"fedward.boxes": _boxes},
    tasks.DECRYPT_TASK: {"fedward.total_sha256": _hash},
    tasks.TOTAL_TASK: {"fedward.total": partial(_vector, np.uint32)},
    tasks.VOTE_TOPIC: {"fedward.vote": partial(_signed, Vote)},
    tasks.OPEN_TOPIC: {"fedward.opened": partial(_signed, Opened)},
}
