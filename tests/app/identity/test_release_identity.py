from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedward.errors import IdentityError
from fedward.identity.certificates import check_chain, common_name, load_certificate
from fedward.identity.release_identity import make_release_identity, release_subject
from fedward.identity.signing import load_private_key, sign, verify
from trust_cases import DAY, NOW, PROJECT, Authority

ROOT = Authority()


def test_the_root_issues_it_to_the_projects_release_subject() -> None:
    _, pem = make_release_identity(PROJECT, ROOT.key, ROOT.certificate, now=NOW)
    certificate = load_certificate(pem)
    check_chain(certificate, ROOT.certificate, now=NOW)
    assert common_name(certificate) == release_subject(PROJECT) == "release.trials"


def test_the_key_is_the_certificates() -> None:
    key_pem, pem = make_release_identity(PROJECT, ROOT.key, ROOT.certificate, now=NOW)
    key = load_private_key(key_pem)
    assert isinstance(key, Ed25519PrivateKey)
    signature = sign(key, purpose="release", content=b"{}")
    verify(load_certificate(pem).public_key(), signature, purpose="release", content=b"{}")


def test_it_may_sign_and_nothing_else() -> None:
    _, pem = make_release_identity(PROJECT, ROOT.key, ROOT.certificate, now=NOW)
    extensions = load_certificate(pem).extensions
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    assert usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign
    assert constraints.critical
    assert not constraints.value.ca


def test_every_key_is_a_new_one() -> None:
    first, second = (make_release_identity(PROJECT, ROOT.key, ROOT.certificate, now=NOW) for _ in range(2))
    assert first[0] != second[0]


def test_a_name_that_begins_with_a_dot_is_refused_and_the_refusal_says_so() -> None:
    with pytest.raises(IdentityError, match="wrong_name") as caught:
        make_release_identity(".x", ROOT.key, ROOT.certificate, now=NOW)
    assert "not beginning with a dot" in caught.value.detail


def test_its_certificate_ends() -> None:
    _, pem = make_release_identity(PROJECT, ROOT.key, ROOT.certificate, now=NOW, valid=10 * DAY)
    with pytest.raises(IdentityError, match="expired_certificate"):
        check_chain(load_certificate(pem), ROOT.certificate, now=NOW + 11 * DAY)
