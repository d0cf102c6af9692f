from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedward.errors import IdentityError, SumRefused
from fedward.federation import masks
from fedward.federation.secure_agreement import pair_key, self_key
from fedward.federation.secure_messages import Box, SetUp
from fedward.federation.secure_site import _box_key
from fedward.identity import canonical
from fedward.identity.certificates import fingerprint, load_certificate
from fedward.identity.roster import Roster, Signer
from secure_cases import (
    NAMES,
    begun,
    boxes_of,
    content_of,
    dealt,
    hospital,
    member,
    refused,
    roster_of,
    session,
    set_up,
    sha,
    signed,
    unbegun,
    vectors,
)
from trust_cases import Authority

ROUND = session(3, rounds=2)


def with_set_up_of_bea(change: Callable[[SetUp], SetUp], **more: Any) -> None:
    """Let ada read the set-ups, that of bea changed."""
    sites, messages = begun(ROUND, **more)
    sites["ada"].take_set_ups([messages["ada"], change(messages["bea"]), messages["cyd"]])


def test_the_unchanged_set_ups_are_taken() -> None:
    with_set_up_of_bea(lambda message: message)


@pytest.mark.parametrize("field", ["public_key", "key_sha256", "seed_sha256"])
def test_an_exchanged_key_or_commitment_is_refused(field: str) -> None:
    def exchange(message: SetUp) -> SetUp:
        content = content_of(message)
        keys = [content.keys[0].model_copy(update={field: sha("other")}), content.keys[1]]
        encoded = canonical.encode(content.model_copy(update={"keys": keys}).model_dump(mode="json"))
        return message.model_copy(update={"content": encoded})

    with refused(IdentityError, "bad_signature"):
        with_set_up_of_bea(exchange)


def test_an_unsigned_set_up_is_refused() -> None:
    with refused(IdentityError, "bad_signature"):
        with_set_up_of_bea(lambda message: message.model_copy(update={"signature": b""}))


def test_a_signature_for_another_purpose_is_refused() -> None:
    with refused(IdentityError, "bad_signature"):
        with_set_up_of_bea(lambda message: signed(content_of(message), hospital("bea"), purpose="job"))


def test_a_set_up_signed_by_another_hospital_of_the_job_is_refused() -> None:
    with refused(IdentityError, "wrong_name"):
        with_set_up_of_bea(lambda message: signed(content_of(message), hospital("cyd")))


@pytest.mark.parametrize(
    ("signer", "listed_as", "code"),
    [
        (hospital("bea", authority="foreign"), None, "untrusted_certificate"),
        (hospital("server", role="server"), "server", "wrong_role"),
        (hospital("server"), "server", "wrong_role"),
        (hospital("lead", role="lead"), "coordinator", "wrong_role"),
        (hospital("dot"), None, "unlisted_signer"),
        (replace(hospital("bea"), key=Ed25519PrivateKey.generate()), None, "bad_signature"),
    ],
    ids=["foreign root", "server", "silent server", "administrator", "unlisted hospital", "stolen certificate"],
)
def test_a_key_that_no_listed_hospital_signed_is_refused(signer: Signer, listed_as: Any, code: str) -> None:
    lines = tuple(member(hospital(name)) for name in NAMES[:3])
    if listed_as:
        lines += (member(signer, role=listed_as),)
    with refused(IdentityError, code):
        with_set_up_of_bea(
            lambda message: signed(content_of(message).model_copy(update={"site": signer.name}), signer),
            roster=Roster(Authority().certificate, lines),
        )


def test_a_revoked_hospital_is_refused_at_the_set_up_and_at_the_next_round() -> None:
    bea = fingerprint(load_certificate(hospital("bea").certificate))
    revoking = replace(roster_of(*(hospital(name) for name in NAMES[:3])), revoked=frozenset({bea}))
    with refused(IdentityError, "revoked_signer"):
        with_set_up_of_bea(lambda message: message, roster=revoking)
    federation = set_up(ROUND)
    federation.sites["ada"].mask(1, np.zeros(4, np.uint32))
    with refused(IdentityError, "revoked_signer"):
        federation.sites["ada"].mask(2, np.zeros(4, np.uint32), roster=revoking)


@pytest.mark.parametrize(
    "other",
    [
        {"attempt": 1},
        {"job_id": "b" * 32},
        {"job_sha256": sha("another document")},
        {"quantiser_sha256": sha("another format")},
        {"length": 5},
        {"last_round": 3},
        {"sites": NAMES[:4]},
    ],
    ids=lambda other: next(iter(other)),
)
def test_a_set_up_of_another_session_is_refused(other: dict[str, Any]) -> None:
    replayed = unbegun(["bea"])["bea"].begin(session(3, **{"rounds": 2, **other}))
    with refused(SumRefused, "wrong_session"):
        with_set_up_of_bea(lambda _: replayed)


