from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from fedward.errors import IdentityError
from fedward.identity.signing import algorithm_of, load_private_key, sign, verify
from trust_cases import pem_of, rsa_key

KEYS = {"ed25519": Ed25519PrivateKey.generate(), "rsa-pss-sha256": rsa_key("signer")}
CONTENT = b'{"a":1}'


@pytest.fixture(params=sorted(KEYS))
def key(request: pytest.FixtureRequest) -> PrivateKeyTypes:
    return KEYS[request.param]


def test_a_signature_verifies(key: PrivateKeyTypes) -> None:
    verify(key.public_key(), sign(key, purpose="job", content=CONTENT), purpose="job", content=CONTENT)


def test_a_signature_holds_for_its_purpose_and_content_alone(key: PrivateKeyTypes) -> None:
    signature = sign(key, purpose="job", content=CONTENT)
    for purpose, content in (("release", CONTENT), ("job", CONTENT + b" "), ("job", b"")):
        with pytest.raises(IdentityError, match="bad_signature"):
            verify(key.public_key(), signature, purpose=purpose, content=content)


def test_no_flipped_byte_of_a_signature_verifies(key: PrivateKeyTypes) -> None:
    signature = sign(key, purpose="job", content=CONTENT)
    for place in range(len(signature)):
        altered = bytearray(signature)
        altered[place] ^= 1
        with pytest.raises(IdentityError, match="bad_signature"):
            verify(key.public_key(), bytes(altered), purpose="job", content=CONTENT)


@pytest.mark.parametrize("length", [0, 63, 65, 256])
def test_a_signature_of_another_length_is_refused(key: PrivateKeyTypes, length: int) -> None:
    with pytest.raises(IdentityError, match="bad_signature"):
        verify(key.public_key(), bytes(length), purpose="job", content=CONTENT)


def test_another_key_does_not_verify() -> None:
    signature = sign(rsa_key("signer"), purpose="job", content=CONTENT)
    with pytest.raises(IdentityError, match="bad_signature"):
        verify(rsa_key("other").public_key(), signature, purpose="job", content=CONTENT)


def test_what_the_login_signs_is_no_signature_of_ours() -> None:
    """NVFLARE signs text that the server chooses, with the same RSA key, as PSS with the largest salt."""
    text = b"fedward/job/v1\0" + CONTENT
    pss = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=padding.PSS.MAX_LENGTH)
    for content in (CONTENT, text):
        signature = rsa_key("signer").sign(content, pss, hashes.SHA256())
        with pytest.raises(IdentityError, match="bad_signature"):
            verify(rsa_key("signer").public_key(), signature, purpose="job", content=CONTENT)


def test_the_key_alone_names_the_algorithm() -> None:
    for name, key in KEYS.items():
        assert algorithm_of(key) == algorithm_of(key.public_key()) == name


def test_another_kind_of_key_neither_signs_nor_verifies() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(IdentityError, match="unreadable_key"):
        sign(key, purpose="job", content=CONTENT)
    with pytest.raises(IdentityError, match="unreadable_key"):
        verify(key.public_key(), b"", purpose="job", content=CONTENT)
    with pytest.raises(IdentityError, match="unreadable_key"):
        algorithm_of(key)


def test_a_private_key_is_read_from_pem() -> None:
    key = load_private_key(pem_of(rsa_key("signer")))
    verify(rsa_key("signer").public_key(), sign(key, purpose="job", content=b""), purpose="job", content=b"")


@pytest.mark.parametrize(
    "content", [b"", b"not a key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"]
)
def test_what_is_no_key_is_refused(content: bytes) -> None:
    with pytest.raises(IdentityError, match="unreadable_key"):
        load_private_key(content)


def test_an_encrypted_key_is_refused() -> None:
    encrypted = rsa_key("signer").private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    with pytest.raises(IdentityError, match="unreadable_key"):
        load_private_key(encrypted)
