from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fedward.errors import IdentityError, SumRefused
from fedward.federation.secure_messages import Receipt
from secure_cases import (
    NAMES,
    Site,
    begun,
    boxes_of,
    content_of,
    dealt,
    hospital,
    refused,
    session,
    set_up,
    sha,
    signed,
    unbegun,
    vectors,
)
from trust_cases import DAY, NOW

ROUND = session(3, rounds=2)


def test_nothing_is_masked_before_the_set_up_is_done() -> None:
    sites, _ = dealt(session(3))
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
    sites, boxes = dealt(session(4, length=3))
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
