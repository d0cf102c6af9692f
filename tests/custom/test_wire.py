from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.fuel.f3.message import Message
from nvflare.fuel.utils import fobs
from nvflare.private.admin_defs import Message as AdminMessage
from nvflare.private.admin_defs import error_reply, ok_reply

from fedward.errors import JobRefused
from fedward.hospital import TrainedRound
from fedward_flare import exchange, refusal_log, wire, words
from fedward_flare.locks import TOPICS
from fedward_flare.wire_fields import FAILED, FIELDS, HEADERS, WITHHELD

ID = "433cd0e6-2028-48f4-b900-c89e238bca87"
CANARY = "Doe^Jane"


@pytest.fixture(autouse=True)
def admin_topics(monkeypatch: pytest.MonkeyPatch) -> None:
    topics = frozenset({"reply", *(f"reply_{topic}" for topic in TOPICS)})
    monkeypatch.setattr(wire, "_ADMIN_TOPICS", topics)


def context(**more: object) -> FLContext:
    made = FLContext()
    made.set_public_props(
        {"__run_num__": "", "__identity_name__": "north", "__fqsn__": "north", "__is_leaf__": True, **more}
    )
    return made


def shareable(headers: dict[str, object], **content: object) -> Shareable:
    message = Shareable()
    for name, value in headers.items():
        message.set_header(name, value)
    message.update(content)
    return message


def requested(channel: str, topic: str, **more: object) -> dict[str, Any]:
    return {
        "cn__channel": channel, "cn__topic": topic, "cn__destination": "server", "cn__from": "north",
        "cn__to": "server", "cn__origin": "north", "cn__msg_type": "req", "cn__req_id": ID, "cn__reply_expected": True,
        "cn__secure": False, "cn__optional": True, "cn__route": [("north", 1.5)], **more,
    }  # fmt: skip


def streamed(channel: str, topic: str, **more: object) -> dict[str, Any]:
    about = {"sm__ch": channel, "sm__tp": topic, "sm__id": 1, "sm__dt": 2, "sm__pe": "fobs", "sm__ri": ID}
    return requested("sm__STREAM", "sm__DATA", **{**about, **more})


REGISTRATION = shareable(
    {"__peer_ctx__": context()}, cert=b"c", signature=b"s", cn="north", site_config={"allow_log_streaming": False}
)
TRAINED = shareable(
    {
        "__task_name__": "fedward_train", "__task_id__": ID, "__msg_root_id__": ID, "__peer_ctx__": context(),
        "__cookie_jar__": {"__workflow__": "fedward", "__task_id__": ID},
    },
    **{key: value for key, value in exchange.pack_trained(
        TrainedRound(np.ones(4, np.float32), 10, {"validation_score": 0.5})
    ).items() if key != "__headers__"},
)  # fmt: skip
PAYLOADS = [
    REGISTRATION,
    TRAINED,
    words.failure(JobRefused("too_few_patients", CANARY)),
    shareable({"__peer_props__": {"__identity_name__": "north"}, "__topic__": "__job_heartbeat__"}),
    {"job_id": ID, "code": 1, "reason": None},
    {"ref_id": f"R{ID}", "status": "ok", "state": {"start": 0, "count": 2}, "data": [b"1", b"2"]},
    AdminMessage(
        "reply_scheduler.check_resource", shareable({"_is_resource_enough": True, "_resource_reserve_token": ID})
    ),
    AdminMessage("reply_train.start_job", "OK"),
    error_reply("topic_not_allowed"),
]


def sieved(payload: object) -> tuple[Any, set[str]]:
    sieve = wire.Sieve("north")
    return sieve.payload(payload), sieve.lost


def plain(value: Any) -> Any:
    """Give everything that a message holds as tables that can be compared and searched."""
    match value:
        case FLContext():
            return plain(value.get_all_public_props())
        case AdminMessage():
            return plain({"topic": value.topic, "body": value.body, "headers": value.headers})
        case dict():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case np.ndarray():
            return value.tolist()
    return value


@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
def test_what_the_engine_needs_passes_whole(payload: Any) -> None:
    kept, lost = sieved(payload)
    assert lost == set()
    assert plain(kept) == plain(payload)
    assert type(kept) is type(payload)


def texts() -> st.SearchStrategy[str]:
    return st.text(max_size=20).map(lambda text: f"{text}{CANARY}{text}")


FOREIGN = st.recursive(
    st.one_of(texts(), texts().map(str.encode)),
    lambda inner: st.one_of(st.lists(inner, min_size=1, max_size=3), st.dictionaries(texts(), inner, min_size=1)),
    max_leaves=3,
)
BYTES_MAY_STAND = {
    name for name, check in FIELDS.items() if check is not None and (check(b"x", "north") or check([b"x"], "north"))
}


def tables(value: Any) -> list[Any]:
    """Give every table inside a message that a test can write to."""
    match value:
        case FLContext():
            return []
        case AdminMessage():
            return [value.headers, *tables(value.body)]
        case dict():
            return [value, *(table for item in value.values() for table in tables(item))]
    return []


def holds_canary(value: Any) -> bool:
    return CANARY in repr(plain(value))


@given(data=st.data(), foreign=FOREIGN)
def test_no_text_passes_in_any_field(data: st.DataObject, foreign: object) -> None:
    payload = copy.deepcopy(data.draw(st.sampled_from(PAYLOADS)))
    table = data.draw(st.sampled_from(tables(payload)))
    name = data.draw(st.one_of(texts(), st.sampled_from(sorted(set(FIELDS) - BYTES_MAY_STAND))))
    table[name] = foreign
    kept, lost = sieved(payload)
    assert lost
    assert not holds_canary(kept)
    assert CANARY.encode() not in b"".join(bytes(part) for part in fobs.dumps(plain(kept), buffer_list=True))


