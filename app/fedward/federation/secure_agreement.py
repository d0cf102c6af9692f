"""What stands once every set-up has been read: the peers, their keys, and what they agree on.

Sites and server compute it each for itself from the same signed messages.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence, Set
from datetime import datetime

from pydantic import Field, ValidationError

from fedward.errors import IdentityError, SumRefused
from fedward.federation.masks import PROTOCOL, agree, derive
from fedward.federation.secure_messages import (
    SET_UP_PURPOSE,
    SURVIVORS_PURPOSE,
    VECTOR_PURPOSE,
    Receipt,
    RoundKeys,
    Session,
    SetUp,
    SetUpContent,
    Value,
    Vote,
)
from fedward.identity import canonical
from fedward.identity.roster import Roster, verify_by


class Peer(Value):
    """A site whose set-up was accepted; ``point`` is where its shares lie."""

    name: str
    organisation: str
    fingerprint: str
    certificate: bytes
    point: int
    channel_key: bytes
    keys: dict[int, RoundKeys]


class Agreement(Value):
    """The outcome of a set-up.

    Attributes:
        session: What it is for.
        peers: By name: everybody whose set-up was accepted.
        set_ups_sha256: Of all their set-ups.
        participants: Those of them whose shares everybody holds, sorted; they alone may send vectors. Empty until the
            shares are dealt.
    """

    session: Session
    peers: dict[str, Peer] = Field(repr=False)
    set_ups_sha256: str
    participants: tuple[str, ...] = ()

    def joined_by(self, participants: Iterable[str]) -> Agreement:
        """Give the agreement of those whose shares were dealt.

        Raises:
            SumRefused: ``unknown_site``, or ``too_few_peers``: fewer than the threshold.
        """
        names = tuple(sorted(set(participants)))
        for name in names:
            self.peer(name)
        if len(names) < self.session.threshold:
            raise SumRefused("too_few_peers", f"expected at least {self.session.threshold} participants, found {names}")
        return self.model_copy(update={"participants": names})

    def peer(self, name: str) -> Peer:
        """Give a peer by name.

        Raises:
            SumRefused: ``unknown_site``.
        """
        if name not in self.peers:
            raise SumRefused("unknown_site", f"{name!r} has no set-up in attempt {self.session.attempt}")
        return self.peers[name]

    def organisations(self, names: Iterable[str]) -> Set[str]:
        """Give the organisations that ``names`` belong to."""
        return frozenset(self.peers[name].organisation for name in names)

    def context(self, round_number: int, model_sha256: str) -> str:
        """Give SHA-256 of all that the sites of a round must agree on, hexadecimal.

        Every mask's key depends on it: a site that was told something else adds noise.
        """
        session = self.session
        return hashlib.sha256(
            canonical.encode(
                {
                    "protocol": PROTOCOL,
                    "job": session.job_id,
                    "attempt": session.attempt,
                    "round": round_number,
                    "roster": sorted(self.peers[name].fingerprint for name in self.participants),
                    "set_ups": self.set_ups_sha256,
                    "model": model_sha256,
                    "document": session.job_sha256,
                    "quantiser": session.quantiser_sha256,
                    "length": session.length,
                }
            )
        ).hexdigest()

    def check_receipt(self, receipt: Receipt, *, round_number: int, context: str) -> None:
        """Check that a participant made this vector for this round and with this view of it.

        Raises:
            SumRefused: ``unknown_site``, ``wrong_round`` or ``other_context``.
            IdentityError: ``bad_signature``.
        """
        if receipt.site not in self.participants:
            raise SumRefused("unknown_site", f"{receipt.site!r} takes no part in attempt {self.session.attempt}")
        if receipt.round_number != round_number:
            raise SumRefused("wrong_round", f"expected a vector of round {round_number}, got {receipt.round_number}")
        if receipt.context != context:
            raise SumRefused(
                "other_context", f"{receipt.site!r} has another model, job document, format, plan or list of peers"
            )
        verify_by(
            self.peer(receipt.site).certificate, receipt.signature, purpose=VECTOR_PURPOSE, content=receipt.content
        )


def read_set_ups(set_ups: Sequence[SetUp], session: Session, *, roster: Roster, now: datetime) -> Agreement:
    """Give what the set-ups of all peers agree on; every one of them must be sound.

    Raises:
        SumRefused: ``wrong_session``: of another job, attempt or plan; ``repeated_set_up``: two of one site;
            ``too_few_peers``: fewer organisations than the threshold.
        IdentityError: not canonical, a bad signature, or a signer whom the roster does not list as this hospital.
    """
    accepted = [_read(set_up, session, roster=roster, now=now) for set_up in set_ups]
    names = [peer.name for peer in accepted]
    if len(set(names)) != len(names):
        raise SumRefused("repeated_set_up", f"expected one set-up a site, found {sorted(names)}")
    agreement = Agreement(
        session=session,
        peers={peer.name: peer for peer in accepted},
        set_ups_sha256=_digest(set_ups),
    )
    if len(agreement.organisations(names)) < session.threshold:
        raise SumRefused("too_few_peers", f"expected {session.threshold} organisations, found those of {sorted(names)}")
    return agreement


def check_trusted(agreement: Agreement, *, roster: Roster, now: datetime) -> None:
    """Hold every participant against the roster again: what was revoked since is obeyed at the next round.

    Raises:
        IdentityError: a participant's certificate is revoked, expired or no longer listed.
    """
    for name in agreement.participants:
        roster.accept(agreement.peer(name).certificate, name=name, role="hospital", now=now)


def check_vote(agreement: Agreement, vote: Vote, *, statement: bytes, survivors: Collection[str]) -> None:
    """Check that a survivor signed this survivor set.

    Raises:
        SumRefused: ``unknown_site``: no survivor.
        IdentityError: ``bad_signature``.
    """
    if vote.site not in survivors:
        raise SumRefused("unknown_site", f"{vote.site!r} is not among the survivors")
    certificate = agreement.peer(vote.site).certificate
    verify_by(certificate, vote.signature, purpose=SURVIVORS_PURPOSE, content=statement)


def self_key(seed: bytes, context: str) -> bytes:
    """Give the key of a site's self-mask."""
    return derive(seed, purpose="self", context=context.encode())


