"""What each field of the engine's own messages may hold on its way out of a site.

The engine's messages are nested tables with names of its own. A field that is not listed here stays; so does a value
that does not pass its field's check: where a text stood, the one word :data:`WITHHELD` stands instead. No check passes
free text: numbers, ids that are random, names of this federation, and words out of closed lists.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import nvflare
from nvflare.apis.fl_constant import ReturnCode
from nvflare.fuel.f3.cellnet.defs import ALL_RETURN_CODES
from nvflare.fuel.f3.streaming.transfer_outcome import DownloadStatus
from nvflare.private.defs import ERROR_MSG_PREFIX, SpecialTaskName
from nvflare.private.fed.client.client_executor import REPORTABLE_JOB_FAILURES

from fedward.hospital import OUTCOMES
from fedward_flare import tasks, words

#: Stands for a text that does not leave.
WITHHELD = "withheld"

#: The text of an error of the engine's own, which the server tells from success by its beginning.
FAILED = f"{ERROR_MSG_PREFIX}: {WITHHELD}"

#: Tables within tables; their own fields are looked at.
NESTED = None

Check = Callable[[object, str], bool]

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_REFERENCE = re.compile(r"[RT]?[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}")
_BASE64 = re.compile(r"[A-Za-z0-9+/]{40,1400}={0,2}")
_PROJECT = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_SERVER = "server"

#: What the engine and we send and answer directly.
AUX_TOPICS = frozenset(
    {"__end_run__", "__do_task__", "__sync_runner__", "__job_heartbeat__", "__task_check__", "__msg_root_deleted__"}
) | {tasks.VOTE_TOPIC, tasks.OPEN_TOPIC}

_TASKS = frozenset(value for name, value in vars(tasks).items() if name.endswith("_TASK"))
_RETURN_CODES = frozenset(value for name, value in vars(ReturnCode).items() if not name.startswith("_"))


def word(*words: object) -> Check:
    """Pass exactly these values."""
    allowed = frozenset(words)
    return lambda value, _: isinstance(value, str | int | None) and value in allowed


def whole(value: object, _: str = "") -> bool:
    """Pass a whole number of 64 bits."""
    return type(value) is int and -(1 << 63) <= value < 1 << 63


def number(value: object, _: str = "") -> bool:
    """Pass a number."""
    return whole(value) or type(value) is float


def truth(value: object, _: str = "") -> bool:
    """Pass True and False."""
    return type(value) is bool


def random_id(value: object, _: str = "") -> bool:
    """Pass a random id, or none."""
    return type(value) is str and (value == "" or _UUID.fullmatch(value) is not None)


def random_ids(value: object, _: str = "") -> bool:
    """Pass a random id or a list of such."""
    return random_id(value) or (type(value) is list and all(random_id(one) for one in value))


def own_name(value: object, own: str) -> bool:
    """Pass the name that stands in this site's certificate."""
    return type(value) is str and value == own


def address(value: object, own: str) -> bool:
    """Pass the address of this site's or the server's process, or of their process of a job."""
    if type(value) is not str:
        return False
    name, _, job = value.partition(".")
    return name in {own, _SERVER} and random_id(job)


def _route(value: object, own: str) -> bool:
    return type(value) is list and all(
        type(step) in (tuple, list) and len(step) == 2 and address(step[0], own) and number(step[1]) for step in value
    )


def _matches(pattern: re.Pattern[str]) -> Check:
    return lambda value, _: type(value) is str and pattern.fullmatch(value) is not None


def _raw(value: object, _: str) -> bool:
    """Pass bytes: certificates, signatures, and the pieces of vectors that the server asks for one after the other."""
    if type(value) in (bytes, bytearray, memoryview):
        return True
    return type(value) is list and all(_raw(one, _) for one in value)


def _vector(value: object, _: str) -> bool:
    return type(value) is np.ndarray and value.ndim == 1 and value.dtype.kind in "uif"


def _ours(name: str) -> Check:
    """Pass what the firewall of our own messages has passed, here by its type alone: the names were checked there."""
    kinds = {"fedward.metrics": dict, "fedward.counts": dict, "fedward.head": tuple, "fedward.boxes": list}
    kinds["fedward.rows"] = dict
    if name in kinds:
        return lambda value, _: value is None or (type(value) is kinds[name] and _plain(value))
    if name == "fedward.non_inferior":
        return truth
    if name == "fedward.error":
        return lambda value, _: type(value) is str and value in words.CODES
    if name == "fedward.total_sha256":
        return _matches(re.compile(r"[0-9a-f]{64}"))
    return lambda value, own: value is None or number(value) or type(value) is bytes or _vector(value, own)


