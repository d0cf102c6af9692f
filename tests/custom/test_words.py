from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.shareable import Shareable, make_reply

from fedward.errors import FedwardError, JobRefused, MessageWithheld
from fedward.federation.ckks import Encrypted
from fedward.federation.consent import Consent, GivenModel
from fedward.federation.secure_messages import (
    Box,
    Masked,
    Opened,
    Receipt,
    RoundKeys,
    Session,
    SetUp,
    SetUpContent,
    Vote,
)
from fedward.hospital import OUTCOMES, Evaluated, TrainedRound
from fedward.identity import canonical
from fedward.imaging.traits import trait_keys
from fedward.privacy.head import Head
from fedward.privacy.plan import Spent
from fedward.settings.job import Input, Window, ZScore
from fedward.site_counts import Counted
from fedward_flare import ckks_exchange, counts_exchange, exchange, models_exchange, sum_exchange, tasks, words

SITES = ("east", "north", "south")
NAMES = words.Names(frozenset(SITES))
HASH = "ab" * 32
CERTIFICATE = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
RECEIPT = Receipt(site="north", round_number=2, context=HASH, vector_sha256=HASH, signature=b"s")
CONSENT = Consent(site="north", model_sha256=HASH, signature=b"s", certificate=CERTIFICATE)
ABOUT = {"weight": 10, "metrics": {"validation_score": 0.5}, "spent": Spent(0.5, 1e-5), "head": Head(7, HASH)}


def set_up() -> SetUp:
    session = Session(
        job_id="ab" * 16,
        job_sha256=HASH,
        sites=SITES,
        quantiser_sha256=HASH,
        length=4,
        attempt=0,
        first_round=1,
        last_round=1,
    )
    keys = [RoundKeys(public_key=HASH, key_sha256=HASH, seed_sha256=HASH)]
    content = SetUpContent(session=session, site="north", channel_key=HASH, keys=keys)
    encoded = canonical.encode(content.model_dump(mode="json"))
    return SetUp(content=encoded, signature=b"s", certificate=CERTIFICATE)


