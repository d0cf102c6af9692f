"""The firewall for the engine's own words: every message passes here before a process of a site sends it.

NVFLARE writes texts of its own into what it sends: the words of an exception, an address, settings that it takes for
the site's description. So :func:`close_wire` stands at the two places through which all of it goes: where a message is
turned into bytes, and where its bytes are handed to the network. A request of a kind that is not listed is not sent; of
every other message each field passes its check of :mod:`fedward_flare.wire_fields` or is left out, or one word stands
for it; and the hospital's audit gets a line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.fuel.f3.cellnet import cell as stream_layer
from nvflare.fuel.f3.cellnet import core_cell as message_layer
from nvflare.fuel.f3.cellnet.core_cell import CoreCell
from nvflare.fuel.f3.cellnet.defs import CellChannel, MessageHeaderKey, ReturnCode
from nvflare.fuel.f3.message import Message
from nvflare.fuel.f3.streaming.download_service import OBJ_DOWNLOADER_CHANNEL, OBJ_DOWNLOADER_TOPIC
from nvflare.fuel.f3.streaming.stream_const import (
    STREAM_ACK_TOPIC,
    STREAM_CHANNEL,
    STREAM_DATA_TOPIC,
    STREAM_ERROR_TOPIC,
    StreamHeaderKey,
)
from nvflare.fuel.utils.fobs import FOBSContextKey
from nvflare.private.admin_defs import Message as AdminMessage
from nvflare.private.admin_defs import MsgHeader
from nvflare.private.admin_defs import ReturnCode as AdminCode
from nvflare.private.defs import ERROR_MSG_PREFIX

from fedward_flare import refusal_log, words
from fedward_flare.wire_fields import AUX_TOPICS, FAILED, FIELDS, HEADERS, NESTED, WITHHELD, Check

_Pair = tuple[object, object]

#: What a site asks of the server, by channel and topic.
REQUESTS: frozenset[_Pair] = frozenset(
    {
        *((CellChannel.SERVER_MAIN, topic) for topic in ("challenge", "register", "heart_beat", "quit")),
        (CellChannel.SERVER_MAIN, "report_job_failure"),
        ("cellnet.channel", "bye"),
        ("cellnet.channel", "ping"),
    }
)

#: What a site sends and answers in pieces.
STREAMS: frozenset[_Pair] = frozenset(
    {
        (CellChannel.SERVER_COMMAND, "get_task"),
        (CellChannel.SERVER_COMMAND, "submit_update"),
        (OBJ_DOWNLOADER_CHANNEL, OBJ_DOWNLOADER_TOPIC),
        *((CellChannel.AUX_COMMUNICATION, topic) for topic in AUX_TOPICS),
    }
)
_PIECES = STREAMS | {(CellChannel.RETURN_ONLY, f"{channel}:{topic}") for channel, topic in STREAMS}
_STREAM_TOPICS = frozenset({STREAM_DATA_TOPIC, STREAM_ACK_TOPIC, STREAM_ERROR_TOPIC})

#: What the engine writes into every registration and the server only prints: withheld without a line in the audit.
_ALWAYS_WITHHELD = frozenset({"client_ip"})

_CHANNEL, _TOPIC = MessageHeaderKey.CHANNEL, MessageHeaderKey.TOPIC
_DEEPEST = 12


class Sieve:
    """What is left of one message, and which fields were not.

    Args:
        own: The site's name.
    """

    def __init__(self, own: str) -> None:
        self._own = own
        self.lost: set[str] = set()

    def payload(self, value: object) -> object:
        """Give what may leave of a message's content."""
        if value is None or isinstance(value, Mapping | FLContext | AdminMessage):
            return self._table(value, FIELDS, _DEEPEST)
        self.lost.add("payload")
        return None

    def headers(self, headers: Mapping[str, Any]) -> dict[str, Any]:
        """Give what may leave of a message's headers; channel and topic are the caller's to check."""
        kept: dict[str, Any] = {}
        for name in (_CHANNEL, _TOPIC, StreamHeaderKey.CHANNEL, StreamHeaderKey.TOPIC):
            if name in headers:
                kept[name] = headers[name]
        if MessageHeaderKey.ORIGINAL_HEADERS in headers:
            original = headers[MessageHeaderKey.ORIGINAL_HEADERS]
            kept[MessageHeaderKey.ORIGINAL_HEADERS] = self._table(original, HEADERS, 1)
        rest = {name: value for name, value in headers.items() if name not in kept}
        return {**self._fields(rest, HEADERS, 1), **kept}

    def _table(self, value: object, fields: Mapping[str, Check | None], depth: int) -> Any:
        match value:
            case FLContext():
                context = FLContext()
                context.set_public_props(self._fields(value.get_all_public_props(), fields, depth))
                return context
            case AdminMessage():
                return self._admin_message(value, depth)
            case Shareable():
                return _shareable(self._fields(value, fields, depth))
            case Mapping():
                return self._fields(value, fields, depth)
            case None:
                return None
        self.lost.add("table")
        return {}

    def _fields(self, table: Mapping[Any, Any], fields: Mapping[str, Check | None], depth: int) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        for name, value in table.items():
            if name in _ALWAYS_WITHHELD:
                kept[name] = WITHHELD
            elif type(name) is not str or name not in fields or depth <= 0:
                self.lost.add("other")
            elif (check := fields[name]) is NESTED:
                kept[name] = self._table(value, fields, depth - 1)
            elif check(value, self._own):
                kept[name] = value
            else:
                self.lost.add(name)
                if isinstance(value, str):
                    kept[name] = WITHHELD
        return kept

    def _admin_message(self, message: AdminMessage, depth: int) -> AdminMessage:
        """Keep of an answer to a request of the server its sort, our codes, and what it says of resources."""
        topic = message.topic if message.topic in _ADMIN_TOPICS else WITHHELD
        is_ok = message.headers.get(MsgHeader.RETURN_CODE) == AdminCode.OK
        kept = AdminMessage(topic, self._body(message.body, depth, is_ok=is_ok))
        kept.id = message.id
        kept.headers = self._fields(message.headers, FIELDS, depth - 1)
        return kept

    def _body(self, body: object, depth: int, *, is_ok: bool) -> object:
        if isinstance(body, Mapping):
            return self._table(body, FIELDS, depth - 1)
        text = body if isinstance(body, str) else ""
        if text.lower() == "ok" or text in words.CODES:
            return text
        if is_ok:
            return "ok"
        return FAILED if text.startswith(ERROR_MSG_PREFIX) else WITHHELD


