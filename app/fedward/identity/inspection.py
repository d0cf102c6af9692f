"""What is wrong, or will be soon, with the certificates and the roster of a site file."""

from __future__ import annotations

import math
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fedward.errors import IdentityError
from fedward.identity.certificates import check_issued, check_valid_at, common_name, fingerprint, read_certificate
from fedward.identity.signing import load_private_key
from fedward.settings.site import Identity, SiteSettings

#: A certificate that ends within this time is worth a word: a new one takes a request, an approval and a restart.
SOON = timedelta(days=30)

#: No hash begins with so many zeros by chance: such a fingerprint stands for one that nobody has filled in.
_ZEROS = "0" * 56


@dataclass(frozen=True)
class Finding:
    """One thing to do something about: now (``wrong``) or before it is too late (``soon``)."""

    level: Literal["wrong", "soon"]
    code: str
    sentence: str


def nobodys_fingerprint(number: int = 0) -> str:
    """Give what stands in a rendered site file until a person fills in the fingerprint; each ``number`` another one."""
    return f"sha256:{number:064x}"


def inspect(site: SiteSettings, *, now: datetime, soon: timedelta = SOON) -> tuple[Finding, ...]:
    """Look at everything that a site file says of identity; nothing is found where all is well."""
    if site.identity is None:
        return (Finding("wrong", "no_identity", "the site file has no [identity]: every job is refused"),)
    return tuple(_findings(site, site.identity, now=now, soon=soon))


def _findings(site: SiteSettings, identity: Identity, *, now: datetime, soon: timedelta) -> Iterator[Finding]:
    yield from _list_findings(site, identity)
    try:
        root = read_certificate(identity.root_certificate)
    except IdentityError as error:
        yield Finding("wrong", error.code, f"root_certificate: {error.detail}")
        return
    yield from _validity_findings("root_certificate", root, now=now, soon=soon)
    if identity.certificate is None or identity.private_key is None:
        return
    try:
        own = read_certificate(identity.certificate)
        check_issued(own, root)
    except IdentityError as error:
        yield Finding("wrong", error.code, f"certificate: {error.detail}")
        return
    yield from _validity_findings("certificate", own, now=now, soon=soon)
    yield from _own_findings(site, identity, own)
    yield from _key_findings(identity.private_key, own)


def _list_findings(site: SiteSettings, identity: Identity) -> Iterator[Finding]:
    peers = identity.hospitals
    if not identity.coordinators or any(map(_is_nobodys, identity.coordinators)):
        yield Finding("wrong", "no_coordinator", "coordinators lists nobody: every job is refused")
    if revoked := sorted(set(identity.coordinators) & set(identity.revoked)):
        yield Finding("soon", "revoked_signer", f"coordinators lists {', '.join(revoked)}, which revoked lists too")
    needs_roster = set(site.bounds.exchange_modes) - {"plain"}
    if needs_roster and not peers:
        yield Finding("wrong", "no_roster", "[[identity.hospitals]] lists nobody: every encrypted sum is refused")
    if unknown := sorted(peer.name for peer in peers if _is_nobodys(peer.fingerprint)):
        yield Finding("wrong", "no_fingerprint", f"the roster has no fingerprint of {', '.join(unknown)}")
    live = {peer.organisation for peer in peers if peer.fingerprint not in identity.revoked}
    if peers and len(live) < site.bounds.min_organisations:
        wanted = site.bounds.min_organisations
        yield Finding("wrong", "too_few_organisations", f"the roster holds {len(live)}, min_organisations is {wanted}")
    if needs_roster and (identity.certificate is None or identity.private_key is None):
        yield Finding("wrong", "unreadable_key", "certificate and private_key of this hospital are not named")


def _validity_findings(
    what: str, certificate: x509.Certificate, *, now: datetime, soon: timedelta
) -> Iterator[Finding]:
    try:
        check_valid_at(certificate, now)
    except IdentityError as error:
        yield Finding("wrong", error.code, f"{what}: {error.detail}")
        return
    end = certificate.not_valid_after_utc
    if end - now <= soon:
        days = math.ceil((end - now) / timedelta(days=1))
        yield Finding("soon", "expires_soon", f"{what} ends on {end:%Y-%m-%d}, in {days} days")


def _own_findings(site: SiteSettings, identity: Identity, own: x509.Certificate) -> Iterator[Finding]:
    found = fingerprint(own)
    if common_name(own) != site.name:
        yield Finding("wrong", "wrong_name", f"certificate is that of {common_name(own)!r}, this site is {site.name!r}")
    if found in identity.revoked:
        yield Finding("wrong", "revoked_signer", "certificate: this hospital's own is in revoked")
    listed = next((peer for peer in identity.hospitals if peer.name == site.name), None)
    if identity.hospitals and (listed is None or listed.fingerprint != found):
        yield Finding("wrong", "unlisted_signer", f"the roster must list {site.name} with {found}")
    if listed is not None and listed.organisation != site.organisation:
        yield Finding(
            "wrong", "wrong_name", f"the roster puts {site.name} into {listed.organisation}, not {site.organisation}"
        )


def _key_findings(path: Path, own: x509.Certificate) -> Iterator[Finding]:
    try:
        key, mode = load_private_key(path.read_bytes()), stat.S_IMODE(path.stat().st_mode)
    except IdentityError as error:
        yield Finding("wrong", error.code, f"private_key: {error.detail}")
        return
    except OSError as error:
        yield Finding("wrong", "unreadable_key", f"private_key: {error.strerror}")
        return
    if mode & 0o077:
        yield Finding("wrong", "unsafe_permissions", f"others may read {path.name}: chmod 600")
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*form) != own.public_key().public_bytes(*form):
        yield Finding("wrong", "unreadable_key", "private_key does not belong to certificate")


def _is_nobodys(found: str) -> bool:
    return found.removeprefix("sha256:").startswith(_ZEROS)
