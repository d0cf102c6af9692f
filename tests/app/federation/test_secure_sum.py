from __future__ import annotations

import itertools
import time
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedward.errors import IdentityError, RoundFailed, SumRefused
from fedward.federation.averaging import weighted_mean
from fedward.federation.quantise import Quantiser
from fedward.federation.secure_messages import Masked, Opened, Session, threshold
from fedward.federation.secure_sum import ServerRound
from fedward.randomness import Secret
from secure_cases import MODEL, NAMES, Federation, session, set_up, sha, total, unbegun, vectors

SECRET = Secret()
SIZE = 5


def patterns(count: int, lost: int) -> list[tuple[str, ...]]:
    """Give every way in which up to ``lost`` of ``count`` sites drop out, most first."""
    return [gone for few in range(lost, -1, -1) for gone in itertools.combinations(NAMES[:count], few)]


@pytest.mark.parametrize("count", range(3, 9))
def test_the_sum_is_exact_for_every_pattern_of_drop_outs_before_and_after_the_vector(count: int) -> None:
    borne = count - threshold(count)
    cases = [
        (before, tuple(set(gone) - set(before)))
        for gone in patterns(count, borne)
        for few in range(len(gone) + 1)
        for before in itertools.combinations(gone, few)
    ]
    rounds = 16
    for at, (before, after) in enumerate(cases):
        number = at % rounds + 1
        if number == 1:
            federation = set_up(session(count, length=3, rounds=rounds))
        given = vectors(set(NAMES[:count]) - set(before), 3, seed=at)
        server = federation.collect(number, given)
        assert np.array_equal(federation.finish(server, number, lost=after), total(given))


@pytest.mark.parametrize("count", range(3, 9))
def test_one_drop_out_more_before_the_vector_fails_closed(count: int) -> None:
    gone = [g for g in patterns(count, count - threshold(count) + 1) if len(g) == count - threshold(count) + 1]
    for names in gone:
        number, federation = 1, set_up(session(count, length=3))
        server = federation.collect(number, vectors(set(NAMES[:count]) - set(names), 3))
        with pytest.raises(RoundFailed, match="too_few_sites"):
            server.close()
        survivors = tuple(server._receipts[name] for name in sorted(server.received))
        for name in server.received:
            with pytest.raises(SumRefused, match="too_few_survivors"):
                federation.sites[name].vote(number, survivors)


@pytest.mark.parametrize("count", range(3, 9))
def test_one_drop_out_more_after_the_vector_opens_nothing(count: int) -> None:
    federation = set_up(session(count, length=3))
    server = federation.collect(1, vectors(NAMES[:count], 3))
    survivors = server.close()
    left = NAMES[: threshold(count) - 1]
    for name in left:
        server.count(name, federation.sites[name].vote(1, survivors))
    assert not server.has_enough_votes
    for name in left:
        with pytest.raises(SumRefused, match="too_few_votes"):
            federation.sites[name].open(1, survivors, server.votes)
    with pytest.raises(RoundFailed, match="too_few_shares"):
        server.unmask([])


@pytest.mark.parametrize("count", range(3, 9))
def test_openers_below_the_threshold_unmask_nothing(count: int) -> None:
    federation = set_up(session(count, length=3))
    server = federation.collect(1, vectors(NAMES[:count], 3))
    opened = opened_of(federation, server)
    with pytest.raises(RoundFailed, match="too_few_shares"):
        server.unmask(opened[: threshold(count) - 1])
    with pytest.raises(RoundFailed, match="too_few_shares"):
        server.unmask([opened[0]] * count)


NUMBERS = st.lists(st.floats(-0.5, 0.5, width=32), min_size=SIZE, max_size=SIZE)


