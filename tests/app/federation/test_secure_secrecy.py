"""What the server sees of one hospital's vector, and what it can make of what it is given later."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import chisquare

from fedward.errors import RoundFailed, SumRefused
from fedward.federation import shamir
from fedward.federation.masks import add_mask
from fedward.federation.quantise import Quantiser
from fedward.federation.secure_agreement import pair_key, self_key
from fedward.federation.secure_messages import SURVIVORS_PURPOSE, Opened, Vote, survivors_content, threshold
from fedward.randomness import Secret
from secure_cases import MODEL, NAMES, Federation, hospital, session, set_up, sha, vectors

LENGTH = 200_000

#: A true test fails once in a million runs.
SMALLEST_P = 1e-6


def update(seed: int = 0) -> np.ndarray:
    """Give a plain vector as a quantiser makes it: small numbers of both signs."""
    return np.random.default_rng(seed).normal(0, 3000, LENGTH).astype(np.int64).astype(np.uint32)


def looks_uniform(vector: np.ndarray) -> bool:
    """Test every byte of the numbers, and the bytes together."""
    columns = vector.view(np.uint8).reshape(-1, 4)
    counts = [np.bincount(column, minlength=256) for column in (*columns.T, columns.ravel())]
    return all(chisquare(count).pvalue > SMALLEST_P for count in counts)


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    return float(abs(np.corrcoef(first.view(np.int32), second.view(np.int32))[0, 1]))


def is_unrelated(first: np.ndarray, second: np.ndarray) -> bool:
    return correlation(first, second) < 5 / first.size**0.5 and looks_uniform(first - second)


def test_the_tests_tell_an_update_from_noise() -> None:
    plain = update()
    assert not looks_uniform(plain)
    assert not is_unrelated(plain + np.uint32(5), plain)
    assert correlation(plain, update() + update(1)) > 0.5


def test_a_masked_vector_looks_uniform_and_is_unrelated_to_its_update() -> None:
    federation = set_up(session(3, length=LENGTH))
    for seed, site in enumerate(federation.sites.values()):
        masked = site.mask(1, update(seed)).vector
        assert looks_uniform(masked)
        assert is_unrelated(masked, update(seed))


def test_identical_updates_give_unrelated_vectors_between_sites_and_between_rounds() -> None:
    federation = set_up(session(3, length=LENGTH, rounds=2))
    ada, bea = federation.sites["ada"], federation.sites["bea"]
    first, peer, second = ada.mask(1, update()), bea.mask(1, update()), ada.mask(2, update())
    assert is_unrelated(first.vector, peer.vector)
    assert is_unrelated(first.vector, second.vector)


def open_all(federation: Federation, number: int, senders: Sequence[str]) -> tuple[np.ndarray, list[Opened]]:
    """Let a round run; give what the server received of ``dot``, and all that was opened."""
    given = vectors(senders, LENGTH, seed=number)
    if "dot" in given:
        given["dot"] = update()
    masked = {name: federation.sites[name].mask(number, vector) for name, vector in given.items()}
    survivors = [masked[name].receipt for name in sorted(masked)]
    votes = [federation.sites[name].vote(number, survivors) for name in sorted(masked)]
    opened = [federation.sites[name].open(number, survivors, votes) for name in sorted(masked)]
    return (masked["dot"].vector if "dot" in masked else np.empty(0, np.uint32)), opened


def recover(federation: Federation, opened: Sequence[Opened], kind: str, name: str) -> bytes:
    chosen = opened[: federation.agreement.session.threshold]
    weights = shamir.weights_at_zero([federation.agreement.peers[message.site].point for message in chosen])
    return shamir.combine([getattr(message, kind)[name] for message in chosen], weights)


def without_self_mask(federation: Federation, seen: np.ndarray, seed: bytes, *, number: int) -> np.ndarray:
    bare = seen.copy()
    add_mask(bare, self_key(seed, federation.agreement.context(number, MODEL)), sign=-1)
    return bare


def without_pair_masks(federation: Federation, seen: np.ndarray, private_key: bytes, *, number: int) -> np.ndarray:
    """Take away every mask that dot shares with a peer, as whoever knows its private key can."""
    bare, context = seen.copy(), federation.agreement.context(number, MODEL)
    for name in federation.agreement.participants:
        if name != "dot":
            key, sign = pair_key(federation.agreement, private_key, number, context=context, of="dot", to=name)
            add_mask(bare, key, sign=-sign)
    return bare


def test_a_survivor_without_its_self_mask_is_still_hidden_by_its_pairs() -> None:
    federation = set_up(session(4, length=LENGTH))
    seen, opened = open_all(federation, 1, NAMES[:4])
    bare = without_self_mask(federation, seen, recover(federation, opened, "seeds", "dot"), number=1)
    assert looks_uniform(bare)
    assert is_unrelated(bare, update())


def test_a_drop_outs_late_vector_is_still_hidden_by_its_self_mask() -> None:
    """The server calls a site lost, has its key opened, and holds its vector all the same."""
    federation = set_up(session(4, length=LENGTH))
    seen = federation.sites["dot"].mask(1, update()).vector
    _, opened = open_all(federation, 1, NAMES[:3])
    bare = without_pair_masks(federation, seen, recover(federation, opened, "keys", "dot"), number=1)
    assert looks_uniform(bare)
    assert is_unrelated(bare, update())


class KeysOncePerJob(Secret):
    """What must never be: the same key pair and seed for every round of a job."""

    def __init__(self) -> None:
        super().__init__()
        self._same = super().take(4096)

    def take(self, count: int) -> bytes:
        return self._same[:count]


def earlier_update_from_a_later_drop_out(federation: Federation) -> np.ndarray:
    """Attack: dot survives round 1 and drops out in round 2; use the key opened then on what it sent in round 1."""
    seen, first = open_all(federation, 1, NAMES[:4])
    _, second = open_all(federation, 2, NAMES[:3])
    bare = without_self_mask(federation, seen, recover(federation, first, "seeds", "dot"), number=1)
    return without_pair_masks(federation, bare, recover(federation, second, "keys", "dot"), number=1)


def test_keys_once_per_job_would_show_an_earlier_update_to_a_later_drop_out() -> None:
    federation = set_up(session(4, length=LENGTH, rounds=2), secret=KeysOncePerJob)
    assert np.array_equal(earlier_update_from_a_later_drop_out(federation), update())


def test_with_a_key_set_for_every_round_a_later_drop_out_shows_nothing() -> None:
    federation = set_up(session(4, length=LENGTH, rounds=2))
    found = earlier_update_from_a_later_drop_out(federation)
    assert looks_uniform(found)
    assert is_unrelated(found, update())


@pytest.mark.parametrize("told", ["model", "document"])
def test_the_sum_of_sites_that_were_told_different_things_is_noise_even_without_every_self_mask(told: str) -> None:
    """As if the sites signed anything: only the contexts of their masks are at work."""
    coder = Quantiser.finest(LENGTH, clip=1.0, weight_cap=1000, sites=3)
    federation = set_up(session(3, length=coder.length, rounds=2))
    total = np.zeros(coder.length, np.uint32)
    for name, site in federation.sites.items():
        if told == "document" and name == "bea":
            lied_to(federation, name)
        agreement = site.state.agreed()
        seed = site.state.own[1].seed
        model = sha("other") if told == "model" and name == "bea" else MODEL
        plain = coder.encode(np.zeros(LENGTH, np.float32), weight=10, metrics={}, secret=site.secret).vector
        total += site.mask(1, plain, model_sha256=model).vector
        add_mask(total, self_key(seed, agreement.context(1, model)), sign=-1)
    assert looks_uniform(total[:LENGTH])
    with pytest.raises(RoundFailed, match="sum_unreadable"):
        coder.decode(total, contributors=3)


def lied_to(federation: Federation, name: str) -> None:
    """Put another job document into what a site has agreed to."""
    site = federation.sites[name]
    state = site.state
    session_of = state.session.model_copy(update={"job_sha256": sha("other")})
    agreement = state.agreed().model_copy(update={"session": session_of})
    site.disk = state.model_copy(update={"session": session_of, "agreement": agreement}).to_bytes()


def two_sets(count: int, colluders: int) -> tuple[Federation, np.ndarray, list[bytes]]:
    """Attack: show one half of the honest hospitals a set with the victim, the other half one without it.

    The first ``colluders`` hospitals sign whatever is asked and give all that they keep; the last one is the victim.

    Returns:
        The federation, what the victim sent, and its seed and private key.
    """
    federation = set_up(session(count, length=LENGTH))
    names, victim, t = NAMES[:count], NAMES[count - 1], threshold(count)
    masked = {name: site.mask(1, update(at)) for at, (name, site) in enumerate(federation.sites.items())}
    kept = {name: federation.sites[name].state.held[1] for name in names[:colluders]}
    everybody = [masked[name].receipt for name in names]
    sets = {"seed": everybody, "key": everybody[:-1]}
    honest = {"seed": names[::-1][: t - colluders], "key": names[colluders : colluders + t - colluders]}
    secrets = []
    for kind, survivors in sets.items():
        shares = {name: getattr(held[victim], kind) for name, held in kept.items()}
        voters = [name for name in honest[kind] if kind == "seed" or name not in honest["seed"]]
        content = survivors_content(everybody[0].context, survivors)
        votes = [
            Vote(site=name, signature=hospital(name).sign(content, purpose=SURVIVORS_PURPOSE))
            for name in names[:colluders]
        ]
        votes += [federation.sites[name].vote(1, survivors) for name in voters]
        for name in voters:
            opened = federation.sites[name].open(1, survivors, votes)
            shares[name] = (opened.seeds if kind == "seed" else opened.keys)[victim]
        points = [federation.agreement.peer(name).point for name in shares]
        secrets.append(shamir.combine(shares.values(), shamir.weights_at_zero(points)))
    return federation, masked[victim].vector, secrets


@pytest.mark.parametrize("count", range(4, 9))
def test_fewer_than_2t_minus_n_colluding_hospitals_never_open_both_secrets_of_another(count: int) -> None:
    with pytest.raises(SumRefused, match="too_few_votes"):
        two_sets(count, 2 * threshold(count) - count - 1)


@pytest.mark.parametrize("count", range(4, 9))
def test_2t_minus_n_colluding_hospitals_do_and_read_the_update(count: int) -> None:
    """The limit that the documentation states, and the proof that the attack above is a real one."""
    federation, seen, (seed, private_key) = two_sets(count, 2 * threshold(count) - count)
    context, victim = federation.agreement.context(1, MODEL), NAMES[count - 1]
    add_mask(seen, self_key(seed, context), sign=-1)
    for name in NAMES[: count - 1]:
        key, sign = pair_key(federation.agreement, private_key, 1, context=context, of=victim, to=name)
        add_mask(seen, key, sign=-sign)
    assert np.array_equal(seen, update(count - 1))
