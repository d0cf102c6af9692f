"""The hospitals' own models in NVFLARE's messages: packed here, and doubted here when they come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from nvflare.apis.shareable import Shareable

from fedward.errors import UpdateRefused
from fedward.federation.consent import Consent, GivenModel, OwnModels, Weights
from fedward.privacy.head import Head
from fedward_flare import exchange
from fedward_flare.exchange import flat_weights

_CONSENT, _CONSENTS = "fedward.consent", "fedward.consents"
_MODEL, _MODELS, _HEAD = "fedward.local_model", "fedward.local_models", "fedward.head"


def pack_consent(consent: Consent) -> Shareable:
    """Make a site's yes."""
    answer = Shareable()
    answer[_CONSENT] = consent.to_bytes()
    return answer


def unpack_consent(answer: Shareable) -> Consent:
    """Read a site's yes.

    Raises:
        UpdateRefused, SumRefused: it is none.
    """
    return _consent(answer.get(_CONSENT))


def pack_consents(consents: Sequence[Consent], heads: Mapping[str, Head]) -> Shareable:
    """Ask a site for its own model, show it that all have said yes, and tell it which head of its ledger is known."""
    message = Shareable()
    message.update(exchange.heads_content(heads))
    message[_CONSENTS] = [one.to_bytes() for one in consents]
    return message


def unpack_consents(message: Shareable) -> tuple[Consent, ...]:
    """Read what a server shows of the sites' yes; nothing where it shows nothing.

    Raises:
        UpdateRefused, SumRefused: it is none.
    """
    found = message.get(_CONSENTS, [])
    if not isinstance(found, list):
        raise UpdateRefused("malformed_message", f"expected a list of consents, got {type(found).__name__}")
    return tuple(_consent(one) for one in found)


def pack_local_model(given: GivenModel | None) -> Shareable:
    """Make a site's answer: its own model, or nothing where it has none."""
    answer = Shareable()
    if given is not None:
        answer[_MODEL], answer[_HEAD] = given.weights, (given.head.length, given.head.keyed_hash)
    return answer


def unpack_local_model(answer: Shareable) -> GivenModel | None:
    """Read a site's own model.

    Raises:
        UpdateRefused: it is no flat float32 array of finite numbers, or comes without a ledger's head.
    """
    found = answer.get(_MODEL)
    if found is None:
        return None
    head = exchange.read_head(answer.get(_HEAD))
    if head is None:
        raise UpdateRefused("malformed_message", "expected the head of the site's ledger beside its own model")
    return GivenModel(_finite(flat_weights(found)), head)


def own_models_content(brought: OwnModels) -> dict[str, Any]:
    """Give what a message says of the sites' own models; nothing where there are none."""
    if not brought.consents:
        return {}
    return {_CONSENTS: [one.to_bytes() for one in brought.consents], _MODELS: dict(brought.models)}


def read_own_models(message: Shareable) -> OwnModels:
    """Read what a message says of the sites' own models.

    Raises:
        UpdateRefused, SumRefused: it is not that.
    """
    models = message.get(_MODELS, {})
    if not isinstance(models, Mapping) or not all(isinstance(name, str) for name in models):
        raise UpdateRefused("malformed_message", "expected models by the hospitals' names")
    return OwnModels(
        unpack_consents(message), {name: _finite(flat_weights(weights)) for name, weights in models.items()}
    )


def _consent(content: object) -> Consent:
    if not isinstance(content, bytes):
        raise UpdateRefused("malformed_message", f"expected a consent as bytes, got {type(content).__name__}")
    return Consent.from_bytes(content)


def _finite(weights: Weights) -> Weights:
    if not np.isfinite(weights).all():
        raise UpdateRefused("not_finite", "a site's own model holds NaN or infinite values")
    return weights