@settings(deadline=None, max_examples=25)
@given(st.data(), st.integers(3, 8))
def test_the_decoded_sum_is_fedavg_of_the_survivors_within_the_step(data: st.DataObject, count: int) -> None:
    coder = Quantiser.finest(SIZE, clip=0.5, weight_cap=1000, sites=count, metrics=("m",), metric_bound=100.0)
    before, after = data.draw(st.sampled_from(lost_in_two_ways(count)))
    federation = set_up(session(count, length=coder.length, quantiser_sha256=coder.digest))
    updates, weights, measured, encoded = {}, {}, {}, {}
    for name in set(NAMES[:count]) - set(before):
        updates[name] = np.array(data.draw(NUMBERS), np.float32)
        weights[name] = 10 * data.draw(st.integers(1, 100))
        measured[name] = data.draw(st.floats(-100, 100))
        encoded[name] = coder.encode(updates[name], weight=weights[name], metrics={"m": measured[name]}, secret=SECRET)
    server = federation.collect(1, {name: part.vector for name, part in encoded.items()})
    decoded = coder.decode(federation.finish(server, 1, lost=after), contributors=len(server.received))
    assert decoded.weight == sum(weights.values())
    bound = len(updates) * coder.step / (decoded.weight / 10) + 1e-7
    np.testing.assert_allclose(decoded.update, weighted_mean(updates, weights), rtol=0, atol=bound)
    assert decoded.metrics["m"] == pytest.approx(sum(measured.values()), abs=len(measured) * coder.metric_step)


def lost_in_two_ways(count: int) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    gone = patterns(count, count - threshold(count))
    return [(names[:at], names[at:]) for names in gone for at in range(len(names) + 1)]


def test_a_job_of_eight_goes_on_with_six_that_set_up_without_the_others() -> None:
    about = session(8, length=3)
    federation = set_up(about, present=NAMES[2:])
    given = vectors(NAMES[2:], 3)
    assert np.array_equal(federation.finish(federation.collect(1, given), 1), total(given))


def test_a_site_lost_between_the_two_legs_of_the_set_up_is_no_participant() -> None:
    federation = set_up(session(4, length=3), silent=("bea",))
    assert federation.agreement.participants == ("ada", "cyd", "dot")
    given = vectors(("ada", "cyd", "dot"), 3)
    server = federation.collect(1, given)
    bea = unbegun(["bea"])["bea"]
    with pytest.raises(SumRefused, match="unknown_site"):
        server.receive("bea", bea.sign_vector(1, np.zeros(3, np.uint32), context=server.close()[0].context))
    assert np.array_equal(federation.finish(server, 1), total(given))


def test_rounds_may_be_left_out_and_openings_come_late() -> None:
    federation = set_up(session(4, length=3, rounds=4))
    first, third = vectors(NAMES[:4], 3, seed=1), vectors(NAMES[:4], 3, seed=3)
    early = federation.collect(1, first)
    late = federation.collect(3, third)
    assert np.array_equal(federation.finish(late, 3), total(third))
    assert np.array_equal(federation.finish(early, 1), total(first))


def test_hospitals_sign_with_the_rsa_keys_that_nvflare_gives_them() -> None:
    federation = set_up(session(3, length=3), rsa=True)
    given = vectors(NAMES[:3], 3)
    assert np.array_equal(federation.finish(federation.collect(1, given), 1), total(given))


def opened_of(federation: Federation, server: ServerRound, number: int = 1) -> list[Opened]:
    survivors = server.close()
    for receipt in survivors:
        server.count(receipt.site, federation.sites[receipt.site].vote(number, survivors))
    return [federation.sites[vote.site].open(number, survivors, server.votes) for vote in server.votes]


def replace_receipt(masked: Masked, **more: object) -> Masked:
    return replace(masked, receipt=masked.receipt.model_copy(update=more))


def started(about: Session | None = None) -> tuple[Federation, ServerRound, dict[str, Masked]]:
    federation = set_up(about or session(3, length=4, rounds=2))
    masked = {name: site.mask(1, np.zeros(4, np.uint32)) for name, site in federation.sites.items()}
    return federation, ServerRound(federation.agreement, 1, model_sha256=MODEL), masked


