"""The roster and the signing key that a site file names."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509

from fedward.errors import IdentityError
from fedward.identity.certificates import common_name, fingerprint, load_certificate, organisation, read_certificate
from fedward.identity.roster import Member, Roster, Signer
from fedward.identity.signing import load_private_key
from fedward.settings.site import Identity


def roster_of(identity: Identity) -> Roster:
    """Give the hospitals with which this one takes part in an encrypted sum.

    Raises:
        IdentityError: ``no_roster``: the site file lists none; ``untrusted_certificate``: the root cannot be read.
    """
    if not identity.hospitals:
        raise IdentityError("no_roster", "[[identity.hospitals]] lists nobody to take part in an encrypted sum with")
    members = tuple(Member(peer.name, peer.organisation, peer.fingerprint) for peer in identity.hospitals)
    return Roster(read_certificate(identity.root_certificate), members, frozenset(identity.revoked))


def signer_of(identity: Identity, *, name: str) -> Signer:
    """Give this hospital's own key.

    Raises:
        IdentityError: ``unreadable_key``: the site file names none, or it cannot be read.
    """
    if identity.certificate is None or identity.private_key is None:
        raise IdentityError("unreadable_key", "[identity] names no certificate and private_key of this hospital")
    try:
        key, certificate = identity.private_key.read_bytes(), identity.certificate.read_bytes()
    except OSError as error:
        raise IdentityError("unreadable_key", f"[identity] certificate or private_key: {error.strerror}") from error
    return Signer(name, load_private_key(key), certificate)


def claimed_roster(certificates: Sequence[bytes], root: x509.Certificate) -> Roster:
    """Give the roster that the certificates themselves claim: for a server, which is trusted with nothing.

    Raises:
        IdentityError: ``untrusted_certificate``; ``wrong_name``: two share a name.
    """
    loaded = [load_certificate(content) for content in certificates]
    members = [Member(common_name(one), organisation(one), fingerprint(one)) for one in loaded]
    try:
        return Roster(root, tuple(members))
    except ValueError as error:
        raise IdentityError("wrong_name", str(error)) from error
