from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

from fedward.errors import SumRefused
from fedward.federation.secure_state import SiteState
from secure_cases import NAMES, Federation, Site, begun, session, set_up, total, vectors

ZEROS = np.zeros(3, np.uint32)


def is_in(secret: bytes, site: Site) -> bool:
    return base64.urlsafe_b64encode(secret) in site.disk or secret.hex().encode() in site.disk


def four(rounds: int = 3) -> Federation:
    return set_up(session(4, length=3, rounds=rounds))


def test_a_state_reads_back_whole() -> None:
    federation = four()
    server = federation.collect(1, vectors(NAMES[:3], 3))
    for site in federation.sites.values():
        assert SiteState.from_bytes(site.disk).to_bytes() == site.disk
    federation.finish(server, 1)
    for site in federation.sites.values():
        assert SiteState.from_bytes(site.disk).to_bytes() == site.disk


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"session":1}', b"\xff"])
def test_what_is_no_state_is_refused(content: bytes) -> None:
    with pytest.raises(SumRefused, match="malformed_message"):
        SiteState.from_bytes(content)


def test_no_secret_is_printed() -> None:
    sites, _ = begun(session(3))
    state = sites["ada"].state
    assert "private_key=b" not in repr(state)
    assert repr(state.own[1]) == "KeySet()"
    assert state.channel is not None
    assert repr(state.channel) not in repr(state)
    held = four().sites["ada"].state
    assert repr(held.held[1]["bea"]) == "HeldShares()"
    assert "HeldShares" not in repr(held)


def test_a_used_key_set_and_all_earlier_ones_are_erased() -> None:
    federation = four()
    ada = federation.sites["ada"]
    secrets = ada.state.own
    ada.mask(2, ZEROS)
    for number in (1, 2):
        assert not is_in(secrets[number].private_key, ada)
        assert not is_in(secrets[number].seed, ada)
    assert is_in(secrets[3].private_key, ada)
    assert is_in(secrets[3].seed, ada)


def test_shares_that_were_opened_are_erased_of_both_kinds() -> None:
    federation = four()
    ada = federation.sites["ada"]
    held = ada.state.held
    federation.finish(federation.collect(1, vectors(NAMES[:3], 3)), 1)
    for shares in held[1].values():
        assert not is_in(shares.key, ada)
        assert not is_in(shares.seed, ada)
    assert all(is_in(shares.key, ada) for shares in held[2].values())


def test_shares_of_a_round_that_the_site_sent_nothing_in_are_erased_with_its_next_vector() -> None:
    dot = four().sites["dot"]
    held = dot.state.held
    dot.mask(2, ZEROS)
    assert not any(is_in(shares.key, dot) or is_in(shares.seed, dot) for shares in held[1].values())
    assert all(is_in(shares.seed, dot) for shares in held[2].values())


def test_the_key_of_the_boxes_is_erased_once_they_are_open() -> None:
    sites, messages = begun(session(3))
    boxes = [box for site in sites.values() for box in site.take_set_ups(list(messages.values()))]
    ada = sites["ada"]
    channel = ada.state.channel
    assert channel is not None
    assert is_in(channel, ada)
    ada.take_shares([box for box in boxes if box.receiver == "ada"])
    assert not is_in(channel, ada)


def test_a_key_set_serves_one_vector_also_after_a_crash() -> None:
    """Every step reads the state from its bytes, as a process does that was started again."""
    ada = four().sites["ada"]
    ada.mask(2, ZEROS)
    for number in (1, 2):
        for vector in (ZEROS, ZEROS + np.uint32(1)):
            with pytest.raises(SumRefused, match="key_set_used"):
                ada.mask(number, vector)
    ada.mask(3, ZEROS)


def test_a_vector_that_was_lost_with_the_process_leaves_the_round_to_the_others() -> None:
    federation = four()
    ada = federation.sites["ada"]
    ada.mask(1, ZEROS)
    given = vectors(NAMES[1:4], 3)
    assert np.array_equal(federation.finish(federation.collect(1, given), 1), total(given))
    later = vectors(NAMES[:4], 3, seed=2)
    assert np.array_equal(federation.finish(federation.collect(2, later), 2), total(later))


