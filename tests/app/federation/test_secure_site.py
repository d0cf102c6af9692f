from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedward.errors import FedwardError, IdentityError, SumRefused
from fedward.federation import masks
from fedward.federation.secure_messages import SET_UP_PURPOSE, Box, Receipt, SetUp, SetUpContent
from fedward.federation.secure_site import _box_key
from fedward.identity import canonical
from fedward.identity.certificates import fingerprint, load_certificate
from fedward.identity.roster import Roster, Signer
from secure_cases import (
    NAMES,
    Site,
    begun,
    hospital,
    member,
    roster_of,
    session,
    set_up,
    sha,
    unbegun,
    vectors,
)
from trust_cases import DAY, NOW, Authority

ROUND = session(3, rounds=2)


def refused(kind: type[FedwardError], code: str) -> Any:
    return pytest.raises(kind, match=f"^{code}$")


def content_of(message: SetUp) -> SetUpContent:
    return SetUpContent.model_validate_json(message.content)


def signed(content: SetUpContent, signer: Signer, *, purpose: str = SET_UP_PURPOSE) -> SetUp:
    encoded = canonical.encode(content.model_dump(mode="json"))
    return SetUp(content=encoded, signature=signer.sign(encoded, purpose=purpose), certificate=signer.certificate)


# Set-ups -------------------------------------------------------------------------------------------------------------


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


def test_a_channel_key_that_gives_no_secret_is_refused() -> None:
    def weaken(message: SetUp) -> SetUp:
        return signed(content_of(message).model_copy(update={"channel_key": "00" * 32}), hospital("bea"))

    with refused(SumRefused, "weak_key"):
        with_set_up_of_bea(weaken)


# Shares --------------------------------------------------------------------------------------------------------------


def dealt(**more: Any) -> tuple[dict[str, Site], list[Box]]:
    sites, messages = begun(session(3, **more))
    return sites, [box for site in sites.values() for box in site.take_set_ups(list(messages.values()))]


def boxes_of(boxes: list[Box], receiver: str) -> list[Box]:
    return [box for box in boxes if box.receiver == receiver]


def test_an_altered_share_is_refused() -> None:
    sites, boxes = dealt()
    first, second = boxes_of(boxes, "ada")
    altered = bytearray(first.content)
    altered[20] ^= 1
    with refused(SumRefused, "share_altered"):
        sites["ada"].take_shares([first.model_copy(update={"content": bytes(altered)}), second])


def test_a_share_sent_to_the_wrong_peer_is_refused() -> None:
    sites, boxes = dealt()
    with refused(SumRefused, "share_misdirected"):
        sites["ada"].take_shares(boxes_of(boxes, "bea"))
    forged = [box.model_copy(update={"receiver": "ada"}) for box in boxes_of(boxes, "bea") if box.sender == "cyd"]
    with refused(SumRefused, "share_altered"):
        sites["ada"].take_shares(forged)


def test_a_share_under_another_senders_name_is_refused() -> None:
    sites, boxes = dealt()
    first, second = boxes_of(boxes, "ada")
    with refused(SumRefused, "share_altered"):
        sites["ada"].take_shares([first.model_copy(update={"sender": second.sender}), second])


def test_a_share_of_another_attempt_is_refused() -> None:
    sites, boxes = dealt()
    _, old = dealt()
    with refused(SumRefused, "share_altered"):
        sites["ada"].take_shares([boxes_of(boxes, "ada")[0], boxes_of(old, "ada")[1]])


def test_shares_dealt_twice_are_refused() -> None:
    sites, boxes = dealt()
    first, _ = boxes_of(boxes, "ada")
    with refused(SumRefused, "repeated_share"):
        sites["ada"].take_shares([first, first])


def test_shares_of_fewer_than_the_threshold_are_refused() -> None:
    sites, boxes = dealt()
    with refused(SumRefused, "too_few_peers"):
        sites["ada"].take_shares(boxes_of(boxes, "ada")[:1])


def test_shares_of_a_stranger_are_refused() -> None:
    sites, boxes = dealt()
    with refused(SumRefused, "unknown_site"):
        sites["ada"].take_shares([boxes_of(boxes, "ada")[0].model_copy(update={"sender": "dot"})])


def test_shares_come_after_the_set_ups_and_once() -> None:
    sites, boxes = dealt()
    fresh, _ = begun(ROUND)
    with refused(SumRefused, "set_up_unfinished"):
        fresh["ada"].take_shares([])
    sites["ada"].take_shares(boxes_of(boxes, "ada"))
    with refused(SumRefused, "set_up_unfinished"):
        sites["ada"].take_shares(boxes_of(boxes, "ada"))


