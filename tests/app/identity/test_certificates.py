from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from fedward.errors import IdentityError
from fedward.identity.certificates import (
    check_chain,
    check_issued,
    check_valid_at,
    common_name,
    fingerprint,
    fingerprint_of_file,
    load_certificate,
    read_certificate,
)
from trust_cases import DAY, NOW, Authority, der, pem

ROOT = Authority()
LEAF = ROOT.leaf("north")


def test_pem_and_der_are_the_same_certificate() -> None:
    assert load_certificate(pem(LEAF)) == load_certificate(der(LEAF)) == LEAF


def test_a_fingerprint_is_the_hash_of_the_der_bytes(tmp_path: Path) -> None:
    (tmp_path / "north.crt").write_bytes(pem(LEAF))
    expected = "sha256:" + hashlib.sha256(der(LEAF)).hexdigest()
    assert fingerprint(LEAF) == fingerprint_of_file(tmp_path / "north.crt") == expected


@pytest.mark.parametrize("content", [b"", b"text", b"-----BEGIN CERTIFICATE-----\n", der(LEAF)[:-1], der(LEAF) + b"\0"])
def test_what_is_no_certificate_is_refused(content: bytes) -> None:
    with pytest.raises(IdentityError, match="untrusted_certificate"):
        load_certificate(content)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match="untrusted_certificate") as caught:
        read_certificate(tmp_path / "root.pem")
    assert "root.pem" in caught.value.detail


def test_the_common_name_is_the_subjects() -> None:
    assert common_name(LEAF) == "north"


def test_a_leaf_of_the_root_is_issued_by_it() -> None:
    check_issued(LEAF, ROOT.certificate)


def test_a_foreign_root_of_the_same_name_did_not_issue_it() -> None:
    with pytest.raises(IdentityError, match="untrusted_certificate"):
        check_issued(LEAF, Authority("foreign").certificate)


def test_a_leaf_cannot_issue() -> None:
    child = Authority("north").leaf("child")
    with pytest.raises(IdentityError, match="untrusted_certificate") as caught:
        check_issued(child, LEAF)
    assert "not a certificate authority" in caught.value.detail


def test_an_authority_is_no_leaf_not_even_the_root_itself() -> None:
    for authority in (ROOT.certificate, ROOT.leaf("middle", is_authority=True)):
        with pytest.raises(IdentityError, match="untrusted_certificate") as caught:
            check_issued(authority, ROOT.certificate)
        assert "not a leaf" in caught.value.detail


def test_a_certificate_is_valid_from_its_first_to_its_last_second() -> None:
    start, end = LEAF.not_valid_before_utc, LEAF.not_valid_after_utc
    for moment in (start, NOW, end):
        check_valid_at(LEAF, moment)
    for moment in (start - DAY / 86400, end + DAY / 86400):
        with pytest.raises(IdentityError, match="expired_certificate"):
            check_valid_at(LEAF, moment)


def test_a_chain_is_valid_only_while_its_root_is() -> None:
    old = Authority(start=NOW - 30 * DAY, end=NOW - DAY)
    check_chain(LEAF, ROOT.certificate, now=NOW)
    with pytest.raises(IdentityError, match="expired_certificate"):
        check_chain(old.leaf("north"), old.certificate, now=NOW)


def test_no_flipped_byte_of_a_certificate_passes_the_chain_check() -> None:
    content = der(LEAF)
    for place in range(len(content)):
        altered = bytearray(content)
        altered[place] ^= 1
        with pytest.raises(IdentityError, match=r"untrusted_certificate|expired_certificate"):
            check_chain(load_certificate(bytes(altered)), ROOT.certificate, now=NOW)


def test_no_second_certificate_carries_the_same_signature() -> None:
    """The byte before the signature counts its unused bits; where the last bit is 0, DER readers accept 1 too."""
    leaf = next(leaf for leaf in (ROOT.leaf("north") for _ in range(100)) if leaf.signature[-1] % 2 == 0)
    content = bytearray(der(leaf))
    content[-len(leaf.signature) - 1] = 1
    twin = load_certificate(bytes(content))
    assert fingerprint(twin) != fingerprint(leaf)
    twin.verify_directly_issued_by(ROOT.certificate)
    with pytest.raises(IdentityError, match="untrusted_certificate"):
        check_issued(twin, ROOT.certificate)
