"""A release: ``model.safetensors``, ``passport.json`` and ``passport.sig``, and how it is signed and verified."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fedward.errors import IdentityError, ReleaseRefused
from fedward.files import whole_folder, write_bytes
from fedward.identity import canonical
from fedward.identity.certificates import (
    check_issued,
    check_valid_at,
    common_name,
    der,
    fingerprint,
    load_certificate,
    public_key,
)
from fedward.identity.document import ReleaseHashes
from fedward.identity.release_identity import release_subject
from fedward.identity.signing import algorithm_of, sign, verify
from fedward.release.passport import Passport, parse_passport
from fedward.settings.site import Fingerprint

MODEL, PASSPORT, SIGNATURE = "model.safetensors", "passport.json", "passport.sig"

_PURPOSE = "release"
_ENVELOPE = {"algorithm", "certificate", "signature"}


@dataclass(frozen=True)
class ReleaseParts:
    """The bytes of a release's three files; nothing in them is trusted."""

    model: bytes
    passport: bytes
    signature: bytes

    @property
    def hashes(self) -> ReleaseHashes:
        """SHA-256 of each file."""
        return ReleaseHashes(
            model=_sha256(self.model), passport=_sha256(self.passport), signature=_sha256(self.signature)
        )


@dataclass(frozen=True)
class Signer:
    """Who signed a release.

    Attributes:
        subject: The certificate's common name.
        fingerprint: Of the certificate.
        is_verified: Whether the certificate was checked against a root; else the release only agrees with itself.
    """

    subject: str
    fingerprint: str
    is_verified: bool


@dataclass(frozen=True)
class Release:
    """A release whose parts agree with one another."""

    parts: ReleaseParts
    passport: Passport
    signer: Signer


@dataclass(frozen=True)
class Trust:
    """What a site checks a release against.

    Attributes:
        root: The federation's root certificate.
        project: The federation.
        now: The moment, with time zone.
        revoked: Fingerprints of certificates that count no more.
    """

    root: x509.Certificate
    project: str
    now: datetime
    revoked: tuple[Fingerprint, ...] = ()


def model_bytes(parameters: Mapping[str, NDArray[np.float32]]) -> bytes:
    """Give the content of ``model.safetensors`` for named parameters."""
    return save(dict(parameters))


def parameters_of(model: bytes) -> dict[str, NDArray[np.float32]]:
    """Read the content of ``model.safetensors``.

    Raises:
        ReleaseRefused: ``altered_model``: not safetensors, or numbers of a type that numpy lacks.
    """
    try:
        parameters: dict[str, NDArray[np.float32]] = load(model)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ReleaseRefused("altered_model", f"{MODEL} is not a safetensors file: {error}") from error
    return parameters


def sign_release(
    model: bytes, passport: Passport, *, key: PrivateKeyTypes, certificate: x509.Certificate
) -> ReleaseParts:
    """Sign a passport with the coordinator's release key.

    Raises:
        ReleaseRefused: the passport names another model or another signer.
        IdentityError: the key is unreadable or not the certificate's.
    """
    if passport.model_sha256 != _sha256(model) or passport.signer != fingerprint(certificate):
        raise ReleaseRefused("altered_passport", "the passport must name this model's hash and this signer")
    content = passport.content()
    signature = sign(key, purpose=_PURPOSE, content=content)
    verify(public_key(certificate), signature, purpose=_PURPOSE, content=content)
    envelope = {
        "algorithm": algorithm_of(key),
        "certificate": base64.b64encode(der(certificate)).decode(),
        "signature": base64.b64encode(signature).decode(),
    }
    return ReleaseParts(model=model, passport=content, signature=canonical.encode(envelope))


def write_release(folder: Path, parts: ReleaseParts, *, mode: int = 0o700) -> None:
    """Write the three files to ``folder``, all or none, each flushed to the disk; ``mode`` is the folder's.

    Raises:
        StoreError: the disk cannot take them.
    """
    with whole_folder(folder, mode=mode) as temporary:
        for name, content in ((MODEL, parts.model), (PASSPORT, parts.passport), (SIGNATURE, parts.signature)):
            write_bytes(temporary / name, content, mode=mode & 0o666)