def test_a_box_without_two_shares_a_round_is_refused() -> None:
    sites, _ = dealt(rounds=2)
    bea = sites["bea"].state
    assert bea.agreement is not None
    assert bea.channel is not None
    key, about = _box_key(bea.agreement, bea.channel, own="bea", sender="bea", receiver="ada")
    content = masks.seal(bytes(66), key, about=about, secret=sites["bea"].secret)
    with refused(SumRefused, "wrong_shares"):
        sites["ada"].take_shares([Box(sender="bea", receiver="ada", content=content)])


# Vectors -------------------------------------------------------------------------------------------------------------


def test_nothing_is_masked_before_the_set_up_is_done() -> None:
    sites, _ = dealt()
    with refused(SumRefused, "set_up_unfinished"):
        sites["ada"].mask(1, np.zeros(4, np.uint32))


@pytest.mark.parametrize("number", [0, 3])
def test_a_round_outside_the_plan_is_refused(number: int) -> None:
    with refused(SumRefused, "wrong_round"):
        set_up(ROUND).sites["ada"].mask(number, np.zeros(4, np.uint32))


@pytest.mark.parametrize("vector", [np.zeros(3, np.uint32), np.zeros((4, 1), np.uint32), np.zeros(4, np.int32)])
def test_a_vector_of_another_layout_is_refused(vector: np.ndarray) -> None:
    with refused(SumRefused, "wrong_vector"):
        set_up(ROUND).sites["ada"].mask(1, vector)


def test_a_peers_round_key_that_gives_no_secret_is_refused() -> None:
    sites, messages = begun(session(3))
    content = content_of(messages["bea"])
    weak = content.model_copy(update={"keys": [content.keys[0].model_copy(update={"public_key": "00" * 32})]})
    messages["bea"] = signed(weak, hospital("bea"))
    for name in ("ada", "cyd"):
        sites[name].take_set_ups(list(messages.values()))
    state = sites["ada"].state
    assert state.agreement is not None
    sites["ada"].disk = state.model_copy(update={"agreement": state.agreement.joined_by(NAMES[:3])}).to_bytes()
    with refused(SumRefused, "weak_key"):
        sites["ada"].mask(1, np.zeros(4, np.uint32))


def test_the_vector_that_is_handed_in_stays_as_it_was() -> None:
    vector = np.arange(4, dtype=np.uint32)
    set_up(ROUND).sites["ada"].mask(1, vector)
    assert vector.tolist() == [0, 1, 2, 3]


# Survivor sets -------------------------------------------------------------------------------------------------------


def collected(count: int = 4, **more: Any) -> tuple[dict[str, Site], list[Receipt]]:
    federation = set_up(session(count, length=3, rounds=2), **more)
    server = federation.collect(1, vectors(NAMES[:count], 3))
    return federation.sites, list(server.close())


def test_a_site_signs_no_set_without_itself() -> None:
    sites, survivors = collected()
    with refused(SumRefused, "own_vector_missing"):
        sites["ada"].vote(1, survivors[1:])
    with refused(SumRefused, "own_vector_missing"):
        sites["ada"].vote(2, survivors)


def test_a_site_signs_no_set_with_another_vector_under_its_name() -> None:
    sites, survivors = collected()
    forged = survivors[0].model_copy(update={"vector_sha256": sha("other")})
    with refused(IdentityError, "bad_signature"):
        sites["ada"].vote(1, [forged, *survivors[1:]])
    other = sites["ada"].sign_vector(1, np.zeros(3, np.uint32), context=survivors[0].context).receipt
    with refused(SumRefused, "own_vector_missing"):
        sites["ada"].vote(1, [other, *survivors[1:]])


def test_a_site_signs_no_set_with_an_invented_hospital() -> None:
    """The minimum counts hospitals whose vector is in the sum: each is proved by its own signature."""
    sites, survivors = collected()
    invented = survivors[0].model_copy(update={"site": "bea"})
    with refused(IdentityError, "bad_signature"):
        sites["ada"].vote(1, [survivors[0], invented, *survivors[2:]])
    with refused(SumRefused, "unknown_site"):
        sites["ada"].vote(1, [*survivors, survivors[0].model_copy(update={"site": "eve"})])


def test_a_site_signs_no_set_with_a_vector_of_another_round() -> None:
    sites, survivors = collected()
    later = [site.mask(2, np.zeros(3, np.uint32)).receipt for site in sites.values()]
    with refused(SumRefused, "wrong_round"):
        sites["ada"].vote(1, [survivors[0], later[1], *survivors[2:]])


