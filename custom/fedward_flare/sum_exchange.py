"""The encrypted sum's messages in NVFLARE's: packed here, and doubted here when they come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from nvflare.apis.shareable import Shareable

from fedward.errors import SumRefused
from fedward.federation.secure_messages import Box, Opened, Receipt, SetUp, Value, Vote

_ATTEMPT, _FIRST, _ROUND = "fedward.attempt", "fedward.first_round", "fedward.round"
_SET_UP, _SET_UPS, _BOXES = "fedward.set_up", "fedward.set_ups", "fedward.boxes"
_RECEIPTS = "fedward.receipts"
_VOTE, _VOTES, _OPENED = "fedward.vote", "fedward.votes", "fedward.opened"

#: No message holds more values.
_MOST = 10_000

V = TypeVar("V", bound=Value)


def pack_begin(*, attempt: int, first_round: int) -> Shareable:
    """Ask for a set-up."""
    return _message(**{_ATTEMPT: attempt, _FIRST: first_round})


def unpack_begin(message: Shareable) -> tuple[int, int]:
    """Give attempt and first round.

    Raises:
        SumRefused: ``malformed_message``.
    """
    return _number(message, _ATTEMPT), _number(message, _FIRST)


def pack_set_up(set_up: SetUp) -> Shareable:
    """Answer with a set-up."""
    return _message(**{_SET_UP: set_up.to_bytes()})


def unpack_set_up(answer: Shareable) -> SetUp:
    """Give the set-up.

    Raises:
        SumRefused: ``malformed_message``.
    """
    return _one(answer, _SET_UP, SetUp)


def pack_set_ups(set_ups: Sequence[SetUp], *, first_round: int) -> Shareable:
    """Bring everybody's set-up to the sites."""
    return _message(**{_SET_UPS: _all(set_ups), _FIRST: first_round})


def unpack_set_ups(message: Shareable) -> tuple[int, tuple[SetUp, ...]]:
    """Give the first round and all set-ups.

    Raises:
        SumRefused: ``malformed_message``.
    """
    return _number(message, _FIRST), _many(message, _SET_UPS, SetUp)


def pack_boxes(boxes: Sequence[Box]) -> Shareable:
    """Answer with what was dealt to the peers."""
    return _message(**{_BOXES: _all(boxes)})


def add_boxes(message: Shareable, boxes: Sequence[Box]) -> None:
    """Put dealt shares into a message."""
    message[_BOXES] = _all(boxes)


def boxes_of(message: Shareable) -> tuple[Box, ...]:
    """Give the dealt shares in a message, none where it has none.

    Raises:
        SumRefused: ``malformed_message``.
    """
    return _many(message, _BOXES, Box) if _BOXES in message else ()


def pack_survivors(number: int, survivors: Sequence[Receipt], votes: Sequence[Vote] = ()) -> Shareable:
    """Tell the survivors who is in the sum; with the votes, ask them to open their shares."""
    return _message(**{_ROUND: number, _RECEIPTS: _all(survivors), _VOTES: _all(votes)})


def unpack_survivors(message: Shareable) -> tuple[int, tuple[Receipt, ...], tuple[Vote, ...]]:
    """Give round, survivors and votes.

    Raises:
        SumRefused: ``malformed_message``.
    """
    return _number(message, _ROUND), _many(message, _RECEIPTS, Receipt), _many(message, _VOTES, Vote)


def pack_vote(vote: Vote) -> Shareable:
    """Answer with a vote."""
    return _message(**{_VOTE: vote.to_bytes()})


def unpack_vote(answer: Shareable) -> Vote:
    """Give the vote.

    Raises:
        SumRefused: ``malformed_message``.
    """
    return _one(answer, _VOTE, Vote)


def pack_opened(opened: Opened) -> Shareable:
    """Answer with opened shares."""
    return _message(**{_OPENED: opened.to_bytes()})


def unpack_opened(answer: Shareable) -> Opened:
    """Give the opened shares.

    Raises:
        SumRefused: ``malformed_message``.
    """
    return _one(answer, _OPENED, Opened)


def _message(**content: object) -> Shareable:
    message = Shareable()
    message.update(content)
    return message


def _all(values: Sequence[Value]) -> list[bytes]:
    return [value.to_bytes() for value in values]


def _one(message: Shareable, key: str, kind: type[V]) -> V:
    content = message.get(key)
    if not isinstance(content, bytes):
        raise SumRefused("malformed_message", f"expected a {kind.__name__} as bytes")
    return kind.from_bytes(content)


def _many(message: Shareable, key: str, kind: type[V]) -> tuple[V, ...]:
    contents = message.get(key)
    if not isinstance(contents, list | tuple) or len(contents) > _MOST:
        raise SumRefused("malformed_message", f"expected a list of {kind.__name__}")
    if not all(isinstance(content, bytes) for content in contents):
        raise SumRefused("malformed_message", f"expected each {kind.__name__} as bytes")
    return tuple(kind.from_bytes(content) for content in contents)


def _number(message: Shareable, key: str) -> int:
    number = message.get(key)
    if type(number) is not int or number < 0:
        raise SumRefused("malformed_message", f"expected a whole number under {key}, got {number!r}")
    return number
