from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckks_cases import server_of, set_up
from fedward.errors import IdentityError, RoundFailed, SettingsError, SumRefused
from fedward.federation import ckks
from fedward.federation.averaging import weighted_mean
from fedward.federation.ckks import Encrypted, ServerSum
from fedward.federation.quantise import Quantiser
from fedward.randomness import Secret
from secure_cases import MODEL, NAMES, refused, session, sha, total, vectors

pytest.importorskip("tenseal")


@given(
    weights=st.lists(st.integers(1, 100).map(lambda tens: 10 * tens), min_size=3, max_size=8),
    seed=st.integers(0, 2**32 - 1),
    clip=st.sampled_from([1e-3, 1.0, 40.0]),
)
@settings(max_examples=15, deadline=None)
def test_the_decoded_mean_is_fedavg_within_1e_4_of_the_clip(weights: list[int], seed: int, clip: float) -> None:
    generator = np.random.default_rng(seed)
    names = NAMES[: len(weights)]
    size = int(generator.integers(1, 2 * ckks.SLOTS))
    quantiser = Quantiser.finest(size, clip=clip, weight_cap=1000, sites=len(names))
    updates = {name: generator.uniform(-clip, clip, size).astype(np.float32) for name in names}
    given_weights = dict(zip(names, weights, strict=True))
    sites, agreement = set_up(session(len(names), length=quantiser.length))
    server = server_of(agreement)
    for name, site in sites.items():
        encoded = quantiser.encode(updates[name], weight=given_weights[name], metrics={}, secret=Secret())
        server.receive(name, site.encrypt(1, encoded.vector))
    receipts, blocks = server.close()
    decoded = [quantiser.decode(site.decrypt(1, receipts, blocks), contributors=len(names)) for site in sites.values()]
    assert all(np.array_equal(one.update, decoded[0].update) for one in decoded), "every site decrypts the same"
    assert decoded[0].weight == sum(weights)
    assert np.abs(decoded[0].update - weighted_mean(updates, given_weights)).max() <= 1e-4 * clip


@pytest.mark.parametrize("extreme", [2**31 - 1, 2**31, 1, 0, 2**32 - 1])
def test_a_sum_is_exact_to_the_last_number_of_the_ring(extreme: int) -> None:
    context, vector = ckks.make_context(), np.full(5000, extreme, np.uint32)
    if extreme == 2**31:
        vector += np.uint32(1)  # The smallest number that is read as signed and whose negative is none too large.
    assert np.array_equal(ckks.decrypt(ckks.encrypt(vector, context), context, length=5000), vector)


def test_equal_vectors_give_unlike_ciphertexts() -> None:
    context, vector = ckks.make_context(), np.arange(3, dtype=np.uint32)
    first, second = (np.frombuffer(ckks.encrypt(vector, context)[0][200:131000], np.uint8) for _ in range(2))
    assert np.mean(first != second) > 0.9


def test_the_servers_context_has_no_secret_key_and_decrypts_nothing() -> None:
    import tenseal

    sites, _ = set_up(session(3))
    block = sites["ada"].encrypt(1, np.arange(4, dtype=np.uint32)).blocks[0]
    public = tenseal.context_from(ckks.public_context())
    assert not public.has_secret_key()
    with pytest.raises(ValueError, match="doesn't hold a secret_key"):
        tenseal.ckks_vector_from(public, block).decrypt()
    with refused(SumRefused, "wrong_context"):
        ckks.decrypt([block], ckks.public_context(), length=4)


def test_another_key_reads_nothing() -> None:
    blocks = ckks.encrypt(np.arange(4, dtype=np.uint32), ckks.make_context())
    with refused(RoundFailed, "sum_unreadable"):
        ckks.decrypt(blocks, ckks.make_context(), length=4)


def test_the_server_refuses_a_context_with_a_secret_key() -> None:
    _, agreement = set_up(session(3))
    with refused(SumRefused, "wrong_context"):
        ServerSum(agreement, 1, model_sha256=MODEL, context=ckks.make_context())


@pytest.mark.parametrize("content", [b"", b"no context", ckks.public_context()[:-4]])
def test_what_is_no_context_is_refused(content: bytes) -> None:
    with refused(SumRefused, "wrong_context"):
        ckks.check_secret(content)