def test_a_site_that_claims_anothers_name_is_refused() -> None:
    _, server, masked = started()
    with pytest.raises(SumRefused, match="wrong_sender"):
        server.receive("bea", masked["ada"])
    with pytest.raises(IdentityError, match="bad_signature"):
        server.receive("bea", replace_receipt(masked["ada"], site="bea"))
    assert server.received == frozenset()


@pytest.mark.parametrize("length", [0, 3, 5])
def test_a_vector_of_wrong_length_is_refused(length: int) -> None:
    _, server, masked = started()
    with pytest.raises(SumRefused, match="wrong_vector"):
        server.receive("ada", Masked(masked["ada"].receipt, np.zeros(length, np.uint32)))


@pytest.mark.parametrize("dtype", [np.int32, np.uint64, np.float32, ">u4"])
def test_a_vector_of_another_type_is_refused(dtype: object) -> None:
    _, server, masked = started()
    with pytest.raises(SumRefused, match="wrong_vector"):
        server.receive("ada", Masked(masked["ada"].receipt, masked["ada"].vector.astype(dtype)))


def test_a_vector_altered_on_its_way_is_refused() -> None:
    _, server, masked = started()
    altered = masked["ada"].vector.copy()
    altered[2] ^= 1
    with pytest.raises(SumRefused, match="wrong_vector"):
        server.receive("ada", Masked(masked["ada"].receipt, altered))


def test_the_same_vector_again_counts_once_and_a_second_one_is_refused() -> None:
    federation, server, masked = started()
    server.receive("ada", masked["ada"])
    server.receive("ada", masked["ada"])
    other = federation.sites["ada"].sign_vector(1, np.ones(4, np.uint32), context=masked["ada"].receipt.context)
    with pytest.raises(SumRefused, match="second_vector"):
        server.receive("ada", other)
    for name in ("bea", "cyd"):
        server.receive(name, masked[name])
    assert federation.finish(server, 1).tolist() == [0, 0, 0, 0]


def test_a_late_vector_is_refused() -> None:
    federation = set_up(session(4, length=3))
    server = federation.collect(1, vectors(("ada", "bea", "cyd"), 3))
    server.close()
    with pytest.raises(SumRefused, match="late_vector"):
        server.receive("dot", federation.sites["dot"].mask(1, np.zeros(3, np.uint32)))


def test_a_replayed_vector_of_another_round_is_refused() -> None:
    federation, _, masked = started()
    second = ServerRound(federation.agreement, 2, model_sha256=MODEL)
    with pytest.raises(SumRefused, match="wrong_round"):
        second.receive("ada", masked["ada"])
    with pytest.raises(SumRefused, match="other_context"):
        second.receive("ada", replace_receipt(masked["ada"], round_number=2))


def test_a_vector_for_another_model_is_refused() -> None:
    federation = set_up(session(3, length=4))
    server = ServerRound(federation.agreement, 1, model_sha256=MODEL)
    with pytest.raises(SumRefused, match="other_context"):
        server.receive("ada", federation.sites["ada"].mask(1, np.zeros(4, np.uint32), model_sha256=sha("other")))


def test_a_vote_in_anothers_name_or_for_another_set_is_refused() -> None:
    federation, server, masked = started(session(4, length=4))
    for name in masked:
        server.receive(name, masked[name])
    survivors = server.close()
    vote = federation.sites["ada"].vote(1, survivors)
    with pytest.raises(SumRefused, match="wrong_sender"):
        server.count("bea", vote)
    with pytest.raises(IdentityError, match="bad_signature"):
        server.count("bea", vote.model_copy(update={"site": "bea"}))
    with pytest.raises(IdentityError, match="bad_signature"):
        server.count("bea", federation.sites["bea"].vote(1, survivors[:3]))
    with pytest.raises(SumRefused, match="unknown_site"):
        server.count("eve", vote.model_copy(update={"site": "eve"}))
    assert server.votes == ()


