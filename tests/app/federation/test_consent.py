"""A hospital's yes to the leaving of its own model: of whom, for which job, and which model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from evaluation_cases import evaluation_job
from fedward.errors import FedwardError
from fedward.federation.consent import Consent, consent_to, hash_model, read_consents
from fedward.identity.certificates import fingerprint, load_certificate
from fedward.identity.document import JobDocument, ReleaseHashes, new_job_document
from secure_cases import hospital, roster_of
from trust_cases import DAY, NOW, PROJECT

SITES = ("east", "north", "south")
SIGNERS = {name: hospital(name) for name in SITES}
ROSTER = roster_of(*SIGNERS.values())
HASH = "ab" * 32


def document() -> JobDocument:
    hashes = ReleaseHashes(model=HASH, passport=HASH, signature=HASH)
    return new_job_document(evaluation_job(), project=PROJECT, sites=SITES, now=NOW, release=hashes)


def all_of(about: JobDocument) -> list[Consent]:
    models = {"east": HASH, "north": None, "south": "cd" * 32}
    return [consent_to(about, SIGNERS[name], model_sha256=models[name]) for name in SITES]


def test_the_yes_of_all_names_each_ones_model() -> None:
    about = document()
    read = read_consents(all_of(about)[::-1], about, roster=ROSTER, now=NOW)
    assert read == {"east": HASH, "north": None, "south": "cd" * 32}
    (first, *_) = all_of(about)
    assert Consent.from_bytes(first.to_bytes()) == first


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda yes: yes[:-1], "not_all_agreed"),
        (lambda yes: [*yes, yes[0]], "not_all_agreed"),
        (lambda yes: [*yes[:-1], yes[-1].model_copy(update={"site": "east"})], "not_all_agreed"),
        (lambda yes: [*yes[:-1], yes[-1].model_copy(update={"model_sha256": None})], "bad_signature"),
        (lambda yes: [*yes[:-1], yes[-1].model_copy(update={"signature": yes[0].signature})], "bad_signature"),
        (lambda yes: [*yes[:-1], yes[0].model_copy(update={"site": "south"})], "wrong_name"),
        (lambda yes: [*yes[:-1], all_of(document())[-1]], "bad_signature"),
    ],
    ids=["one missing", "one twice", "another's name", "no model", "another's signature", "another's yes", "other job"],
)
def test_what_is_not_the_yes_of_all_to_this_job_is_refused(
    change: Callable[[list[Consent]], list[Consent]], code: str
) -> None:
    about = document()
    with pytest.raises(FedwardError, match=f"^{code}$"):
        read_consents(change(all_of(about)), about, roster=ROSTER, now=NOW)


def test_who_is_revoked_or_not_in_the_roster_agrees_to_nothing() -> None:
    about = document()
    revoked = frozenset({fingerprint(load_certificate(SIGNERS["east"].certificate))})
    shorter = roster_of(*(SIGNERS[name] for name in SITES[1:]))
    for roster, now, code in (
        (replace(ROSTER, revoked=revoked), NOW, "revoked_signer"),
        (shorter, NOW, "unlisted_signer"),
        (ROSTER, NOW + 400 * DAY, "expired_certificate"),
    ):
        with pytest.raises(FedwardError, match=f"^{code}$"):
            read_consents(all_of(about), about, roster=roster, now=now)


def test_a_models_hash_is_of_its_numbers_and_not_of_how_they_lie_in_memory() -> None:
    numbers = np.arange(8, dtype=np.float32)
    assert hash_model(numbers) == hash_model(np.repeat(numbers, 2)[::2]) == hash_model(numbers.astype(">f4"))
    assert hash_model(numbers) != hash_model(numbers[::-1])
