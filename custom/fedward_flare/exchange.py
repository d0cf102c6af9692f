"""NVFLARE's messages and our values: what is sent is packed here, what arrives is doubted here.

Weights and updates travel as one flat float32 array: NVFLARE needs a third less time for it than for a named array a
layer. An error travels as its stable code alone. Nothing that arrives is a path, a class or a text to show.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.shareable import ReservedHeaderKey, Shareable, make_reply

from fedward.errors import JobRefused, UpdateRefused
from fedward.federation.algorithms import Control
from fedward.federation.ckks import Encrypted
from fedward.federation.record import WORDS
from fedward.federation.round import DEADLINE_MISSED
from fedward.federation.secure_messages import Masked
from fedward.hospital import Evaluated, InferenceCounts, TrainedRound
from fedward.privacy.head import Head
from fedward.privacy.plan import Spent
from fedward.release.gate import CandidateFiles
from fedward.release.package import ReleaseParts
from fedward_flare.sum_masks import add_masked, masked_of
from fedward_flare.words import INTERNAL_ERROR

#: No passport or signature is larger (bytes).
_SMALL_PART = 1 << 20

_ROUND, _WEIGHTS, _HEADS = "fedward.round", "fedward.weights", "fedward.heads"
_CONTROL, _COUNTED = "fedward.control", "fedward.counted"
_UPDATE, _WEIGHT, _METRICS = "fedward.update", "fedward.weight", "fedward.metrics"
_MODEL, _PASSPORT, _SIGNATURE = "fedward.model", "fedward.passport", "fedward.signature"
_ERROR, _COUNTS = "fedward.error", "fedward.counts"
_DOCUMENT, _NON_INFERIOR = "fedward.document", "fedward.non_inferior"
_EPSILON, _DELTA, _HEAD = "fedward.epsilon", "fedward.delta", "fedward.head"

_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}")
_METRIC = re.compile(r"[a-z][a-z0-9_]{0,63}")
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class GlobalModel:
    """One round's model on its way to a site.

    Args:
        number: The round, from 1; the closing evaluation has the number after the last round's.
        weights: float32, shape ``(parameter,)``.
        heads: By site, the latest head of its privacy ledger that the server has seen.
        control: Under SCAFFOLD, the server's.
    """

    number: int
    weights: np.ndarray
    heads: Mapping[str, Head] = field(default_factory=dict)
    control: Control | None = None


def pack_model(model: GlobalModel) -> Shareable:
    """Make the message that brings a round's model to a site."""
    content = {_ROUND: model.number, _WEIGHTS: model.weights, **heads_content(model.heads)}
    control = model.control
    return _message(content if control is None else {**content, **_told(control)})


def unpack_model(message: Shareable) -> GlobalModel:
    """Read the message of :func:`pack_model`.

    Raises:
        UpdateRefused: it is not such a message.
    """
    number, heads = message.get(_ROUND), message.get(_HEADS)
    if type(number) is not int or number < 1 or not isinstance(heads, dict):
        raise UpdateRefused("malformed_message", f"expected a round's number and ledger heads, got {number}")
    return GlobalModel(
        number=number,
        weights=flat_weights(message.get(_WEIGHTS)),
        heads={site: head for site, value in heads.items() if (head := read_head(value)) is not None},
        control=_control(message.get(_CONTROL), message.get(_COUNTED)),
    )


def pack_trained(trained: TrainedRound) -> Shareable:
    """Make a site's answer to a round: its update (or masked vector), its public weight, the metrics that it shares."""
    if isinstance(trained.update, Masked | Encrypted):
        answer = _message(_about(trained))
        add_masked(answer, trained.update)
        return answer
    return _message({_UPDATE: trained.update, **_about(trained)})


def unpack_trained(answer: Shareable) -> TrainedRound:
    """Read a site's answer to a round.

    Raises:
        UpdateRefused, SumRefused: it is not such an answer.
    """
    told = unpack_evaluated(answer)
    update = told.masked or flat_weights(answer.get(_UPDATE))
    return TrainedRound(update, told.weight, told.metrics, told.spent, told.head)


def pack_evaluated(evaluated: Evaluated) -> Shareable:
    """Make a site's answer to the closing evaluation."""
    answer = _message(_about(evaluated))
    if evaluated.masked is not None:
        add_masked(answer, evaluated.masked)
    return answer