def pair_key(
    agreement: Agreement, private_key: bytes, round_number: int, *, context: str, of: str, to: str
) -> tuple[bytes, int]:
    """Give the key of the mask between two participants, and the sign with which ``of`` adds it.

    Raises:
        SumRefused: ``weak_key``.
    """
    mine, other = agreement.peer(of), agreement.peer(to)
    shared = agree(private_key, bytes.fromhex(other.keys[round_number].public_key))
    pair = " ".join(sorted((mine.fingerprint, other.fingerprint)))
    key = derive(shared, purpose="pair", context=f"{context} {pair}".encode())
    return key, 1 if mine.point < other.point else -1


def _digest(set_ups: Sequence[SetUp]) -> str:
    return hashlib.sha256(b"".join(sorted(hashlib.sha256(s.content).digest() for s in set_ups))).hexdigest()


def _read(set_up: SetUp, session: Session, *, roster: Roster, now: datetime) -> Peer:
    try:
        canonical.decode(set_up.content)
        content = SetUpContent.model_validate_json(set_up.content)
    except ValidationError as error:
        raise IdentityError("not_canonical", f"not a set-up: {error.error_count()} faults") from error
    member = roster.accept(set_up.certificate, name=content.site, role="hospital", now=now)
    verify_by(set_up.certificate, set_up.signature, purpose=SET_UP_PURPOSE, content=set_up.content)
    if content.session != session or len(content.keys) != len(session.rounds):
        raise SumRefused("wrong_session", f"the set-up of {content.site!r} is of another job, attempt or plan")
    if member.name not in session.sites:
        raise SumRefused("unknown_site", f"the job does not ask {member.name!r}")
    return Peer(
        name=member.name,
        organisation=member.organisation,
        fingerprint=member.fingerprint,
        certificate=set_up.certificate,
        point=session.sites.index(member.name) + 1,
        channel_key=bytes.fromhex(content.channel_key),
        keys=dict(zip(session.rounds, content.keys, strict=True)),
    )