def test_a_set_up_with_keys_for_other_rounds_than_it_says_is_refused() -> None:
    def shorten(message: SetUp) -> SetUp:
        content = content_of(message)
        return signed(content.model_copy(update={"keys": content.keys[:1]}), hospital("bea"))

    with refused(SumRefused, "wrong_session"):
        with_set_up_of_bea(shorten)


def test_two_set_ups_of_one_site_are_refused() -> None:
    sites, messages = begun(ROUND)
    second = unbegun(["bea"])["bea"].begin(ROUND)
    with refused(SumRefused, "repeated_set_up"):
        sites["ada"].take_set_ups([*messages.values(), second])


def test_a_site_finds_its_own_set_up_unchanged_among_them() -> None:
    sites, messages = begun(ROUND)
    second = unbegun(["ada"])["ada"].begin(ROUND)
    for given in ([messages["bea"], messages["cyd"]], [second, messages["bea"], messages["cyd"]]):
        with refused(SumRefused, "own_set_up_changed"):
            sites["ada"].take_set_ups(given)


def test_a_listed_hospital_that_the_job_does_not_ask_is_refused() -> None:
    sites, messages = begun(ROUND, roster=roster_of(*(hospital(name) for name in NAMES[:4])))
    content = content_of(messages["bea"]).model_copy(update={"site": "dot"})
    with refused(SumRefused, "unknown_site"):
        sites["ada"].take_set_ups([*messages.values(), signed(content, hospital("dot"))])
    with refused(SumRefused, "unknown_site"):
        unbegun(["dot"])["dot"].begin(ROUND)


@pytest.mark.parametrize("spoil", [lambda text: text + b" ", lambda _: b"[]", lambda _: b"{}", lambda _: b""])
def test_what_is_no_canonical_set_up_is_refused(spoil: Callable[[bytes], bytes]) -> None:
    with refused(IdentityError, "not_canonical"):
        with_set_up_of_bea(lambda message: message.model_copy(update={"content": spoil(message.content)}))


def test_set_ups_are_taken_once() -> None:
    sites, messages = begun(ROUND)
    sites["ada"].take_set_ups(list(messages.values()))
    with refused(SumRefused, "set_ups_taken"):
        sites["ada"].take_set_ups(list(messages.values()))


def test_fewer_peers_than_the_threshold_are_refused() -> None:
    sites, messages = begun(session(5))
    with refused(SumRefused, "too_few_peers"):
        sites["ada"].take_set_ups([messages[name] for name in NAMES[:3]])


def test_organisations_are_counted_and_not_names() -> None:
    lines = [member(hospital(name), "one owner" if name in "bea cyd" else name) for name in NAMES[:4]]
    federation = set_up(session(4, length=3), roster=Roster(Authority().certificate, tuple(lines)))
    server = federation.collect(1, vectors(NAMES[:3], 3))
    receipts = [server._receipts[name] for name in NAMES[:3]]
    with refused(SumRefused, "too_few_survivors"):
        federation.sites["ada"].vote(1, receipts)
    lines = [member(hospital(name), "one owner" if name != "ada" else name) for name in NAMES[:4]]
    with refused(SumRefused, "too_few_peers"):
        set_up(session(4), roster=Roster(Authority().certificate, tuple(lines)))


def test_a_sites_own_minimum_is_kept() -> None:
    sites = unbegun(NAMES[:3])
    messages = {name: site.begin(ROUND, minimum=4) for name, site in sites.items()}
    with refused(SumRefused, "too_few_peers"):
        sites["ada"].take_set_ups(list(messages.values()))
    federation = set_up(session(4, length=3), minimum=4)
    server = federation.collect(1, vectors(NAMES[:3], 3))
    with refused(SumRefused, "too_few_survivors"):
        federation.sites["ada"].vote(1, server.close())


def test_a_channel_key_that_gives_no_secret_is_refused() -> None:
    def weaken(message: SetUp) -> SetUp:
        return signed(content_of(message).model_copy(update={"channel_key": "00" * 32}), hospital("bea"))

    with refused(SumRefused, "weak_key"):
        with_set_up_of_bea(weaken)


def test_an_altered_share_is_refused() -> None:
    sites, boxes = dealt(session(3))
    first, second = boxes_of(boxes, "ada")
    altered = bytearray(first.content)
    altered[20] ^= 1
    with refused(SumRefused, "share_altered"):
        sites["ada"].take_shares([first.model_copy(update={"content": bytes(altered)}), second])


def test_a_share_sent_to_the_wrong_peer_is_refused() -> None:
    sites, boxes = dealt(session(3))
    with refused(SumRefused, "share_misdirected"):
        sites["ada"].take_shares(boxes_of(boxes, "bea"))
    forged = [box.model_copy(update={"receiver": "ada"}) for box in boxes_of(boxes, "bea") if box.sender == "cyd"]
    with refused(SumRefused, "share_altered"):
        sites["ada"].take_shares(forged)


