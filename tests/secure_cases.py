"""A federation of hospitals that sum under encryption, step by step, as several tests need it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedward.errors import FedwardError
from fedward.federation.secure_agreement import Agreement, read_set_ups
from fedward.federation.secure_messages import (
    SET_UP_PURPOSE,
    VECTOR_PURPOSE,
    Box,
    Masked,
    Opened,
    Receipt,
    Session,
    SetUp,
    SetUpContent,
    Vote,
    hash_vector,
    receipt_content,
)
from fedward.federation.secure_site import begin, mask, open_shares, sign_survivors, take_set_ups, take_shares
from fedward.federation.secure_state import SiteState
from fedward.federation.secure_sum import ServerRound
from fedward.identity import canonical
from fedward.identity.certificates import fingerprint, load_certificate
from fedward.identity.roster import Member, Roster, Signer
from fedward.randomness import Secret
from trust_cases import NOW, Authority, pem, rsa_key

NAMES = ("ada", "bea", "cyd", "dot", "eve", "fay", "gus", "hal")


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


MODEL = sha("model")


def hospital(name: str, *, authority: str = "root", rsa: bool = False, role: str | None = None) -> Signer:
    """Give a key and a certificate of this name, the same ones for the whole run."""
    return _made(name, authority, rsa, role)


@cache
def _made(name: str, authority: str, rsa: bool, role: str | None) -> Signer:
    key = rsa_key(name) if rsa else Ed25519PrivateKey.generate()
    return Signer(name, key, pem(Authority(authority).leaf(name, key=key, role=role)))


def member(signer: Signer, organisation: str | None = None, **more: Any) -> Member:
    found = fingerprint(load_certificate(signer.certificate))
    return Member(signer.name, organisation or f"org-{signer.name}", found, **more)


def session(count: int = 3, *, length: int = 4, rounds: int = 1, **more: Any) -> Session:
    """Give the session of a job that asks the first ``count`` hospitals."""
    about: dict[str, Any] = {"job_id": "a" * 32, "job_sha256": sha("job"), "quantiser_sha256": sha("format")}
    about |= {"sites": NAMES[:count], "attempt": 0}
    return Session(**{**about, "length": length, "first_round": 1, "last_round": rounds, **more})


@dataclass
class Site:
    """One hospital: what it keeps lies in ``disk`` alone, written before each message is given."""

    signer: Signer
    roster: Roster
    secret: Secret = field(default_factory=Secret)
    disk: bytes = b""

    @property
    def name(self) -> str:
        return self.signer.name

    @property
    def state(self) -> SiteState:
        return SiteState.from_bytes(self.disk)

    def _keep(self, state: SiteState) -> None:
        self.disk = state.to_bytes()

    def begin(self, about: Session, **more: Any) -> SetUp:
        state, message = begin(about, self.signer, **{"minimum": 3, "secret": self.secret, **more})
        self._keep(state)
        return message

    def take_set_ups(self, messages: Sequence[SetUp], **more: Any) -> tuple[Box, ...]:
        given = {"roster": self.roster, "now": NOW, "secret": self.secret, **more}
        state, boxes = take_set_ups(self.state, messages, **given)
        self._keep(state)
        return boxes

    def take_shares(self, boxes: Sequence[Box]) -> None:
        self._keep(take_shares(self.state, boxes))

    def mask(self, number: int, vector: np.ndarray, **more: Any) -> Masked:
        given = {"model_sha256": MODEL, "signer": self.signer, "roster": self.roster, "now": NOW, **more}
        state, masked = mask(self.state, number, vector, **given)
        self._keep(state)
        return masked

    def sign_vector(self, number: int, vector: np.ndarray, *, context: str) -> Masked:
        """Give what a hospital could sign that keeps to no rule."""
        content = receipt_content(self.name, number, context=context, vector_sha256=hash_vector(vector))
        receipt = Receipt(
            site=self.name,
            round_number=number,
            context=context,
            vector_sha256=hash_vector(vector),
            signature=self.signer.sign(content, purpose=VECTOR_PURPOSE),
        )
        return Masked(receipt, vector)

    def vote(self, number: int, survivors: Sequence[Receipt]) -> Vote:
        state, vote = sign_survivors(self.state, number, survivors, signer=self.signer)
        self._keep(state)
        return vote

    def open(self, number: int, survivors: Sequence[Receipt], votes: Sequence[Vote]) -> Opened:
        state, opened = open_shares(self.state, number, survivors, votes)
        self._keep(state)
        return opened


@dataclass
class Federation:
    """Hospitals with one roster, set up for a session."""

    sites: dict[str, Site]
    agreement: Agreement
    set_ups: dict[str, SetUp]
    boxes: tuple[Box, ...]

    def collect(self, number: int, vectors: Mapping[str, np.ndarray]) -> ServerRound:
        """Let these sites send their vectors."""
        server = ServerRound(self.agreement, number, model_sha256=MODEL)
        for name, vector in vectors.items():
            server.receive(name, self.sites[name].mask(number, vector))
        return server

    def finish(self, server: ServerRound, number: int, *, lost: Collection[str] = ()) -> np.ndarray:
        """Let the survivors vote and open, but those who are lost before."""
        survivors = server.close()
        for receipt in survivors:
            if receipt.site not in lost:
                server.count(receipt.site, self.sites[receipt.site].vote(number, survivors))
        opened = [self.sites[vote.site].open(number, survivors, server.votes) for vote in server.votes]
        return server.unmask(opened)


def roster_of(*signers: Signer) -> Roster:
    return Roster(Authority().certificate, tuple(member(signer) for signer in signers))


def unbegun(
    names: Collection[str], *, roster: Roster | None = None, secret: Callable[[], Secret] = Secret, rsa: bool = False
) -> dict[str, Site]:
    """Give hospitals that list each other and have not begun."""
    signers = [hospital(name, rsa=rsa) for name in sorted(names)]
    listed = roster or roster_of(*signers)
    return {signer.name: Site(signer, listed, secret()) for signer in signers}


def begun(about: Session, **more: Any) -> tuple[dict[str, Site], dict[str, SetUp]]:
    """Give hospitals that have begun, and their set-ups."""
    sites = unbegun(about.sites, **more)
    return sites, {name: site.begin(about) for name, site in sites.items()}


def dealt(about: Session) -> tuple[dict[str, Site], list[Box]]:
    """Give hospitals that have dealt their shares, and all boxes."""
    sites, messages = begun(about)
    return sites, [box for site in sites.values() for box in site.take_set_ups(list(messages.values()))]


def boxes_of(boxes: list[Box], receiver: str) -> list[Box]:
    return [box for box in boxes if box.receiver == receiver]


def set_up(
    about: Session,
    *,
    present: Collection[str] | None = None,
    silent: Collection[str] = (),
    sites: Mapping[str, Site] | None = None,
    after: bool = False,
    minimum: int = 3,
    **more: Any,
) -> Federation:
    """Give a federation whose set-up has gone well.

    Args:
        about: What for.
        present: Who begins; everybody where nothing is said.
        silent: Who is lost before its boxes leave.
        sites: Hospitals that go on, from what they kept where ``after`` says so.
        after: Whether this is a later attempt.
        minimum: How many organisations each of them wants in a sum.
        more: As for :func:`unbegun`.
    """
    sites = dict(sites or unbegun(present or about.sites, **more))
    messages = {
        name: site.begin(about, minimum=minimum, after=site.state if after else None) for name, site in sites.items()
    }
    boxes = [box for site in sites.values() for box in site.take_set_ups(list(messages.values()))]
    boxes = [box for box in boxes if box.sender not in silent]
    sites = {name: site for name, site in sites.items() if name not in silent}
    for name, site in sites.items():
        site.take_shares([box for box in boxes if box.receiver == name])
    roster = next(iter(sites.values())).roster
    agreement = read_set_ups(list(messages.values()), about, roster=roster, now=NOW).joined_by(sites)
    return Federation(sites, agreement, messages, tuple(boxes))


def vectors(names: Collection[str], length: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Give each site a vector of the whole ring."""
    generator = np.random.default_rng(seed)
    return {name: generator.integers(0, 2**32, length, np.uint32) for name in names}


def total(given: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.sum(list(given.values()), axis=0, dtype=np.uint32)


def refused(kind: type[FedwardError], code: str) -> Any:
    return pytest.raises(kind, match=f"^{code}$")


def content_of(message: SetUp) -> SetUpContent:
    return SetUpContent.model_validate_json(message.content)


def signed(content: SetUpContent, signer: Signer, *, purpose: str = SET_UP_PURPOSE) -> SetUp:
    encoded = canonical.encode(content.model_dump(mode="json"))
    return SetUp(content=encoded, signature=signer.sign(encoded, purpose=purpose), certificate=signer.certificate)