@pytest.mark.parametrize(("degree", "bits", "scale"), [(8192, 60, 2.0**20), (16384, 60, 2.0**26), (8192, 50, 2.0**26)])
def test_a_context_of_other_parameters_is_refused(degree: int, bits: int, scale: float) -> None:
    import tenseal

    context = tenseal.context(tenseal.SCHEME_TYPE.CKKS, degree, coeff_mod_bit_sizes=[bits, bits])
    context.global_scale = scale
    with refused(SumRefused, "wrong_context"):
        ckks.check_secret(context.serialize(save_secret_key=True))


def test_a_context_of_another_scheme_is_refused() -> None:
    import tenseal

    context = tenseal.context(tenseal.SCHEME_TYPE.BFV, 8192, plain_modulus=1032193)
    with refused(SumRefused, "wrong_context"):
        ckks.check_secret(context.serialize(save_secret_key=True))


def test_an_altered_block_is_refused_by_the_server_and_unreadable_at_a_site() -> None:
    sites, agreement = set_up(session(3))
    server, sent = server_of(agreement), sites["ada"].encrypt(1, np.arange(4, dtype=np.uint32))
    altered = bytearray(sent.blocks[0])
    altered[len(altered) // 2] ^= 1
    with refused(SumRefused, "wrong_vector"):
        server.receive("ada", Encrypted(sent.receipt, (bytes(altered),)))
    for name, vector in vectors(["bea", "cyd"], 4).items():
        server.receive(name, sites[name].encrypt(1, vector >> np.uint32(4)))
    server.receive("ada", sent)
    receipts, blocks = server.close()
    broken = bytearray(blocks[0])
    broken[len(broken) // 2] ^= 1
    with refused(RoundFailed, "sum_unreadable"):
        sites["bea"].decrypt(1, receipts, [bytes(broken)])


@pytest.mark.parametrize("blocks", [(), (b"garbage" * 100,), (b"",), (b"x", b"y")])
def test_what_is_no_ciphertext_is_refused_though_it_is_signed(blocks: tuple[bytes, ...]) -> None:
    sites, agreement = set_up(session(3))
    sent = sites["ada"].encrypt(1, np.arange(4, dtype=np.uint32))
    receipt = sent.receipt.model_copy(update={"vector_sha256": ckks.hash_blocks(blocks)})
    signature = sites["ada"].signer.sign(receipt.content, purpose="secure-sum-vector")
    with refused(SumRefused, "wrong_vector"):
        server_of(agreement).receive("ada", Encrypted(receipt.model_copy(update={"signature": signature}), blocks))


def test_a_vector_under_another_name_round_or_model_is_refused() -> None:
    sites, agreement = set_up(session(3, rounds=2))
    server, vector = server_of(agreement), np.arange(4, dtype=np.uint32)
    sent = sites["ada"].encrypt(1, vector)
    with refused(SumRefused, "wrong_sender"):
        server.receive("bea", sent)
    with refused(IdentityError, "bad_signature"):
        server.receive("bea", Encrypted(sent.receipt.model_copy(update={"site": "bea"}), sent.blocks))
    with refused(SumRefused, "wrong_round"):
        server.receive("ada", sites["ada"].encrypt(2, vector))
    with refused(SumRefused, "other_context"):
        server.receive("ada", sites["ada"].encrypt(1, vector, model_sha256=sha("another")))


def test_the_same_vector_counts_once_and_a_second_one_is_refused() -> None:
    sites, agreement = set_up(session(3))
    server = server_of(agreement)
    given = {name: vector >> np.uint32(4) for name, vector in vectors(sites, 4).items()}
    sent = {name: sites[name].encrypt(1, vector) for name, vector in given.items()}
    for name in (*sent, "ada"):
        server.receive(name, sent[name])
    state = sites["ada"].disk
    with refused(SumRefused, "second_vector"):
        server.receive("ada", sites["ada"].encrypt(1, given["ada"]))
    sites["ada"].disk = state
    assert np.array_equal(sites["ada"].decrypt(1, *server.close()), total(given))


def test_without_tenseal_the_mode_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tenseal", None)
    ckks.public_context.cache_clear()
    with pytest.raises(SettingsError, match=r"^missing_extra$") as caught:
        ckks.public_context()
    assert "fedward[ckks]" in caught.value.detail
