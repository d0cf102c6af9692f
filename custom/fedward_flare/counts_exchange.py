"""A site's noised counts in NVFLARE's messages: packed here, and doubted here when they come."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

import numpy as np
from nvflare.apis.shareable import Shareable

from fedward.errors import UpdateRefused
from fedward.evaluation.outcome import LOCAL, RELEASE
from fedward.federation.consent import NO_MODELS, OwnModels
from fedward.privacy.head import Head
from fedward.site_counts import Counted
from fedward_flare import exchange
from fedward_flare.models_exchange import own_models_content
from fedward_flare.sum_masks import add_masked, masked_of

_NOISED, _NOISE, _ROWS = "fedward.noised", "fedward.noise_multiplier", "fedward.rows"
_OTHERS = "fedward.others"

_ROW = re.compile(r"[a-z][a-z_]{0,63}")

#: The rows that travel under their names.
OWN_ROWS = frozenset({RELEASE, LOCAL})

#: No site gives more rows of exact counts.
_MOST_ROWS = 8


def pack_ask(heads: Mapping[str, Head], brought: OwnModels = NO_MODELS) -> Shareable:
    """Ask the sites for their counts, tell each the head of its ledger as the server has seen it, and bring models."""
    message = Shareable()
    message.update(exchange.heads_content(heads))
    message.update(own_models_content(brought))
    return message


def pack_counted(counted: Counted) -> Shareable:
    """Make a site's answer; rows of the other sites' models travel without their names, in the names' order."""
    answer = Shareable()
    answer.update(exchange.spent_content(counted.spent, counted.head))
    answer[_NOISE] = counted.noise_multiplier
    others = sorted(set(counted.rows) - OWN_ROWS)
    answer[_ROWS] = {name: row for name, row in counted.rows.items() if name in OWN_ROWS}
    if others:
        answer[_OTHERS] = np.concatenate([counted.rows[name] for name in others])
    if isinstance(counted.noised, np.ndarray):
        answer[_NOISED] = counted.noised
    else:
        add_masked(answer, counted.noised)
    return answer


def unpack_counted(answer: Shareable, *, size: int, others: Collection[str] = ()) -> Counted:
    """Read a site's answer.

    Args:
        answer: What came.
        size: How many counts there are.
        others: The rows' names of the other sites' models that this one was brought.

    Raises:
        UpdateRefused, SumRefused: it is not such an answer.
    """
    spent, head = exchange.read_spent(answer)
    noise, rows = answer.get(_NOISE), answer.get(_ROWS)
    if type(noise) is not float or not 0 < noise < np.inf or spent is None or head is None:
        raise UpdateRefused("malformed_message", f"expected a noise multiplier, a cost and a head, got {noise!r}")
    if not isinstance(rows, dict) or len(rows) > _MOST_ROWS:
        raise UpdateRefused("malformed_message", "expected rows of counts by name")
    if not all(isinstance(name, str) and _ROW.fullmatch(name) for name in rows):
        raise UpdateRefused("malformed_message", "expected rows of counts by name")
    exact = {name: _counts(row, size) for name, row in rows.items()}
    if answer.get(_OTHERS) is not None:
        of_others = _counts(answer[_OTHERS], size * len(others)).reshape(len(others), size)
        exact |= dict(zip(sorted(others), of_others, strict=True))
    noised = masked_of(answer)
    return Counted(noised or _counts(answer.get(_NOISED), size), spent, noise, exact, head)


def _counts(array: object, size: int) -> np.ndarray:
    if not isinstance(array, np.ndarray) or array.dtype != np.float64 or array.shape != (size,):
        raise UpdateRefused("malformed_message", f"expected float64 ({size},), got {type(array).__name__}")
    if not np.isfinite(array).all():
        raise UpdateRefused("not_finite", "the counts hold NaN or infinite values")
    return array