@given(name=st.sampled_from(sorted(BYTES_MAY_STAND)), text=texts())
def test_no_text_passes_where_bytes_may_stand(name: str, text: str) -> None:
    for value in (text, [text], {text: b"x"}, {"start": text}):
        kept, lost = sieved({name: value})
        assert lost
        assert not holds_canary(kept)


@given(text=texts())
def test_no_text_passes_in_a_context_or_as_the_body_of_an_answer(text: str) -> None:
    for payload in (
        shareable({"__peer_ctx__": context(**{text: text})}),
        shareable({"__peer_ctx__": context(__identity_name__=text)}),
        ok_reply("reply_train.abort", text),
        error_reply(text),
        ok_reply(text, "OK"),
        ok_reply("reply", "OK", meta={"info": text}),
        AdminMessage("reply_train.start_job", f"NVFLARE_ERROR: Start job execution exception: {text}"),
        AdminMessage("reply_train.start_job", {text: text}),
        AdminMessage("reply_train.start_job", text.encode()),
        text,
        text.encode(),
        [text],
    ):
        kept, lost = sieved(payload)
        assert not holds_canary(kept)
        assert lost or isinstance(payload, AdminMessage)


def test_an_error_of_the_engine_is_still_one() -> None:
    kept, _ = sieved(AdminMessage("reply_train.start_job", f"NVFLARE_ERROR: cannot open /archive/{CANARY}"))
    assert kept.body == FAILED
    assert kept.body.startswith("NVFLARE_ERROR")


@pytest.mark.parametrize(
    "headers",
    [
        requested("task", "register", client_name="north", client_type="regular", project_name="poc_tests"),
        streamed("server_command", "submit_update", **{"sm__cs": 1048576, "sm__os": 0}),
        requested("sm__STREAM", "sm__ACK", sm__id=1, sm__dt=4, sm__os=9, sm__sq=0),
        requested("admin", "admin", cn__msg_type="reply", cn__return_code="ok"),
    ],
)
def test_the_networks_own_headers_pass(headers: dict[str, Any]) -> None:
    sieve = wire.Sieve("north")
    assert sieve.headers(headers) == headers
    assert sieve.lost == set()


@given(data=st.data(), foreign=FOREIGN)
def test_no_text_passes_in_a_header(data: st.DataObject, foreign: object) -> None:
    name = data.draw(st.one_of(texts(), st.sampled_from(sorted(HEADERS))))
    sieve = wire.Sieve("north")
    kept = sieve.headers({**requested("task", "register"), name: foreign})
    assert sieve.lost
    assert not holds_canary(kept)
    nested = sieve.headers({**requested("task", "register"), "cn__original_headers": {name: foreign}})
    assert not holds_canary(nested)


def send(headers: dict[str, Any], payload: object = None) -> tuple[str, list[Message]]:
    """Send through the gate of a site named north; give what came back and what went out."""
    sent: list[Message] = []

    def real(cell: object, endpoint: object, message: Message) -> str:
        sent.append(message)
        return ""

    cell = SimpleNamespace(my_info=SimpleNamespace(fqcn=f"north.{ID}"))
    return wire._gated(real)(cell, None, Message(headers, payload)), sent


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, str]]:
    lines: list[tuple[object, str]] = []
    monkeypatch.setattr(refusal_log, "note", lambda topic, code: lines.append((topic, code)))
    return lines


@pytest.mark.parametrize(
    "headers",
    [
        requested("task", CANARY),
        requested(CANARY, "register"),
        requested("aux_communication", "fed.event"),
        requested("server_parent_listener", "x"),
        streamed("log_streaming", "log"),
        streamed("aux_communication", "fed.event"),
        streamed("return_only", f"aux_communication:{CANARY}"),
        requested("sm__STREAM", CANARY),
    ],
)
def test_a_message_of_an_unknown_kind_is_not_sent(headers: dict[str, Any], noted: list[tuple[object, str]]) -> None:
    result, sent = send(headers, {"job_id": ID})
    assert (result, sent) == ("filter_error", [])
    assert noted == [("words.request", "withheld")]


def test_an_answer_of_an_unknown_kind_holds_no_word(noted: list[tuple[object, str]]) -> None:
    headers = requested("admin", CANARY, cn__msg_type="reply", cn__return_code="process_exception", cn__error=CANARY)
    _, (answer,) = send(headers, ok_reply("reply", CANARY))
    assert not holds_canary(answer.headers)
    assert answer.get_header("cn__topic") == WITHHELD
    assert answer.get_header("cn__error") == WITHHELD
    assert answer.get_header("cn__req_id") == ID
    assert not holds_canary(answer.payload)
    assert ("words.cn__error", "withheld") in noted


def test_bytes_that_did_not_pass_the_sieve_stay(noted: list[tuple[object, str]]) -> None:
    for headers in (requested("task", "register"), streamed("server_command", "submit_update", sm__pe="bytes")):
        _, (message,) = send(headers, CANARY.encode())
        assert message.payload is None
    _, (message,) = send(streamed("server_command", "submit_update"), b"written down behind the sieve")
    assert message.payload == b"written down behind the sieve"


def test_what_stays_in_the_site_is_not_touched() -> None:
    headers = {**requested("client_command", "abort"), "cn__destination": f"north.{ID}", "anything": CANARY}
    _, (message,) = send(headers, {"anything": CANARY})
    assert message.payload == {"anything": CANARY}