def test_a_process_that_died_before_it_wrote_masks_again_since_nothing_has_left() -> None:
    federation = four()
    ada = federation.sites["ada"]
    before = ada.disk
    ada.mask(1, ZEROS)
    ada.disk = before
    given = vectors(NAMES[:4], 3)
    assert np.array_equal(federation.finish(federation.collect(1, given), 1), total(given))


def test_what_was_signed_and_opened_is_known_after_a_crash() -> None:
    federation = set_up(session(5, length=3))
    survivors = federation.collect(1, vectors(NAMES[:5], 3)).close()
    votes = [federation.sites[name].vote(1, survivors) for name in NAMES[:5]]
    ada = federation.sites["ada"]
    with pytest.raises(SumRefused, match="second_survivor_set"):
        ada.vote(1, survivors[:4])
    ada.open(1, survivors, votes)
    with pytest.raises(SumRefused, match="already_opened"):
        ada.open(1, survivors, votes)


@pytest.mark.parametrize(
    "wrong", [{"attempt": 1}, {"attempt": 0}, {"attempt": 2, "job_id": "b" * 32}], ids=["same", "earlier", "other job"]
)
def test_an_attempt_follows_an_earlier_one_of_the_same_job(wrong: dict[str, Any]) -> None:
    sites, _ = begun(session(3, attempt=1))
    with pytest.raises(SumRefused, match="wrong_session"):
        sites["ada"].begin(session(3, **wrong), after=sites["ada"].state)
    sites["ada"].begin(session(3, attempt=2), after=sites["ada"].state)


def test_a_restarted_hospital_enters_the_next_attempt_with_fresh_keys() -> None:
    first = four()
    first.finish(first.collect(1, vectors(NAMES[:3], 3)), 1)
    sites = {**first.sites, "dot": Site(first.sites["dot"].signer, first.sites["dot"].roster)}
    fresh = {name: site for name, site in sites.items() if name != "dot"}
    old = first.agreement.peers
    second = set_up(session(4, length=3, attempt=1, first_round=2, last_round=3), sites=fresh, after=True)
    assert second.agreement.peers["ada"].keys[2] != old["ada"].keys[2]
    given = vectors(NAMES[:3], 3, seed=2)
    assert np.array_equal(second.finish(second.collect(2, given), 2), total(given))


def repeated(first: tuple[str, ...], again: tuple[str, ...], *, opened: bool) -> tuple[Federation, Any]:
    """Let a round's sum be taken over ``first``, and then, under another attempt, over ``again``."""
    federation = set_up(session(5, length=3))
    server = federation.collect(1, vectors(first, 3))
    if opened:
        federation.finish(server, 1)
    second = set_up(session(5, length=3, attempt=1), sites=federation.sites, after=True)
    return second, second.collect(1, vectors(again, 3))


def test_a_round_that_was_opened_is_never_summed_over_other_hospitals() -> None:
    """The updates are the same: the difference of the two sums would be that of the one hospital left out."""
    federation, server = repeated(NAMES[:5], NAMES[:4], opened=True)
    survivors = server.close()
    for name in NAMES[:4]:
        with pytest.raises(SumRefused, match="second_survivor_set"):
            federation.sites[name].vote(1, survivors)


def test_a_round_that_was_opened_may_be_summed_again_over_the_same_hospitals() -> None:
    federation, server = repeated(NAMES[:4], NAMES[:4], opened=True)
    assert np.array_equal(federation.finish(server, 1), total(vectors(NAMES[:4], 3)))


def test_a_round_that_was_not_opened_may_be_summed_over_others() -> None:
    federation, server = repeated(NAMES[:5], NAMES[:4], opened=False)
    assert np.array_equal(federation.finish(server, 1), total(vectors(NAMES[:4], 3)))


def test_what_was_opened_is_remembered_over_many_attempts() -> None:
    federation, server = repeated(NAMES[:5], NAMES[:5], opened=True)
    del server
    third = set_up(session(5, length=3, attempt=2), sites=federation.sites, after=True)
    survivors = third.collect(1, vectors(NAMES[:4], 3)).close()
    with pytest.raises(SumRefused, match="second_survivor_set"):
        third.sites["ada"].vote(1, survivors)