_ADMIN_TOPICS = frozenset({"reply"})


def close_wire(topics: frozenset[str]) -> None:
    """Stand at the engine's exits in this process; called again it changes nothing.

    Args:
        topics: What the server may ask of a site's parent process; the answers' topics follow from them.

    Raises:
        RuntimeError: the engine is not the one that this gate was made for.
    """
    global _ADMIN_TOPICS
    _ADMIN_TOPICS = frozenset({"reply", *(f"reply_{topic}" for topic in topics)})
    if is_closed():
        return
    if stream_layer.encode_payload is not message_layer.encode_payload:
        raise RuntimeError("the engine writes its messages down in another way")
    stream_layer.encode_payload = _sieved(stream_layer.encode_payload)
    CoreCell._send_to_endpoint = _gated(CoreCell._send_to_endpoint)


def is_closed() -> bool:
    """Whether every message of this process passes the gate."""
    doors = (stream_layer.encode_payload, CoreCell._send_to_endpoint)
    return all(getattr(door, "fedward_wire", False) for door in doors)


def may_be_sent(headers: Mapping[str, Any]) -> bool:
    """Whether a request, or a piece of a stream, is of a listed kind."""
    kind = headers.get(_CHANNEL), headers.get(_TOPIC)
    if kind[0] != STREAM_CHANNEL:
        return kind in REQUESTS
    inner = headers.get(StreamHeaderKey.CHANNEL), headers.get(StreamHeaderKey.TOPIC)
    return kind[1] in _STREAM_TOPICS and (inner in _PIECES or inner == (None, None))


def _sieved(encode: Callable[..., int]) -> Callable[..., int]:
    """Sieve what is sent in pieces before it is written down as bytes."""

    @wraps(encode)
    def sieved(message: Message, encoding_key: str = StreamHeaderKey.PAYLOAD_ENCODING, **more: Any) -> int:
        if not message.get_header(encoding_key):
            cell = (more.get("fobs_ctx") or {}).get(FOBSContextKey.CORE_CELL)
            sieve = Sieve(_own_name(cell))
            message.payload = sieve.payload(message.payload)
            _note(sieve.lost)
        return encode(message, encoding_key, **more)

    sieved.fedward_wire = True  # type: ignore[attr-defined]
    return sieved


def _gated(send: Callable[..., str]) -> Callable[..., str]:
    """Let out what leaves the site only through the sieve; what stays between its own processes is not touched."""

    @wraps(send)
    def gated(cell: CoreCell, to_endpoint: Any, message: Message) -> str:
        headers, own = message.headers or {}, _own_name(cell)
        if str(headers.get(MessageHeaderKey.DESTINATION, "")).split(".")[0] == own:
            return send(cell, to_endpoint, message)
        is_answer = headers.get(MessageHeaderKey.MSG_TYPE) in ("reply", "return")
        if not is_answer and not may_be_sent(headers):
            _note({"request"})
            return str(ReturnCode.FILTER_ERROR)
        sieve = Sieve(own)
        kept = Message(sieve.headers(headers), _content(sieve, headers, message.payload))
        if is_answer:
            _name_kind(kept)
        _note(sieve.lost)
        return send(cell, to_endpoint, kept)

    gated.fedward_wire = True  # type: ignore[attr-defined]
    return gated


def _content(sieve: Sieve, headers: Mapping[str, Any], payload: Any) -> Any:
    """Give what may leave: bytes only where they were written down behind the sieve, here or in the job's process."""
    if not isinstance(payload, bytes | bytearray | memoryview | list):
        return sieve.payload(payload)
    inner = headers.get(StreamHeaderKey.CHANNEL), headers.get(StreamHeaderKey.TOPIC)
    is_piece = inner in _PIECES and headers.get(StreamHeaderKey.PAYLOAD_ENCODING) in ("fobs", "none")
    if is_piece or headers.get(MessageHeaderKey.PAYLOAD_ENCODING) == "fobs" or not payload:
        return payload
    sieve.lost.add("payload")
    return None


def _name_kind(message: Message) -> None:
    """Keep the kind of an answer where it is one of ours; whoever asked knows it by its id."""
    for name, known in ((_CHANNEL, _CHANNELS), (_TOPIC, _TOPICS)):
        if message.get_header(name) not in known:
            message.set_header(name, WITHHELD)


_CHANNELS = frozenset(str(channel) for channel, _ in REQUESTS | STREAMS) | {CellChannel.CLIENT_MAIN}
_TOPICS = frozenset(str(topic) for _, topic in REQUESTS | STREAMS) | {"admin"}


def _own_name(cell: CoreCell | None) -> str:
    if cell is None:
        return ""
    return str(cell.my_info.fqcn).split(".")[0]


def _shareable(content: Mapping[str, Any]) -> Shareable:
    message = Shareable()
    message.update(content)
    return message


def _note(lost: set[str]) -> None:
    for name in sorted(lost):
        refusal_log.note(f"words.{name}", "withheld")