def unpack_evaluated(answer: Shareable) -> Evaluated:
    """Read a site's answer to the closing evaluation.

    Raises:
        UpdateRefused: it is not such an answer.
    """
    weight = answer.get(_WEIGHT)
    if type(weight) is not int or weight < 1:
        raise UpdateRefused("weight_invalid", f"expected a whole weight of 1 or more, got {weight!r}")
    spent, head = read_spent(answer)
    return Evaluated(
        weight=weight,
        metrics=_metrics(answer.get(_METRICS)),
        spent=spent,
        head=head,
        masked=masked_of(answer),
    )


def pack_release(parts: ReleaseParts) -> Shareable:
    """Make the message that brings a release to a site."""
    return _message({_MODEL: parts.model, _PASSPORT: parts.passport, _SIGNATURE: parts.signature})


def unpack_release(message: Shareable) -> ReleaseParts:
    """Read the message of :func:`pack_release`.

    Raises:
        UpdateRefused: it is not such a message.
    """
    parts = [message.get(key) for key in (_MODEL, _PASSPORT, _SIGNATURE)]
    if not all(isinstance(part, bytes) for part in parts) or any(len(part) > _SMALL_PART for part in parts[1:]):
        raise UpdateRefused("malformed_message", "expected a release's three files as bytes")
    return ReleaseParts(model=parts[0], passport=parts[1], signature=parts[2])


def pack_done(counts: InferenceCounts | None = None) -> Shareable:
    """Make a site's answer to a release or an inference job: done, and its rounded counts by verdict if any."""
    return _message({_COUNTS: dict(counts) if counts is not None else {}})


def unpack_counts(answer: Shareable) -> dict[str, int]:
    """Read a site's rounded counts by verdict; none after a release.

    Raises:
        UpdateRefused: they are not whole numbers under code names.
    """
    counts = answer.get(_COUNTS)
    if not isinstance(counts, dict) or len(counts) > 100 or not all(_is_count(*item) for item in counts.items()):
        raise UpdateRefused("malformed_message", "expected counts by verdict")
    return dict(counts)


def require_empty(message: Shareable) -> None:
    """Refuse a message that brings anything: inference runs what the hospital activated.

    Raises:
        JobRefused: ``foreign_model``.
    """
    brought = [str(key)[:64] for key in message if key != ReservedHeaderKey.HEADERS]
    if brought:
        raise JobRefused("foreign_model", f"expected an empty message, found {', '.join(brought)}")


def pack_candidate(files: CandidateFiles) -> Shareable:
    """Make the message that brings a gate's model to a site."""
    return _message({_MODEL: files.model, _DOCUMENT: files.document})


def unpack_candidate(message: Shareable) -> CandidateFiles:
    """Read the message of :func:`pack_candidate`.

    Raises:
        UpdateRefused: it is not such a message.
    """
    model, document = message.get(_MODEL), message.get(_DOCUMENT)
    if not isinstance(model, bytes) or not isinstance(document, bytes) or len(document) > _SMALL_PART:
        raise UpdateRefused("malformed_message", "expected a model and its job's document as bytes")
    return CandidateFiles(model=model, document=document)


def pack_bit(bit: bool) -> Shareable:
    """Make a site's answer at the gate: one bit and nothing else."""
    return _message({_NON_INFERIOR: bit})


def unpack_bit(answer: Shareable) -> bool:
    """Read a site's answer at the gate.

    Raises:
        UpdateRefused: it is not a bit.
    """
    bit = answer.get(_NON_INFERIOR)
    if type(bit) is not bool:
        raise UpdateRefused("malformed_message", "expected one bit")
    return bit


def no_answer() -> Shareable:
    """Make what stands for the answer of a site that gave none."""
    answer = make_reply(ReturnCode.COMMUNICATION_ERROR)
    answer[_ERROR] = DEADLINE_MISSED
    return answer


def failure_of(answer: Shareable) -> str | None:
    """Give the code of an answer that reports a failure, or None for any other answer."""
    if answer.get_return_code() == ReturnCode.OK:
        return None
    code = answer.get(_ERROR)
    # A failure is never an outcome, whatever it calls itself.
    if isinstance(code, str) and _CODE.fullmatch(code) and code not in WORDS:
        return code
    return INTERNAL_ERROR


