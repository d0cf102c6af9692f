"""The key that signs releases: held by the coordinator, apart from every login key and never on the server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import NameOID

_VALID = timedelta(days=360)
#: Clocks of hospitals differ.
_CLOCK_SKEW = timedelta(minutes=10)


def release_subject(project: str) -> str:
    """Give the common name of a project's release certificate."""
    return f"release.{project}"


def make_release_identity(
    project: str,
    root_key: CertificateIssuerPrivateKeyTypes,
    root: x509.Certificate,
    *,
    now: datetime | None = None,
    valid: timedelta = _VALID,
) -> tuple[bytes, bytes]:
    """Make an Ed25519 release key and its certificate from the federation's root.

    Returns:
        The private key (PKCS 8) and the certificate, both PEM.
    """
    now = now or datetime.now(UTC)
    key = Ed25519PrivateKey.generate()
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=True, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, release_subject(project))]))
        .issuer_name(root.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + valid)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .sign(root_key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private, certificate.public_bytes(serialization.Encoding.PEM)