MASKED = Masked(RECEIPT, np.ones(4, np.uint32))
HONEST: dict[str, list[Shareable]] = {
    tasks.TRAIN_TASK: [
        exchange.pack_trained(TrainedRound(np.ones(4, np.float32), **ABOUT)),
        exchange.pack_trained(TrainedRound(MASKED, **ABOUT)),
        exchange.pack_trained(TrainedRound(Encrypted(RECEIPT, (b"12", b"3")), **ABOUT)),
    ],
    tasks.EVALUATE_TASK: [exchange.pack_evaluated(Evaluated(**ABOUT)), exchange.pack_evaluated(Evaluated(10, {}))],
    tasks.PUBLISH_TASK: [exchange.pack_done()],
    tasks.INFER_TASK: [exchange.pack_done({"findings": 5, "no_findings": 10, "refused": 0, "other_modality": 0})],
    tasks.GATE_TASK: [exchange.pack_bit(True)],
    tasks.COUNT_TASK: [
        counts_exchange.pack_counted(
            Counted(np.ones(3), Spent(0.5, 1e-5), 1.5, {"release": np.ones(3)}, Head(7, HASH))
        ),
        counts_exchange.pack_counted(Counted(MASKED, Spent(0.5, 1e-5), 1.5, {}, Head(7, HASH))),
        counts_exchange.pack_counted(
            Counted(np.ones(3), Spent(0.5, 1e-5), 1.5, {"release": np.ones(3), "of east": np.ones(3)}, Head(7, HASH))
        ),
    ],
    tasks.AGREE_TASK: [models_exchange.pack_consent(CONSENT)],
    tasks.GIVE_TASK: [
        models_exchange.pack_local_model(GivenModel(np.ones(4, np.float32), Head(7, HASH))),
        models_exchange.pack_local_model(None),
    ],
    tasks.SET_UP_TASK: [sum_exchange.pack_set_up(set_up())],
    tasks.SHARES_TASK: [sum_exchange.pack_boxes([Box(sender="north", receiver="east", content=b"sealed")])],
    tasks.DECRYPT_TASK: [ckks_exchange.pack_digest(np.ones(4, np.uint32))],
    tasks.TOTAL_TASK: [ckks_exchange.pack_total(np.ones(4, np.uint32))],
    tasks.VOTE_TOPIC: [sum_exchange.pack_vote(Vote(site="north", signature=b"s"))],
    tasks.OPEN_TOPIC: [
        sum_exchange.pack_opened(Opened(site="north", round_number=1, seeds={"east": b"1"}, keys={"south": b"2"}))
    ],
}
CASES = [(kind, answer) for kind, answers in HONEST.items() for answer in answers]
#: What our own closed lists hold; any other text is foreign.
KNOWN = {*SITES, *words.METRICS, *words.ROWS, *words.CODES, *OUTCOMES, *words.KINDS, "__headers__", HASH}
KNOWN |= {name for fields in words.KINDS.values() for name in fields}
TEXTS = st.text(min_size=1).filter(lambda text: text not in KNOWN and not re.fullmatch("[0-9a-f]{64}", text))
FOREIGN = st.one_of(
    TEXTS, TEXTS.map(str.encode), st.lists(TEXTS, min_size=1), st.dictionaries(TEXTS, TEXTS, min_size=1)
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Give the path of every value inside a message."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def with_text(value: Any, path: tuple[Any, ...], text: object) -> Any:
    """Give a copy of a message in which one value is another."""
    if not path:
        return text
    changed = list(value) if isinstance(value, list | tuple) else copy.copy(value)
    changed[path[0]] = with_text(value[path[0]], path[1:], text)
    return tuple(changed) if isinstance(value, tuple) else changed


def test_every_task_and_topic_has_a_schema_and_no_other() -> None:
    named = {value for name, value in vars(tasks).items() if name.endswith(("_TASK", "_TOPIC"))}
    assert set(words.KINDS) == named == set(HONEST)


@pytest.mark.parametrize(("kind", "answer"), CASES, ids=lambda value: value if isinstance(value, str) else "")
def test_what_our_executors_say_passes(kind: str, answer: Shareable) -> None:
    assert words.passed(kind, answer, NAMES) is answer


@given(data=st.data(), text=FOREIGN)
def test_no_text_passes_in_the_place_of_any_value(data: st.DataObject, text: object) -> None:
    kind, answer = data.draw(st.sampled_from(CASES))
    path = data.draw(st.sampled_from([path for path in places(answer) if path]))
    with pytest.raises(MessageWithheld, match="unfit_field"):
        words.passed(kind, with_text(answer, path, text), NAMES)


@given(data=st.data(), name=TEXTS, text=FOREIGN)
def test_no_text_passes_in_a_field_or_header_of_its_own(data: st.DataObject, name: str, text: object) -> None:
    kind, answer = data.draw(st.sampled_from(CASES))
    added = copy.copy(answer)
    added[name] = text
    with pytest.raises(MessageWithheld, match="unknown_field"):
        words.passed(kind, added, NAMES)
    headed = copy.deepcopy(answer)
    headed.set_header(name, text)
    with pytest.raises(MessageWithheld, match="unfit_field"):
        words.passed(kind, headed, NAMES)


@given(name=TEXTS)
def test_no_text_passes_as_the_name_of_a_number(name: str) -> None:
    for kind, answer in (
        (tasks.TRAIN_TASK, exchange.pack_trained(TrainedRound(np.ones(4, np.float32), 10, {name: 0.5}))),
        (tasks.INFER_TASK, exchange.pack_done({name: 5})),
    ):
        with pytest.raises(MessageWithheld, match="unfit_field"):
            words.passed(kind, answer, NAMES)


@given(name=TEXTS)
def test_no_text_passes_as_a_name_inside_a_signed_value(name: str) -> None:
    session = set_up()
    content = canonical.decode(session.content)
    renamed = canonical.encode({**content, "site": name}) if name.isprintable() else session.content + b" "
    for kind, answer in (
        (tasks.SET_UP_TASK, sum_exchange.pack_set_up(session.model_copy(update={"content": renamed}))),
        (
            tasks.SET_UP_TASK,
            sum_exchange.pack_set_up(session.model_copy(update={"certificate": name.encode() + CERTIFICATE})),
        ),
        (tasks.SHARES_TASK, sum_exchange.pack_boxes([Box(sender=name, receiver="east", content=b"1")])),
        (tasks.SHARES_TASK, sum_exchange.pack_boxes([Box(sender="north", receiver=name, content=b"1")])),
        (tasks.VOTE_TOPIC, sum_exchange.pack_vote(Vote(site=name, signature=b"s"))),
        (tasks.AGREE_TASK, models_exchange.pack_consent(CONSENT.model_copy(update={"site": name}))),
        (tasks.OPEN_TOPIC, sum_exchange.pack_opened(Opened(site="north", round_number=1, seeds={name: b"1"}, keys={}))),
    ):
        with pytest.raises(MessageWithheld, match="unfit_field"):
            words.passed(kind, answer, NAMES)


@given(text=TEXTS)
def test_no_text_passes_beside_a_signed_value(text: str) -> None:
    vote = Vote(site="north", signature=b"s").to_bytes()
    for content in (vote + text.encode(), text.encode() + vote, vote[:-1] + b',"more":"' + text.encode() + b'"}'):
        answer = Shareable()
        answer["fedward.vote"] = content
        with pytest.raises(MessageWithheld, match="unfit_field"):
            words.passed(tasks.VOTE_TOPIC, answer, NAMES)


@given(kind=TEXTS)
def test_an_answer_of_an_unknown_kind_stays(kind: str) -> None:
    with pytest.raises(MessageWithheld, match="unknown_kind"):
        words.passed(kind, exchange.pack_done(), NAMES)


@pytest.mark.parametrize(
    "asked",
    [
        Input(modality="CT", spacing_mm=(1, 1, 1), intensity=Window(kind="window", low=-1000, high=400)),
        Input(modality="MR", spacing_mm=(1, 1, 1), intensity=ZScore(kind="zscore")),
        Input(modality="PT", spacing_mm=(1, 1, 1), intensity=Window(kind="window", low=0, high=10)),
    ],
    ids=["CT", "z-score", "PET"],
)
def test_what_images_are_like_has_names_of_its_own(asked: Input) -> None:
    assert set(trait_keys(asked)) <= words.METRICS


def test_exact_counts_stay() -> None:
    with pytest.raises(MessageWithheld, match="unfit_field"):
        words.passed(tasks.INFER_TASK, exchange.pack_done({"findings": 7}), NAMES)


def test_a_reply_of_the_engine_is_none_of_ours() -> None:
    with pytest.raises(MessageWithheld, match="unfit_field"):
        words.passed(tasks.PUBLISH_TASK, make_reply(ReturnCode.EXECUTION_EXCEPTION), NAMES)


@given(text=TEXTS)
def test_an_error_leaves_as_a_code_of_the_tree_whatever_it_says(text: str) -> None:
    class Homemade(FedwardError):
        codes = frozenset({text})

    for error in (ValueError(text), JobRefused("too_few_patients", text), Homemade(text, text)):
        answer = words.failure(error)
        assert set(answer) == {"__headers__", "fedward.error"}
        assert answer["fedward.error"] in {"internal_error", "too_few_patients"}
        assert answer["__headers__"] == {"__rc__": ReturnCode.EXECUTION_EXCEPTION}