def test_survivors_are_sorted_and_differ() -> None:
    sites, survivors = collected()
    for wrong in (survivors[::-1], [survivors[0], *survivors]):
        with refused(SumRefused, "malformed_message"):
            sites["ada"].vote(1, wrong)


def test_a_site_signs_one_set_in_a_round_and_may_repeat_it() -> None:
    sites, survivors = collected()
    assert sites["ada"].vote(1, survivors) == sites["ada"].vote(1, survivors)
    with refused(SumRefused, "second_survivor_set"):
        sites["ada"].vote(1, survivors[:3])


def test_two_survivor_sets_open_nothing() -> None:
    """With honest hospitals alone no two sets find enough signatures, whichever way a server divides them."""
    sites, survivors = collected(8)
    small = survivors[:6]
    votes = [sites[name].vote(1, survivors) for name in NAMES[2:]]
    few = [sites[name].vote(1, small) for name in NAMES[:2]]
    with refused(SumRefused, "too_few_votes"):
        sites["ada"].open(1, small, few)
    with refused(SumRefused, "second_survivor_set"):
        sites["ada"].open(1, survivors, votes)
    with refused(IdentityError, "bad_signature"):
        sites["ada"].open(1, small, votes[:4])


def test_one_vote_repeated_counts_once() -> None:
    sites, survivors = collected()
    votes = [sites[name].vote(1, survivors) for name in NAMES[:2]]
    with refused(SumRefused, "too_few_votes"):
        sites["ada"].open(1, survivors, [*votes, *votes, *votes])


def test_a_vote_of_no_survivor_is_refused() -> None:
    sites, survivors = collected(5)
    votes = [sites[name].vote(1, survivors[:4]) for name in NAMES[:4]]
    stray = votes[0].model_copy(update={"site": "eve"})
    with refused(SumRefused, "unknown_site"):
        sites["ada"].open(1, survivors[:4], [*votes, stray])


def test_both_kinds_of_share_of_one_site_are_never_opened() -> None:
    sites, survivors = collected(5)
    votes = [sites[name].vote(1, survivors[:4]) for name in NAMES[:4]]
    opened = sites["ada"].open(1, survivors[:4], votes)
    assert (set(opened.seeds), set(opened.keys)) == ({"ada", "bea", "cyd", "dot"}, {"eve"})
    with refused(SumRefused, "already_opened"):
        sites["ada"].open(1, survivors[:4], votes)
    with refused(SumRefused, "both_shares_asked"):
        sites["ada"].open(1, survivors, votes)
    with refused(SumRefused, "second_survivor_set"):
        sites["bea"].open(1, survivors, votes)


def test_nothing_is_opened_that_was_not_signed() -> None:
    sites, survivors = collected()
    votes = [sites[name].vote(1, survivors) for name in NAMES[1:4]]
    with refused(SumRefused, "second_survivor_set"):
        sites["ada"].open(1, survivors, votes)


# What a server that lies achieves ------------------------------------------------------------------------------------


def test_one_site_told_another_model_stops_the_round_before_a_share_is_opened() -> None:
    federation = set_up(session(4, length=3))
    receipts = [
        site.mask(1, np.zeros(3, np.uint32), model_sha256=sha("other" if name == "bea" else "model")).receipt
        for name, site in federation.sites.items()
    ]
    for name in NAMES[:4]:
        with refused(SumRefused, "other_context"):
            federation.sites[name].vote(1, receipts)


def test_one_site_told_another_job_document_finds_no_peers() -> None:
    sites = unbegun(NAMES[:3])
    messages = {
        name: site.begin(session(3, job_sha256=sha("other" if name == "bea" else "job")))
        for name, site in sites.items()
    }
    for site in sites.values():
        with refused(SumRefused, "wrong_session"):
            site.take_set_ups(list(messages.values()))


def test_sites_that_hold_shares_of_different_peers_open_nothing() -> None:
    sites, messages = begun(session(4, length=3))
    boxes = [box for site in sites.values() for box in site.take_set_ups(list(messages.values()))]
    for name, site in sites.items():
        kept = boxes_of(boxes, name)
        site.take_shares([box for box in kept if box.sender != "dot"] if name == "ada" else kept)
    receipts = [site.mask(1, np.zeros(3, np.uint32)).receipt for site in sites.values()]
    for name in NAMES[:4]:
        with refused(SumRefused, "other_context"):
            sites[name].vote(1, receipts)


def test_a_certificate_that_ran_out_since_the_set_up_stops_the_round() -> None:
    with refused(IdentityError, "expired_certificate"):
        set_up(ROUND).sites["ada"].mask(1, np.zeros(4, np.uint32), now=NOW + 200 * DAY)