def size_of(value: object) -> int:
    """Give the bytes of what a message carries: arrays and byte strings as they are, all else as it is written."""
    match value:
        case np.ndarray():
            return value.nbytes
        case bytes() | bytearray():
            return len(value)
        case Mapping():
            return sum(len(str(key)) + size_of(item) for key, item in value.items())
        case list() | tuple():
            return sum(size_of(item) for item in value)
    return len(str(value).encode())


def spent_content(spent: Spent | None, head: Head | None) -> dict[str, Any]:
    """Give what an answer says of the site's privacy ledger."""
    return {
        _EPSILON: spent.epsilon if spent else None,
        _DELTA: spent.delta if spent else None,
        _HEAD: (head.length, head.keyed_hash) if head else None,
    }


def read_spent(answer: Shareable) -> tuple[Spent | None, Head | None]:
    """Read what an answer says of the site's privacy ledger.

    Raises:
        UpdateRefused: ``malformed_message``.
    """
    return _spent(answer.get(_EPSILON), answer.get(_DELTA)), read_head(answer.get(_HEAD))


def _about(answer: TrainedRound | Evaluated) -> dict[str, Any]:
    told = spent_content(answer.spent, answer.head)
    return {_WEIGHT: answer.weight, _METRICS: dict(answer.metrics), **told}


def _spent(epsilon: object, delta: object) -> Spent | None:
    if epsilon is None and delta is None:
        return None
    if type(epsilon) is not float or type(delta) is not float or not (0 <= epsilon < np.inf and 0 < delta < 1):
        raise UpdateRefused("malformed_message", f"expected a site's epsilon and delta, got {epsilon}, {delta}")
    return Spent(epsilon, delta)


def _told(control: Control) -> dict[str, Any]:
    return {_CONTROL: control.numbers, _COUNTED: dict(control.counted)}


def _control(numbers: object, counted: object) -> Control | None:
    if numbers is None:
        return None
    if not isinstance(counted, dict) or not all(type(n) is int and n >= 1 for n in counted.values()):
        raise UpdateRefused("malformed_message", "expected the last counted round of each site beside the control")
    return Control(flat_weights(numbers), {str(site): number for site, number in counted.items()})


def flat_weights(array: object) -> np.ndarray:
    """Give back what is a flat array of weights.

    Raises:
        UpdateRefused: ``malformed_message``.
    """
    if not isinstance(array, np.ndarray) or array.dtype != np.float32 or array.ndim != 1 or array.size == 0:
        found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise UpdateRefused("malformed_message", f"expected one flat float32 array, got {found}")
    return array


def heads_content(heads: Mapping[str, Head]) -> dict[str, Any]:
    """Give what a message says of the sites' privacy ledgers, as the server has seen them."""
    return {_HEADS: {site: (head.length, head.keyed_hash) for site, head in heads.items()}}


def read_seen(message: Shareable, *, site: str) -> Head | None:
    """Read what the server has seen of this site's ledger."""
    heads = message.get(_HEADS)
    return read_head(heads.get(site)) if isinstance(heads, dict) else None


def read_head(value: object) -> Head | None:
    """Read a ledger's head; what is none is as good as not there."""
    match value:
        case (int(length), str(keyed_hash)) if length >= 0 and _HASH.fullmatch(keyed_hash):
            return Head(length, keyed_hash)
    return None


def _message(content: Mapping[str, Any]) -> Shareable:
    message = Shareable()
    message.update(content)
    return message


def _metrics(metrics: object) -> dict[str, float]:
    if not isinstance(metrics, dict) or len(metrics) > 100 or not all(_is_metric(*item) for item in metrics.items()):
        raise UpdateRefused("malformed_message", "expected finite numbers under metric names")
    return {name: float(value) for name, value in metrics.items()}


def _is_metric(name: object, value: object) -> bool:
    is_named = isinstance(name, str) and _METRIC.fullmatch(name) is not None
    return is_named and type(value) in (int, float) and bool(np.isfinite(value))  # type: ignore[call-overload]


def _is_count(name: object, value: object) -> bool:
    return isinstance(name, str) and _CODE.fullmatch(name) is not None and type(value) is int and value >= 0