def _plain(value: Any) -> bool:
    """Pass the names and hashes of our own closed lists beside numbers and bytes."""
    if isinstance(value, dict):
        known = words.METRICS | words.ROWS | OUTCOMES
        return all(name in known and (number(item) or _vector(item, "")) for name, item in value.items())
    return all(number(item) or type(item) is bytes or re.fullmatch(r"[0-9a-f]{64}", str(item)) for item in value)


_OURS = {name for fields in words.KINDS.values() for name in fields} | {"fedward.error"}

#: Fields of the network's headers, by name.
HEADERS: Mapping[str, Check | None] = {
    "cn__msg_type": word("req", "reply", "return"),
    "cn__req_id": random_ids,
    "cn__reply_expected": truth,
    "cn__secure": truth,
    "cn__optional": truth,
    "cn__encrypted": truth,
    "cn__server_transit_required": truth,
    "cn__pass_through": truth,
    "cn__origin": address,
    "cn__destination": address,
    "cn__from": address,
    "cn__to": address,
    "cn__return_code": word(*ALL_RETURN_CODES),
    "cn__error": word(*words.CODES, WITHHELD),
    "cn__payload_encoding": word("bytes", "fobs", "none"),
    "cn__route": _route,
    "cn__original_headers": NESTED,
    "cn__send_time": number,
    "cn__return_reason": word("cant_forward", "intercept"),
    "cn__payload_len": whole,
    "cn__clear_payload_len": whole,
    "cn__msg_root_id": random_id,
    "cn__msg_root_ttl": number,
    "sm__em": word(WITHHELD),
    "sm__et": word("StreamError", "StreamTargetUnreachable", "BlobSizeError"),
    "sm__fd": address,
    "sm__ri": random_id,
    "sm__pe": word("bytes", "fobs", "none"),
    "sm__rs": truth,
    "sm__op": truth,
    **{f"sm__{name}": number for name in ("id", "dt", "sz", "sq", "os", "oi", "rw", "rt", "cs", "ws", "mp", "ai")},
    "client_name": own_name,
    "client_type": word("regular"),
    "project_name": _matches(_PROJECT),
    "federation_protocol_version": whole,
    "nvflare_version": word(nvflare.__version__),
    "ssid": lambda value, _: value == "NA" if type(value) is str and len(value) == 2 else random_id(value),
    "__token__": random_id,
    "__token_signature__": _matches(_BASE64),
    "job_ids": random_ids,
    "job_id": random_id,
    "cn": own_name,
    "nonce": random_id,
}

_CONTEXT: Mapping[str, Check | None] = {
    "__run_num__": random_id,
    "__current_job_id__": random_id,
    "__identity_name__": own_name,
    "__client_name__": own_name,
    "__fqsn__": own_name,
    "__is_leaf__": truth,
    "__task_name__": word(*_TASKS),
    "__task_id__": random_id,
}

#: Fields of what the messages carry, by name, wherever they stand.
FIELDS: Mapping[str, Check | None] = {
    **_CONTEXT,
    "__headers__": NESTED,
    "__peer_ctx__": NESTED,
    "__peer_props__": NESTED,
    "__cookie_jar__": NESTED,
    "site_config": NESTED,
    "__rc__": word(*_RETURN_CODES),
    "__topic__": word(*AUX_TOPICS),
    "__workflow__": word("fedward"),
    "__audit_event_id__": random_id,
    "__msg_root_id__": random_id,
    "__msg_root_ttl__": number,
    "__reply_is_late__": truth,
    "__pass_through__": truth,
    "task_name": word(*_TASKS, SpecialTaskName.TRY_AGAIN, SpecialTaskName.END_RUN),
    "task_id": random_id,
    "last_task_id": random_id,
    "fl_client": random_id,
    "_is_resource_enough": truth,
    "_resource_reserve_token": random_id,
    "allow_log_streaming": word(False),
    "cert": _raw,
    "signature": _raw,
    "cn": own_name,
    "job_id": random_id,
    "code": lambda value, _: isinstance(value, int) and whole(int(value)),
    "reason": word(None, *REPORTABLE_JOB_FAILURES.values()),
    "ref_id": _matches(_REFERENCE),
    "state": NESTED,
    "start": whole,
    "count": whole,
    "data": _raw,
    "status": word("ok", "error", "eof"),
    "confirm": word(DownloadStatus.SUCCESS, DownloadStatus.FAILED),
    "confirm_nonce": _matches(_REFERENCE),
    "confirm_capable": truth,
    "confirm_expected": truth,
    "cancel": truth,
    "cancel_capable": truth,
    "_rtnCode": word("_ok", "_error"),
    "_refMsgId": random_id,
    **{name: _ours(name) for name in _OURS},
}