def read_parts(folder: Path) -> ReleaseParts:
    """Read a release's three files.

    Raises:
        ReleaseRefused: ``missing_part``.
    """
    missing = [name for name in (MODEL, PASSPORT, SIGNATURE) if not (folder / name).is_file()]
    if missing:
        raise ReleaseRefused("missing_part", f"{folder.name} lacks {', '.join(missing)}")
    try:
        model, passport, signature = ((folder / name).read_bytes() for name in (MODEL, PASSPORT, SIGNATURE))
    except OSError as error:
        raise ReleaseRefused("missing_part", f"a file of {folder.name} cannot be read: {error.strerror}") from error
    return ReleaseParts(model=model, passport=passport, signature=signature)


def verify_release(parts: ReleaseParts, trust: Trust | None = None) -> Release:
    """Check that the parts belong together and, with ``trust``, that the project's release key signed them.

    Without ``trust`` any altered byte is still found, since the passport names its signer's certificate; but anybody
    could have made such a release, and :attr:`Signer.is_verified` is False.

    Raises:
        ReleaseRefused: ``altered_passport``, ``altered_signature``, ``altered_model``; with ``trust`` also
            ``untrusted_signer`` (another root), ``wrong_subject`` (the root's, but no release certificate of this
            project: the server, a hospital, a coordinator's login), ``revoked_signer``, ``expired_certificate`` and
            ``wrong_project``.
    """
    passport = parse_passport(parts.passport)
    certificate, signature = _envelope(parts.signature)
    if fingerprint(certificate) != passport.signer:
        raise ReleaseRefused(
            "untrusted_signer",
            f"the passport names the signer {passport.signer}, the signature comes with {fingerprint(certificate)}",
        )
    if trust:
        _check_signer(certificate, trust)
    try:
        verify(public_key(certificate), signature, purpose=_PURPOSE, content=parts.passport)
    except IdentityError as error:
        raise ReleaseRefused("altered_signature", f"{SIGNATURE}: {error.detail}") from error
    if _sha256(parts.model) != passport.model_sha256:
        raise ReleaseRefused("altered_model", f"{MODEL} is not the model that the passport names")
    if trust and passport.project != trust.project:
        raise ReleaseRefused("wrong_project", f"expected a release of {trust.project}, found one of {passport.project}")
    signer = Signer(common_name(certificate), fingerprint(certificate), is_verified=trust is not None)
    return Release(parts, passport, signer)


def _check_signer(certificate: x509.Certificate, trust: Trust) -> None:
    try:
        check_issued(certificate, trust.root)
    except IdentityError as error:
        raise ReleaseRefused("untrusted_signer", error.detail) from error
    subject, expected = common_name(certificate), release_subject(trust.project)
    if subject != expected:
        raise ReleaseRefused("wrong_subject", f"expected the signer {expected}, found {subject!r}")
    if fingerprint(certificate) in trust.revoked:
        raise ReleaseRefused("revoked_signer", f"[identity] revoked lists the signer {fingerprint(certificate)}")
    try:
        check_valid_at(trust.root, trust.now)
        check_valid_at(certificate, trust.now)
    except IdentityError as error:
        raise ReleaseRefused("expired_certificate", error.detail) from error


def _envelope(content: bytes) -> tuple[x509.Certificate, bytes]:
    """Read ``passport.sig``; its base64 must be the one encoding of what it holds."""
    try:
        parts = canonical.decode(content)
        if set(parts) != _ENVELOPE:
            raise ValueError(f"expected {', '.join(sorted(_ENVELOPE))}, found {sorted(parts)}")
        certificate = load_certificate(_from_base64(parts["certificate"]))
        if parts["algorithm"] != algorithm_of(public_key(certificate)):
            raise ValueError("the algorithm is not that of the certificate's key")
        return certificate, _from_base64(parts["signature"])
    except (IdentityError, ValueError, TypeError) as error:
        detail = error.detail if isinstance(error, IdentityError) else str(error)
        raise ReleaseRefused("altered_signature", f"{SIGNATURE}: {detail}") from error


def _from_base64(text: str) -> bytes:
    raw = base64.b64decode(text, validate=True)
    if base64.b64encode(raw).decode() != text:
        raise ValueError("the base64 text is not canonical")
    return raw


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
