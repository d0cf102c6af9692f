"""The key that signs releases: held by the release officer, apart from every login key and never on the server.

The officer makes the key and a request; the federation's authority signs a certificate for it. The key never travels.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import NameOID

from fedward.errors import IdentityError

#: A project's name: a certificate's common name has 64 characters at most, ``release.`` included.
PROJECT_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,55}")

_VALID = timedelta(days=360)
#: Clocks of hospitals differ.
_CLOCK_SKEW = timedelta(minutes=10)


def release_subject(project: str) -> str:
    """Give the common name of a project's release certificate."""
    return f"release.{project}"


def request_release_identity(project: str) -> tuple[bytes, bytes]:
    """Make an Ed25519 release key, and the request for its certificate.

    Returns:
        The private key (PKCS 8) and the request (PKCS 10), both PEM.

    Raises:
        IdentityError: ``wrong_name``: ``project`` is no name of a project.
    """
    key = Ed25519PrivateKey.generate()
    request = x509.CertificateSigningRequestBuilder().subject_name(_subject(project)).sign(key, None)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private, request.public_bytes(serialization.Encoding.PEM)


def approve_release_identity(
    request: bytes,
    project: str,
    root_key: CertificateIssuerPrivateKeyTypes,
    root: x509.Certificate,
    *,
    now: datetime | None = None,
    valid: timedelta = _VALID,
) -> bytes:
    """Sign the certificate that a request (PEM) asks for, with the federation's root; give it in PEM.

    Raises:
        IdentityError: ``untrusted_certificate``: not a request of the key's own holder; ``wrong_name``: not for the
            project's release subject; ``unreadable_key``: another kind of key than Ed25519.
    """
    now = now or datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_subject(project))
        .issuer_name(root.subject)
        .public_key(_requested_key(request, project))
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + valid)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_USAGE, critical=True)
        .sign(root_key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


def make_release_identity(
    project: str,
    root_key: CertificateIssuerPrivateKeyTypes,
    root: x509.Certificate,
    *,
    now: datetime | None = None,
    valid: timedelta = _VALID,
) -> tuple[bytes, bytes]:
    """Make an Ed25519 release key and its certificate from the federation's root, where one owner has both.

    Returns:
        The private key (PKCS 8) and the certificate, both PEM.
    """
    key, request = request_release_identity(project)
    return key, approve_release_identity(request, project, root_key, root, now=now, valid=valid)


def _requested_key(content: bytes, project: str) -> Ed25519PublicKey:
    try:
        request = x509.load_pem_x509_csr(content)
        is_sound = request.is_signature_valid
        names = [str(name.value) for name in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        key = request.public_key()
    except (ValueError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise IdentityError("untrusted_certificate", f"not a certificate request in PEM: {error}") from error
    if not is_sound:
        raise IdentityError("untrusted_certificate", "the request is not signed by the key that it names")
    if names != [release_subject(project)]:
        raise IdentityError("wrong_name", f"the request is for {names}, expected {release_subject(project)}")
    if not isinstance(key, Ed25519PublicKey):
        raise IdentityError("unreadable_key", f"expected an Ed25519 key, found {type(key).__name__}")
    return key


def _subject(project: str) -> x509.Name:
    if not PROJECT_NAME.fullmatch(project):
        raise IdentityError(
            "wrong_name",
            f"a project has a name of 1 to 56 of A-Z, a-z, 0-9, _, . and -, not beginning with a dot; got {project!r}",
        )
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, release_subject(project))])


_USAGE = x509.KeyUsage(
    digital_signature=True, content_commitment=True, key_encipherment=False, data_encipherment=False,
    key_agreement=False, key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False,
)  # fmt: skip
