from __future__ import annotations

import numpy as np
import pytest

from ckks_cases import CkksSite, dealt, server_of, set_up, unbegun
from fedward.errors import SumRefused
from fedward.federation import ckks, ckks_site
from fedward.federation.secure_agreement import Agreement
from fedward.federation.secure_messages import Receipt
from secure_cases import refused, session, total, vectors

pytest.importorskip("tenseal")


def summed(
    sites: dict[str, CkksSite], agreement: Agreement, names: tuple[str, ...]
) -> tuple[tuple[Receipt, ...], tuple[bytes, ...], np.ndarray]:
    """Give what the server sends after these sites sent their vectors, and the true sum."""
    given = {name: vector >> np.uint32(4) for name, vector in vectors(names, 4).items()}
    server = server_of(agreement)
    for name, vector in given.items():
        server.receive(name, sites[name].encrypt(1, vector))
    return *server.close(), total(given)


def test_the_first_site_by_name_alone_makes_the_key_and_every_peer_gets_it() -> None:
    sites, boxes, _ = dealt(session(4))
    assert {(box.sender, box.receiver) for box in boxes} == {("ada", name) for name in ("bea", "cyd", "dot")}
    for name, site in sites.items():
        site.take_key([box for box in boxes if box.receiver == name])
    assert len({site.state.context for site in sites.values()}) == 1
    assert all(site.state.channel is None for site in sites.values()), "a box is opened once"


def test_no_box_holds_the_key_in_clear() -> None:
    sites, boxes, _ = dealt(session(3))
    context = sites["ada"].state.context
    assert context is not None
    assert all(context[1000:1032] not in box.content for box in boxes)


def test_an_altered_or_misdirected_box_is_refused() -> None:
    sites, boxes, _ = dealt(session(3))
    to_bea = next(box for box in boxes if box.receiver == "bea")
    to_cyd = next(box for box in boxes if box.receiver == "cyd")
    altered = bytearray(to_bea.content)
    altered[500] ^= 1
    with refused(SumRefused, "share_altered"):
        sites["bea"].take_key([to_bea.model_copy(update={"content": bytes(altered)})])
    with refused(SumRefused, "share_altered"):
        sites["bea"].take_key([to_cyd.model_copy(update={"receiver": "bea"})])
    for wrong in ([to_cyd], [to_bea.model_copy(update={"sender": "cyd"})], [to_bea, to_bea]):
        with refused(SumRefused, "share_misdirected"):
            sites["bea"].take_key(wrong)
    with refused(SumRefused, "set_up_unfinished"):
        sites["bea"].take_key([])


def test_a_box_of_another_attempt_or_job_is_refused() -> None:
    _, boxes, _ = dealt(session(3))
    for other in (session(3, attempt=1), session(3, job_id="b" * 32)):
        replayed, _, _ = dealt(other)
        with refused(SumRefused, "share_altered"):
            replayed["bea"].take_key([box for box in boxes if box.receiver == "bea"])


def test_a_box_that_holds_no_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ckks, "make_context", ckks.public_context)
    sites, boxes, _ = dealt(session(3))
    with refused(SumRefused, "wrong_context"):
        sites["bea"].take_key([box for box in boxes if box.receiver == "bea"])


def test_set_ups_are_taken_once_with_the_sites_own_and_enough_peers() -> None:
    about = session(4)
    sites = unbegun(about.sites)
    messages = {name: site.begin(about, minimum=4) for name, site in sites.items()}
    with refused(SumRefused, "own_set_up_changed"):
        sites["ada"].take_set_ups([messages[name] for name in ("bea", "cyd", "dot")])
    with refused(SumRefused, "too_few_peers"):
        sites["ada"].take_set_ups([messages[name] for name in ("ada", "bea", "cyd")])
    sites["ada"].take_set_ups(list(messages.values()))
    with refused(SumRefused, "set_ups_taken"):
        sites["ada"].take_set_ups(list(messages.values()))


def test_a_lost_site_costs_its_own_vector_alone() -> None:
    sites, agreement = set_up(session(4))
    receipts, blocks, true = summed(sites, agreement, ("ada", "bea", "dot"))
    for name in ("ada", "bea", "dot"):
        assert np.array_equal(sites[name].decrypt(1, receipts, blocks), true)
    with refused(SumRefused, "own_vector_missing"):
        sites["cyd"].decrypt(1, receipts, blocks)


def test_fewer_than_three_hospitals_are_not_decrypted() -> None:
    sites, agreement = set_up(session(4))
    receipts, blocks, _ = summed(sites, agreement, ("ada", "bea"))
    with refused(SumRefused, "too_few_survivors"):
        sites["ada"].decrypt(1, receipts, blocks)


def test_a_second_set_of_sites_is_not_decrypted_in_a_round_nor_in_another_attempt() -> None:
    sites, agreement = set_up(session(4))
    receipts, blocks, true = summed(sites, agreement, ("ada", "bea", "cyd", "dot"))
    sites["ada"].decrypt(1, receipts, blocks)
    with refused(SumRefused, "second_survivor_set"):
        sites["ada"].decrypt(1, receipts[:3], blocks)
    assert np.array_equal(sites["ada"].decrypt(1, receipts, blocks), true), "the same one again is"
    later = session(4, attempt=1)
    messages = [site.begin(later, after=site.state) for site in sites.values()]
    boxes = [box for site in sites.values() for box in site.take_set_ups(messages)]
    for name, site in sites.items():
        site.take_key([box for box in boxes if box.receiver == name])
    states = ckks_site.CkksState.from_bytes(sites["ada"].disk)
    assert states.agreement is not None
    receipts, blocks, _ = summed(sites, states.agreement, ("ada", "bea", "cyd"))
    with refused(SumRefused, "second_survivor_set"):
        sites["ada"].decrypt(1, receipts, blocks)


def test_an_attempt_that_does_not_follow_is_refused() -> None:
    sites, _ = set_up(session(3, attempt=1))
    for other in (session(3, attempt=1), session(3, attempt=2, job_id="b" * 32)):
        with refused(SumRefused, "wrong_session"):
            sites["ada"].begin(other, after=sites["ada"].state)


def test_nothing_is_encrypted_without_the_key_outside_the_plan_or_in_another_layout() -> None:
    sites, boxes, _ = dealt(session(3))
    with refused(SumRefused, "set_up_unfinished"):
        sites["bea"].encrypt(1, np.zeros(4, np.uint32))
    sites["bea"].take_key([box for box in boxes if box.receiver == "bea"])
    with refused(SumRefused, "wrong_round"):
        sites["bea"].encrypt(2, np.zeros(4, np.uint32))
    with refused(SumRefused, "wrong_vector"):
        sites["bea"].encrypt(1, np.zeros(5, np.uint32))