def four_with_one_lost() -> tuple[Federation, ServerRound, list[Opened]]:
    federation = set_up(session(5, length=3))
    server = federation.collect(1, vectors(NAMES[:4], 3))
    return federation, server, opened_of(federation, server)


@pytest.mark.parametrize("kind", ["seeds", "keys"])
def test_an_altered_share_is_found_by_its_commitment(kind: str) -> None:
    _, server, opened = four_with_one_lost()
    shares = dict(getattr(opened[1], kind))
    name = min(shares)
    shares[name] = bytes(32) + b"\1"
    opened[1] = opened[1].model_copy(update={kind: shares})
    with pytest.raises(SumRefused, match="broken_commitment"):
        server.unmask(opened)


@pytest.mark.parametrize("bad", NAMES)
def test_one_hospital_that_opens_altered_shares_does_no_harm_where_openers_are_to_spare(bad: str) -> None:
    federation = set_up(session(8, length=3))
    lost = "ada" if bad == "hal" else "hal"
    given = vectors(set(NAMES) - {lost}, 3)
    server = federation.collect(1, given)
    opened = {message.site: message for message in opened_of(federation, server)}
    wrong = {"seeds": dict.fromkeys(given, bytes(33)), "keys": {lost: bytes(33)}}
    opened[bad] = opened[bad].model_copy(update=wrong)
    assert np.array_equal(server.unmask(list(opened.values())), total(given))


@pytest.mark.parametrize(
    "change",
    [
        {"keys": {}},
        {"keys": {"eve": bytes(33), "ada": bytes(33)}},
        {"seeds": {}},
        {"seeds": dict.fromkeys(NAMES[:5], bytes(33))},
        {"seeds": dict.fromkeys(NAMES[:4], bytes(32))},
    ],
    ids=["no key", "both shares", "no seed", "seed of the lost", "short"],
)
def test_other_shares_than_those_asked_for_are_refused(change: dict[str, dict[str, bytes]]) -> None:
    _, server, opened = four_with_one_lost()
    with pytest.raises(SumRefused, match="wrong_shares"):
        server.check_opened("ada", opened[0].model_copy(update=change))


def test_shares_in_anothers_name_or_of_another_round_are_refused() -> None:
    _, server, opened = four_with_one_lost()
    with pytest.raises(SumRefused, match="wrong_sender"):
        server.check_opened("bea", opened[0])
    with pytest.raises(SumRefused, match="wrong_round"):
        server.check_opened("ada", opened[0].model_copy(update={"round_number": 2}))
    with pytest.raises(SumRefused, match="unknown_site"):
        server.check_opened("eve", opened[0].model_copy(update={"site": "eve"}))


def test_a_sum_is_given_once() -> None:
    _, server, opened = four_with_one_lost()
    server.unmask(opened)
    with pytest.raises(SumRefused, match="already_opened"):
        server.unmask(opened)


def test_the_server_keeps_a_sum_and_no_vector() -> None:
    """Its memory is one vector more however many sites there are: measured over eight sites of 4 MB each."""
    length = 1_000_000
    federation = set_up(session(8, length=length))
    peaks = []
    tracemalloc.start()
    server = ServerRound(federation.agreement, 1, model_sha256=MODEL)
    for name, site in federation.sites.items():
        masked = site.mask(1, np.zeros(length, np.uint32))
        tracemalloc.reset_peak()
        server.receive(name, masked)
        del masked
        peaks.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert peaks[-1] - peaks[0] < 0.1 * 4 * length
    assert peaks[-1] < 1.5 * 4 * length


def test_masking_five_million_numbers_for_three_peers_takes_less_than_a_second() -> None:
    federation = set_up(session(4, length=5_000_000))
    vector = np.zeros(5_000_000, np.uint32)
    start = time.process_time()
    federation.sites["ada"].mask(1, vector)
    assert time.process_time() - start < 1.0
