"""The roster: who else takes part, as this party knows it, and how a peer's signature is accepted.

Every leaf of a federation passes the same chain check, whoever holds it. So a peer is accepted only if its chain,
validity, name, role *and* fingerprint are what the roster says.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import NameOID

from fedward.errors import IdentityError
from fedward.identity.certificates import check_chain, common_name, fingerprint, load_certificate, public_key
from fedward.identity.signing import sign, verify

Role = Literal["hospital", "server", "coordinator"]

#: What a certificate may say of its holder's role (NVFLARE writes it there, or nothing at all).
_CERTIFIED: dict[Role, frozenset[str]] = {
    "hospital": frozenset({"", "client"}),
    "server": frozenset({"", "server"}),
    "coordinator": frozenset({"lead"}),
}


@dataclass(frozen=True)
class Member:
    """A line of the roster.

    Attributes:
        name: The certificate's common name.
        organisation: Whose it is; several members of one organisation count as one.
        fingerprint: ``sha256:`` and the hash of the certificate's DER bytes, hexadecimal.
        role: What it may do.
    """

    name: str
    organisation: str
    fingerprint: str
    role: Role = "hospital"


@dataclass(frozen=True)
class Roster:
    """The members of a federation, its root, and the fingerprints that are no longer trusted."""

    root: x509.Certificate
    members: tuple[Member, ...]
    revoked: Set[str] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        for kind in ("name", "fingerprint"):
            if len({getattr(member, kind) for member in self.members}) != len(self.members):
                raise ValueError(f"two members of a roster share a {kind}")

    def accept(self, content: bytes, *, name: str, role: Role, now: datetime) -> Member:
        """Give the member whose certificate ``content`` is (PEM or DER).

        Args:
            content: The certificate.
            name: Who its bearer says it is.
            role: What its bearer is about to do.
            now: With a time zone.

        Raises:
            IdentityError: ``untrusted_certificate``, ``expired_certificate``, ``revoked_signer``, ``wrong_role``,
                ``unlisted_signer`` or ``wrong_name``.
        """
        certificate = load_certificate(content)
        check_chain(certificate, self.root, now=now)
        found = fingerprint(certificate)
        if found in self.revoked:
            raise IdentityError("revoked_signer", f"the certificate {found} of {name!r} is revoked")
        if _certified_role(certificate) not in _CERTIFIED[role]:
            raise IdentityError("wrong_role", f"the certificate of {name!r} is not that of a {role}")
        member = next((member for member in self.members if member.fingerprint == found), None)
        if member is None:
            raise IdentityError("unlisted_signer", f"the roster does not list {found}, which calls itself {name!r}")
        if name != member.name or name != common_name(certificate):
            raise IdentityError("wrong_name", f"{found} is {member.name!r} in the roster and calls itself {name!r}")
        if member.role != role:
            raise IdentityError("wrong_role", f"{name!r} is a {member.role} in the roster, not a {role}")
        return member


@dataclass(frozen=True)
class Signer:
    """Who signs here: a name, the private key, and its certificate in PEM."""

    name: str
    key: PrivateKeyTypes = field(repr=False)
    certificate: bytes

    def sign(self, content: bytes, *, purpose: str) -> bytes:
        """Sign ``content`` for ``purpose``."""
        return sign(self.key, purpose=purpose, content=content)


def verify_by(certificate: bytes, signature: bytes, *, purpose: str, content: bytes) -> None:
    """Check a signature against a certificate that the roster has accepted.

    Raises:
        IdentityError: ``bad_signature``.
    """
    verify(public_key(load_certificate(certificate)), signature, purpose=purpose, content=content)


def _certified_role(certificate: x509.Certificate) -> str:
    """Give what the subject says of its role: empty where it says nothing, all of it where it says several things."""
    return " ".join(str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.UNSTRUCTURED_NAME))
