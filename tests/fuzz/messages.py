"""What the server and the peers of a sum send."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
from hypothesis import strategies as st
from nvflare.apis.shareable import Shareable

import secure_cases
from fedward.federation.consent import Consent, GivenModel, OwnModels
from fedward.federation.secure_agreement import read_set_ups
from fedward.federation.secure_messages import Box, Masked, Opened, Receipt, SetUp, Value, Vote
from fedward.federation.secure_sum import ServerRound
from fedward.hospital import Evaluated, TrainedRound
from fedward.identity import canonical
from fedward.privacy.head import Head
from fedward.privacy.plan import Spent
from fedward.site_counts import Counted
from fedward_flare import counts_exchange, exchange, models_exchange, sum_exchange
from fedward_flare.progress import pack_progress, parse_progress
from fuzz.mutations import VALUES, changed_bytes, changed_value
from fuzz.refusals import expect_refusal
from secure_cases import MODEL, NAMES, session
from trust_cases import NOW


@cache
def secure_federation() -> tuple[secure_cases.Federation, dict[str, Any]]:
    """Give a federation that is set up, and one honest message of each kind."""
    federation = secure_cases.set_up(session(rounds=2))
    vectors = {name: np.arange(4, dtype=np.uint32) for name in NAMES[:3]}
    masked = {name: federation.sites[name].mask(1, vector) for name, vector in vectors.items()}
    server = ServerRound(federation.agreement, 1, model_sha256=MODEL)
    for name, one in masked.items():
        server.receive(name, one)
    survivors = server.close()
    votes = [federation.sites[name].vote(1, survivors) for name in NAMES[:3]]
    opened = federation.sites[NAMES[0]].open(1, survivors, votes)
    set_ups, boxes = federation.set_ups, federation.boxes
    honest = {"masked": masked, "survivors": survivors, "votes": votes, "opened": opened}
    return federation, {**honest, "set_ups": list(set_ups.values()), "boxes": list(boxes)}


MESSAGES: dict[str, type[Value]] = {"set_up": SetUp, "box": Box, "receipt": Receipt, "vote": Vote, "opened": Opened}


def set_up_messages() -> st.SearchStrategy[Any]:
    _, honest = secure_federation()
    samples = {
        "set_up": honest["set_ups"][0],
        "box": honest["boxes"][0],
        "receipt": honest["survivors"][0],
        "vote": honest["votes"][0],
        "opened": honest["opened"],
    }
    parts = [st.tuples(st.just(kind), changed_bytes(sample.to_bytes())) for kind, sample in samples.items()]
    fields = [
        st.tuples(st.just(kind), changed_value(json.loads(sample.to_bytes())).map(_json_bytes))
        for kind, sample in samples.items()
    ]
    content = json.loads(honest["set_ups"][0].content)
    shareables = st.fixed_dictionaries({}, optional={name: anything() for name in _SUM_FIELDS})
    return st.one_of(
        *parts,
        *fields,
        st.tuples(st.just("signed"), changed_value(content)),
        st.tuples(st.just("message"), shareables),
    )


_SUM_FIELDS = ("attempt", "first_round", "round", "set_up", "set_ups", "boxes", "receipts", "vote", "votes", "opened")


def anything() -> st.SearchStrategy[Any]:
    arrays = st.sampled_from(
        [np.zeros(4, np.float32), np.full(4, np.nan, np.float32), np.zeros((2, 2), np.uint32), np.array(["text"]),
         np.zeros(0, np.float32), np.zeros(3, object)]
    )  # fmt: skip
    return st.one_of(VALUES, st.binary(max_size=40), arrays, st.lists(st.binary(max_size=20), max_size=4))


def _json_bytes(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", errors="surrogatepass")


def read_set_up_message(given: tuple[str, Any]) -> None:
    kind, content = given
    if kind == "message":
        message = Shareable()
        message.update({f"fedward.{name}": value for name, value in content.items()})
        for unpack in (
            sum_exchange.unpack_begin,
            sum_exchange.unpack_set_up,
            sum_exchange.unpack_set_ups,
            sum_exchange.boxes_of,
            sum_exchange.unpack_survivors,
            sum_exchange.unpack_vote,
            sum_exchange.unpack_opened,
        ):
            expect_refusal(lambda unpack=unpack: unpack(message))
    elif kind == "signed":
        expect_refusal(lambda: _take(canonical.encode(content)))
    else:
        expect_refusal(lambda: _use(MESSAGES[kind].from_bytes(content)))


def _take(content: bytes) -> None:
    """Let every hospital read a set-up that one of them signed."""
    federation, honest = secure_federation()
    signer = federation.sites[NAMES[0]].signer
    signature = signer.sign(content, purpose="secure-sum-set-up")
    changed = SetUp(content=content, signature=signature, certificate=signer.certificate)
    read_set_ups(
        [changed, *honest["set_ups"][1:]], session(rounds=2), roster=federation.sites[NAMES[1]].roster, now=NOW
    )


def _use(message: Value) -> None:
    federation, honest = secure_federation()
    server = ServerRound(federation.agreement, 1, model_sha256=MODEL)
    site = federation.sites[NAMES[1]]
    match message:
        case SetUp():
            read_set_ups([message, *honest["set_ups"][1:]], session(rounds=2), roster=site.roster, now=NOW)
        case Box():
            site.take_shares([message])
        case Receipt():
            server.receive(message.site, Masked(message, np.zeros(4, np.uint32)))
        case Vote():
            site.open(1, honest["survivors"], [message])
        case Opened():
            for name, masked in honest["masked"].items():
                server.receive(name, masked)
            server.close()
            server.unmask([message, *[honest["opened"]] * 2])


def updates() -> st.SearchStrategy[Any]:
    _, honest = secure_federation()
    masked = honest["masked"][NAMES[0]]
    about: dict[str, Any] = {"weight": 10, "metrics": {"validation_score": 0.5}}
    trained = [
        dict(exchange.pack_trained(TrainedRound(np.ones(4, np.float32), **about))),
        dict(exchange.pack_trained(TrainedRound(masked, **about))),
        dict(exchange.pack_evaluated(Evaluated(**about))),
        dict(counts_exchange.pack_counted(_counted(np.ones(4)))),
        dict(counts_exchange.pack_counted(_counted(masked))),
        dict(exchange.pack_bit(True)),
        dict(models_exchange.pack_consent(_CONSENT)),
        dict(models_exchange.pack_local_model(GivenModel(np.ones(4, np.float32), Head(7, "ab" * 32)))),
        models_exchange.own_models_content(OwnModels((_CONSENT,), {"east": np.ones(4, np.float32)})),
        dict(exchange.pack_model(exchange.GlobalModel(1, np.ones(4, np.float32)))),
    ]
    return st.tuples(
        st.sampled_from(trained),
        st.dictionaries(st.sampled_from(_ANSWER_FIELDS), anything(), max_size=3),
        changed_bytes(masked.receipt.to_bytes()),
        st.lists(st.integers(0, 2**32 - 1), max_size=6),
    )


_CONSENT = Consent(site="east", model_sha256="ab" * 32, signature=b"s", certificate=b"c")


def _counted(noised: Any) -> Counted:
    return Counted(noised, Spent(0.5, 1e-5), 1.5, {"release": np.ones(4)}, Head(7, "ab" * 32))


_ANSWER_FIELDS = (
    "fedward.noised", "fedward.noise_multiplier", "fedward.rows", "fedward.non_inferior", "fedward.document",
    "fedward.weight", "fedward.metrics", "fedward.epsilon", "fedward.delta", "fedward.head", "fedward.update",
    "fedward.vector", "fedward.round", "fedward.weights", "fedward.heads", "fedward.counts", "fedward.receipt",
    "fedward.error", "fedward.model", "fedward.passport", "fedward.signature", "fedward.others",
    "fedward.consent", "fedward.consents", "fedward.local_model", "fedward.local_models",
)  # fmt: skip


def read_update(given: tuple[dict[str, Any], dict[str, Any], bytes, list[int]]) -> None:
    federation, _ = secure_federation()
    honest, changes, receipt, vector = given
    message = Shareable()
    message.update({**honest, **changes})
    if "fedward.receipt" in message and "fedward.receipt" not in changes:
        message["fedward.receipt"] = receipt
        message["fedward.vector"] = np.array(vector, np.uint32)
    for unpack in (
        exchange.unpack_trained,
        exchange.unpack_evaluated,
        exchange.unpack_model,
        exchange.unpack_release,
        exchange.unpack_counts,
        exchange.failure_of,
        exchange.require_empty,
        exchange.unpack_candidate,
        exchange.unpack_bit,
        models_exchange.unpack_consent,
        models_exchange.unpack_consents,
        models_exchange.unpack_local_model,
        models_exchange.read_own_models,
        lambda answer: counts_exchange.unpack_counted(answer, size=4, others=("of east",)),
        lambda answer: exchange.read_seen(answer, site="north"),
    ):
        expect_refusal(lambda unpack=unpack: unpack(message))
    server = ServerRound(federation.agreement, 1, model_sha256=MODEL)

    def receive() -> None:
        masked = exchange.unpack_trained(message).update
        if isinstance(masked, Masked):
            server.receive(NAMES[0], masked)

    expect_refusal(receive)
    parse_progress(changes or pack_progress)
