"""Certificates of one federation: one root, and leaves that it signed directly."""

from __future__ import annotations

import warnings
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import NameOID

from fedward.errors import IdentityError


def load_certificate(content: bytes) -> x509.Certificate:
    """Read a certificate in PEM or DER.

    Raises:
        IdentityError: ``untrusted_certificate``: it is neither, or breaks RFC 5280 so that cryptography warns of it
            (such as a serial number that is not positive).
    """
    is_pem = content.lstrip().startswith(b"-----")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", CryptographyDeprecationWarning)
            return x509.load_pem_x509_certificate(content) if is_pem else x509.load_der_x509_certificate(content)
    except (ValueError, x509.InvalidVersion, CryptographyDeprecationWarning) as error:
        raise IdentityError("untrusted_certificate", "expected a sound X.509 certificate in PEM or DER") from error


def read_certificate(path: Path) -> x509.Certificate:
    """Read a certificate's file.

    Raises:
        IdentityError: ``untrusted_certificate``: missing, unreadable or not a certificate; the detail names the file.
    """
    try:
        return load_certificate(path.read_bytes())
    except IdentityError as error:
        raise IdentityError(error.code, f"{path}: {error.detail}") from error
    except OSError as error:
        raise IdentityError("untrusted_certificate", f"cannot read {path}: {error.strerror}") from error


def fingerprint(certificate: x509.Certificate) -> str:
    """Give ``sha256:`` and the hash of the certificate's DER bytes, hexadecimal."""
    return f"sha256:{certificate.fingerprint(hashes.SHA256()).hex()}"


def fingerprint_of_file(path: Path) -> str:
    """Give the fingerprint of the certificate in a file."""
    return fingerprint(read_certificate(path))


def common_name(certificate: x509.Certificate) -> str:
    """Give the subject's common name, empty where it has none or several, or its subject cannot be read."""
    try:
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except ValueError:
        return ""
    return str(names[0].value) if len(names) == 1 else ""


def organisation(certificate: x509.Certificate) -> str:
    """Give the subject's organisation, the empty text where it has none."""
    names = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return str(names[0].value) if names else ""


def public_key(certificate: x509.Certificate) -> CertificatePublicKeyTypes:
    """Give the certificate's public key.

    Raises:
        IdentityError: ``unreadable_key``: no kind of key that is known here.
    """
    try:
        return certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise IdentityError("unreadable_key", "the certificate holds no key of a known kind") from error


def der(certificate: x509.Certificate) -> bytes:
    """Give the certificate's DER bytes."""
    return certificate.public_bytes(Encoding.DER)


def check_chain(certificate: x509.Certificate, root: x509.Certificate, *, now: datetime) -> None:
    """Check that ``root`` signed ``certificate`` directly and may do so, and that both are valid at ``now``.

    Raises:
        IdentityError: ``untrusted_certificate`` or ``expired_certificate``.
    """
    check_issued(certificate, root)
    check_valid_at(root, now)
    check_valid_at(certificate, now)


def check_issued(certificate: x509.Certificate, root: x509.Certificate) -> None:
    """Check that ``root`` is an authority and signed ``certificate`` directly; the root itself is no leaf.

    Raises:
        IdentityError: ``untrusted_certificate``.
    """
    subject = common_name(certificate)
    if not _is_authority(root):
        raise IdentityError("untrusted_certificate", f"the root {common_name(root)!r} is not a certificate authority")
    if _is_authority(certificate):
        raise IdentityError("untrusted_certificate", f"{subject!r} is an authority's own certificate, not a leaf")
    # Else a second certificate, with another fingerprint, would carry the same signature and escape a revocation.
    if not der(certificate).endswith(b"\0" + certificate.signature):
        raise IdentityError("untrusted_certificate", f"the signature of {subject!r} is not in its one DER encoding")
    try:
        certificate.verify_directly_issued_by(root)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise IdentityError(
            "untrusted_certificate", f"the certificate of {subject!r} is not signed by this root"
        ) from error


def check_valid_at(certificate: x509.Certificate, now: datetime) -> None:
    """Check the certificate's validity at ``now`` (with a time zone).

    Raises:
        IdentityError: ``expired_certificate``, also when it is not valid yet.
    """
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not start <= now <= end:
        raise IdentityError(
            "expired_certificate",
            f"the certificate of {common_name(certificate)!r} is valid from {start:%Y-%m-%d} to {end:%Y-%m-%d}, "
            f"now is {now:%Y-%m-%d}",
        )


def _is_authority(certificate: x509.Certificate) -> bool:
    """Whether the basic constraints say ``CA:TRUE``.

    Raises:
        IdentityError: ``untrusted_certificate``: the extensions cannot be read.
    """
    try:
        return bool(certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except x509.ExtensionNotFound:
        return False
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise IdentityError("untrusted_certificate", "the certificate's extensions cannot be read") from error