def test_a_share_under_another_senders_name_is_refused() -> None:
    sites, boxes = dealt(session(3))
    first, second = boxes_of(boxes, "ada")
    with refused(SumRefused, "share_altered"):
        sites["ada"].take_shares([first.model_copy(update={"sender": second.sender}), second])


def test_a_sites_own_box_sent_back_to_it_is_no_peers() -> None:
    """Two peers share one secret: only the direction that the key depends on tells their boxes apart."""
    sites, boxes = dealt(session(3))
    own = next(box for box in boxes if (box.sender, box.receiver) == ("ada", "bea"))
    with refused(SumRefused, "share_altered"):
        sites["ada"].take_shares([own.model_copy(update={"sender": "bea", "receiver": "ada"})])


@pytest.mark.parametrize("other", [{"job_id": "b" * 32}, {"attempt": 7}], ids=["job", "attempt"])
def test_a_boxs_key_and_what_it_is_bound_to_depend_on_job_and_attempt(other: dict[str, Any]) -> None:
    sites, _ = dealt(session(3))
    state = sites["ada"].state
    assert state.agreement is not None
    assert state.channel is not None
    moved = state.agreement.model_copy(update={"session": state.session.model_copy(update=other)})
    first, second = (
        _box_key(agreement, state.channel, own="ada", sender="ada", receiver="bea")
        for agreement in (state.agreement, moved)
    )
    assert first[0] != second[0]
    assert first[1] != second[1]


def test_a_share_of_another_attempt_is_refused() -> None:
    sites, boxes = dealt(session(3))
    _, old = dealt(session(3))
    with refused(SumRefused, "share_altered"):
        sites["ada"].take_shares([boxes_of(boxes, "ada")[0], boxes_of(old, "ada")[1]])


def test_shares_dealt_twice_are_refused() -> None:
    sites, boxes = dealt(session(3))
    first, _ = boxes_of(boxes, "ada")
    with refused(SumRefused, "repeated_share"):
        sites["ada"].take_shares([first, first])


def test_shares_of_fewer_than_the_threshold_are_refused() -> None:
    sites, boxes = dealt(session(3))
    with refused(SumRefused, "too_few_peers"):
        sites["ada"].take_shares(boxes_of(boxes, "ada")[:1])


def test_shares_of_a_stranger_are_refused() -> None:
    sites, boxes = dealt(session(3))
    with refused(SumRefused, "unknown_site"):
        sites["ada"].take_shares([boxes_of(boxes, "ada")[0].model_copy(update={"sender": "dot"})])


def test_shares_come_after_the_set_ups_and_once() -> None:
    sites, boxes = dealt(session(3))
    fresh, _ = begun(ROUND)
    with refused(SumRefused, "set_up_unfinished"):
        fresh["ada"].take_shares([])
    sites["ada"].take_shares(boxes_of(boxes, "ada"))
    with refused(SumRefused, "set_up_unfinished"):
        sites["ada"].take_shares(boxes_of(boxes, "ada"))


def test_a_box_without_two_shares_a_round_is_refused() -> None:
    sites, _ = dealt(ROUND)
    bea = sites["bea"].state
    assert bea.agreement is not None
    assert bea.channel is not None
    key, about = _box_key(bea.agreement, bea.channel, own="bea", sender="bea", receiver="ada")
    content = masks.seal(bytes(66), key, about=about, secret=sites["bea"].secret)
    with refused(SumRefused, "wrong_shares"):
        sites["ada"].take_shares([Box(sender="bea", receiver="ada", content=content)])


def test_all_that_sites_must_agree_on_is_in_the_context_that_every_mask_depends_on() -> None:
    agreement = set_up(session(4)).agreement

    def context(number: int = 1, model: str = "model", *, changed: dict[str, Any] | None = None, **more: Any) -> str:
        about = agreement.session.model_copy(update=changed or {})
        return agreement.model_copy(update={"session": about, **more}).context(number, sha(model))

    fewer = {name: peer for name, peer in agreement.peers.items() if name != "dot"}
    recertified = agreement.peers["dot"].model_copy(update={"fingerprint": "sha256:" + sha("other")})
    contexts = [
        context(),
        context(number=2),
        context(model="other"),
        context(changed={"job_id": "b" * 32}),
        context(changed={"attempt": 1}),
        context(changed={"job_sha256": sha("other")}),
        context(changed={"quantiser_sha256": sha("other")}),
        context(changed={"length": 5}),
        context(set_ups_sha256=sha("other")),
        context(participants=tuple(fewer)),
        context(peers={**fewer, "dot": recertified}),
    ]
    assert len(set(contexts)) == len(contexts)
    secret = bytes(range(32))
    assert len({self_key(secret, found) for found in contexts}) == len(contexts)
    pairs = {pair_key(agreement, secret, 1, context=found, of="ada", to="bea") for found in contexts}
    assert len(pairs) == len(contexts)
    assert pair_key(agreement, secret, 1, context="c", of="ada", to="bea") != pair_key(
        agreement, secret, 1, context="c", of="cyd", to="bea"
    )
