r"""Signatures that say what they are for.

Every signed message is ``"fedward/<purpose>/v1\0"`` and the bytes: a signature made for one purpose, or at NVFLARE's
login, is none for another.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes

from fedward.errors import IdentityError

#: How a key signs; the key alone decides, so that no message can choose a weaker way.
Algorithm = Literal["ed25519", "rsa-pss-sha256"]

_PSS = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)


def load_private_key(pem: bytes) -> PrivateKeyTypes:
    """Read an unencrypted private key in PEM.

    Raises:
        IdentityError: ``unreadable_key``.
    """
    try:
        # It is the reader's own key; OpenSSL's test whether an RSA key is sound takes 25 ms each time.
        return serialization.load_pem_private_key(pem, password=None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise IdentityError("unreadable_key", "the private key is not an unencrypted PEM key") from error


def read_private_key(path: Path) -> PrivateKeyTypes:
    """Read a private key's file.

    Raises:
        IdentityError: ``unreadable_key``: missing, unreadable, or not an unencrypted PEM key.
    """
    try:
        return load_private_key(path.read_bytes())
    except OSError as error:
        raise IdentityError("unreadable_key", f"cannot read {path}: {error.strerror}") from error


def algorithm_of(key: PrivateKeyTypes | PublicKeyTypes) -> Algorithm:
    """Give the one way in which a key of this kind signs.

    Raises:
        IdentityError: ``unreadable_key``: neither Ed25519 nor RSA.
    """
    if isinstance(key, Ed25519PrivateKey | Ed25519PublicKey):
        return "ed25519"
    if isinstance(key, RSAPrivateKey | RSAPublicKey):
        return "rsa-pss-sha256"
    raise IdentityError("unreadable_key", f"expected an Ed25519 or RSA key, found {type(key).__name__}")


def sign(key: PrivateKeyTypes, *, purpose: str, content: bytes) -> bytes:
    """Sign ``content`` for ``purpose``: Ed25519, or RSA-PSS with SHA-256 (RFC 8017, 8.1).

    Raises:
        IdentityError: ``unreadable_key``: another kind of key.
    """
    message = _message(purpose, content)
    if isinstance(key, Ed25519PrivateKey):
        return key.sign(message)
    if isinstance(key, RSAPrivateKey):
        return key.sign(message, _PSS, hashes.SHA256())
    raise IdentityError("unreadable_key", f"expected an Ed25519 or RSA key, found {type(key).__name__}")


def verify(key: PublicKeyTypes, signature: bytes, *, purpose: str, content: bytes) -> None:
    """Check a signature of :func:`sign`.

    Raises:
        IdentityError: ``bad_signature``, or ``unreadable_key`` for another kind of key.
    """
    message = _message(purpose, content)
    try:
        if isinstance(key, Ed25519PublicKey):
            key.verify(signature, message)
        elif isinstance(key, RSAPublicKey):
            key.verify(signature, message, _PSS, hashes.SHA256())
        else:
            raise IdentityError("unreadable_key", f"expected an Ed25519 or RSA key, found {type(key).__name__}")
    except InvalidSignature as error:
        raise IdentityError("bad_signature", f"the {purpose} signature does not fit the content") from error


def _message(purpose: str, content: bytes) -> bytes:
    return b"fedward/" + purpose.encode("ascii") + b"/v1\0" + content
