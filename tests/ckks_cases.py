"""Hospitals that sum under one homomorphic key, step by step, as several tests need it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fedward.federation import ckks, ckks_site
from fedward.federation.ckks import Encrypted, ServerSum
from fedward.federation.ckks_site import CkksState
from fedward.federation.secure_agreement import Agreement, read_set_ups
from fedward.federation.secure_messages import Box, Receipt, Session, SetUp
from fedward.identity.roster import Roster, Signer
from fedward.randomness import Secret
from secure_cases import MODEL, hospital, roster_of
from trust_cases import NOW


@dataclass
class CkksSite:
    """One hospital: what it keeps lies in ``disk`` alone, written before each message is given."""

    signer: Signer
    roster: Roster
    secret: Secret = field(default_factory=Secret)
    disk: bytes = b""

    @property
    def state(self) -> CkksState:
        return CkksState.from_bytes(self.disk)

    def begin(self, about: Session, *, after: CkksState | None = None, minimum: int = 3) -> SetUp:
        state, message = ckks_site.begin(about, self.signer, minimum=minimum, secret=self.secret, after=after)
        self.disk = state.to_bytes()
        return message

    def take_set_ups(self, messages: Sequence[SetUp]) -> tuple[Box, ...]:
        state, boxes = ckks_site.take_set_ups(self.state, messages, roster=self.roster, now=NOW, secret=self.secret)
        self.disk = state.to_bytes()
        return boxes

    def take_key(self, boxes: Sequence[Box]) -> None:
        self.disk = ckks_site.take_key(self.state, boxes).to_bytes()

    def encrypt(self, number: int, vector: np.ndarray, **more: Any) -> Encrypted:
        given = {"model_sha256": MODEL, "signer": self.signer, "roster": self.roster, "now": NOW, **more}
        state, encrypted = ckks_site.encrypt(self.state, number, vector, **given)
        self.disk = state.to_bytes()
        return encrypted

    def decrypt(self, number: int, receipts: Sequence[Receipt], blocks: Sequence[bytes]) -> np.ndarray:
        state, total = ckks_site.decrypt(self.state, number, receipts, blocks)
        self.disk = state.to_bytes()
        return total


def unbegun(names: Collection[str]) -> dict[str, CkksSite]:
    signers = [hospital(name) for name in sorted(names)]
    return {signer.name: CkksSite(signer, roster_of(*signers)) for signer in signers}


def dealt(about: Session) -> tuple[dict[str, CkksSite], tuple[Box, ...], Agreement]:
    """Give hospitals that have read each other's set-ups, the boxes, and what they agree on."""
    sites = unbegun(about.sites)
    messages = [site.begin(about) for site in sites.values()]
    boxes = tuple(box for site in sites.values() for box in site.take_set_ups(messages))
    roster = next(iter(sites.values())).roster
    agreement = read_set_ups(messages, about, roster=roster, now=NOW)
    return sites, boxes, agreement.joined_by(agreement.peers)


def set_up(about: Session) -> tuple[dict[str, CkksSite], Agreement]:
    """Give hospitals that hold the key."""
    sites, boxes, agreement = dealt(about)
    for name, site in sites.items():
        site.take_key([box for box in boxes if box.receiver == name])
    return sites, agreement


def server_of(agreement: Agreement, number: int = 1) -> ServerSum:
    return ServerSum(agreement, number, model_sha256=MODEL, context=ckks.public_context())
