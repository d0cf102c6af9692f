"""A hospital's side of a sum under one homomorphic key: from a state and a message to the next ones.

The set-ups are those of the encrypted sum; of their keys only the sealed boxes' are used. The first site by name among
those whose set-up was accepted makes the key and seals it for each peer. As there, the caller writes each state to the
disk before the message that came with it leaves.

Every site holds the key and decrypts what the server says is the sum: this hides an update from a server that keeps to
the protocol, not from one that asks for another sum, nor from one that a hospital helps.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fedward.errors import SumRefused
from fedward.federation import ckks, masks
from fedward.federation.ckks import Encrypted
from fedward.federation.secure_agreement import Agreement, check_trusted, read_set_ups
from fedward.federation.secure_messages import (
    SMALLEST_SUM,
    VECTOR_PURPOSE,
    Box,
    Receipt,
    Session,
    SetUp,
    Value,
    receipt_content,
)
from fedward.federation.secure_site import begin as begin_sum
from fedward.identity import canonical
from fedward.identity.roster import Roster, Signer
from fedward.randomness import Secret


class CkksState(Value):
    """What a hospital keeps from one message to the next; its bytes are secret.

    Attributes:
        session: What the set-up is for.
        name: The site's own.
        minimum: How many organisations its site file wants in a sum.
        set_up: The site's own.
        channel: The private key of its sealed boxes; None once it has the homomorphic key.
        agreement: None before the peers' set-ups were read.
        context: The homomorphic key; None before.
        receipts: By round, of the vector that it sent last.
        decrypted: By round, in any attempt, the sites in the sum that it has decrypted.
    """

    session: Session
    name: str
    minimum: int
    set_up: SetUp
    channel: bytes | None = Field(repr=False)
    agreement: Agreement | None = None
    context: bytes | None = Field(default=None, repr=False)
    receipts: dict[int, Receipt] = Field(default_factory=dict)
    decrypted: dict[int, tuple[str, ...]] = Field(default_factory=dict)

    def ready(self) -> tuple[Agreement, bytes]:
        """Give what was agreed on, and the homomorphic key.

        Raises:
            SumRefused: ``set_up_unfinished``.
        """
        if self.agreement is None or self.context is None:
            raise SumRefused("set_up_unfinished", f"{self.name} has not taken its peers' set-ups and the key yet")
        return self.agreement, self.context


def begin(
    session: Session, signer: Signer, *, minimum: int, secret: Secret, after: CkksState | None = None
) -> tuple[CkksState, SetUp]:
    """Make the set-up that tells the peers of this site's key for sealed boxes.

    Args:
        session: What it is for.
        signer: This site.
        minimum: How many organisations its site file wants in a sum.
        secret: Where keys come from.
        after: What the site kept of its last attempt in this job; None in the first.

    Raises:
        SettingsError: ``missing_extra``: TenSEAL is not installed.
        SumRefused: ``unknown_site``; ``wrong_session``: no later attempt of the same job.
    """
    ckks.require_tenseal()
    if after is not None and (session.job_id != after.session.job_id or session.attempt <= after.session.attempt):
        raise SumRefused("wrong_session", f"attempt {session.attempt} does not follow {after.session.attempt}")
    begun, set_up = begin_sum(session, signer, minimum=minimum, secret=secret)
    state = CkksState(
        session=session,
        name=signer.name,
        minimum=minimum,
        set_up=set_up,
        channel=begun.channel,
        decrypted={} if after is None else after.decrypted,
    )
    return state, set_up


def take_set_ups(
    state: CkksState, set_ups: Sequence[SetUp], *, roster: Roster, now: datetime, secret: Secret
) -> tuple[CkksState, tuple[Box, ...]]:
    """Read the set-ups of all peers; the first site by name makes the homomorphic key and seals it for each.

    Raises:
        SumRefused: ``set_ups_taken``, ``own_set_up_changed``, ``too_few_peers``; else as :func:`read_set_ups`.
        IdentityError: as :func:`read_set_ups`.
    """
    if state.agreement is not None or state.channel is None:
        raise SumRefused("set_ups_taken", f"{state.name} has taken the set-ups of attempt {state.session.attempt}")
    if state.set_up.content not in {set_up.content for set_up in set_ups}:
        raise SumRefused("own_set_up_changed", f"the set-up of {state.name} is missing or another one")
    agreement = read_set_ups(set_ups, state.session, roster=roster, now=now)
    agreement = agreement.joined_by(agreement.peers)
    _check_enough(state, agreement, agreement.participants, code="too_few_peers")
    if state.name != _maker(agreement):
        return state.model_copy(update={"agreement": agreement}), ()
    context = ckks.make_context()
    boxes = []
    for name in agreement.participants:
        if name != state.name:
            key, about = _box_key(agreement, state.channel, receiver=name, other=name)
            content = masks.seal(context, key, about=about, secret=secret)
            boxes.append(Box(sender=state.name, receiver=name, content=content))
    return state.model_copy(update={"agreement": agreement, "channel": None, "context": context}), tuple(boxes)


def take_key(state: CkksState, boxes: Sequence[Box]) -> CkksState:
    """Open the box with the homomorphic key.

    Args:
        state: After :func:`take_set_ups`; the maker's own stays what it is.
        boxes: What came for this site.

    Raises:
        SumRefused: ``set_up_unfinished``: no box of the maker's; ``share_misdirected``, ``share_altered``, or
            ``wrong_context``: what is in it is no such key.
    """
    agreement, channel = state.agreement, state.channel
    if state.context is not None:
        return state
    if agreement is None or channel is None or not boxes:
        raise SumRefused("set_up_unfinished", f"{state.name} has no set-up, or no box with the key came")
    box = boxes[0]
    if len(boxes) != 1 or box.receiver != state.name or box.sender != _maker(agreement):
        raise SumRefused("share_misdirected", f"{box.sender!r}'s box for {box.receiver!r} came to {state.name}")
    key, about = _box_key(agreement, channel, receiver=state.name, other=box.sender)
    context = masks.unseal(box.content, key, about=about)
    ckks.check_secret(context)
    return state.model_copy(update={"channel": None, "context": context})


def encrypt(
    state: CkksState,
    round_number: int,
    vector: NDArray[np.uint32],
    *,
    model_sha256: str,
    signer: Signer,
    roster: Roster,
    now: datetime,
) -> tuple[CkksState, Encrypted]:
    """Encrypt and sign a round's vector.

    Raises:
        SumRefused: ``set_up_unfinished``, ``wrong_round``; ``wrong_vector``: not uint32 of the session's length.
        IdentityError: a participant is revoked, expired or no longer listed.
    """
    agreement, context = state.ready()
    if round_number not in state.session.rounds:
        raise SumRefused("wrong_round", f"attempt {state.session.attempt} has no round {round_number}")
    if vector.dtype != np.uint32 or vector.shape != (state.session.length,):
        raise SumRefused("wrong_vector", f"expected ({state.session.length},), found {vector.dtype} {vector.shape}")
    check_trusted(agreement, roster=roster, now=now)
    blocks = ckks.encrypt(vector, context)
    about = {"context": agreement.context(round_number, model_sha256), "vector_sha256": ckks.hash_blocks(blocks)}
    signature = signer.sign(receipt_content(signer.name, round_number, **about), purpose=VECTOR_PURPOSE)
    receipt = Receipt(site=signer.name, round_number=round_number, signature=signature, **about)
    return state.model_copy(update={"receipts": {round_number: receipt}}), Encrypted(receipt, blocks)


def decrypt(
    state: CkksState, round_number: int, receipts: Sequence[Receipt], blocks: Sequence[bytes]
) -> tuple[CkksState, NDArray[np.uint32]]:
    """Decrypt a round's sum, of one set of sites in a round and no other, whatever the attempt.

    Args:
        state: After :func:`encrypt`.
        round_number: The round.
        receipts: Of all vectors in the sum, sorted by site.
        blocks: The sum.

    Raises:
        SumRefused: ``own_vector_missing``, ``other_context``, ``unknown_site``, ``wrong_round``;
            ``second_survivor_set``: another set than before; ``too_few_survivors``: fewer organisations than the site's
            minimum, or than three; ``malformed_message``, ``wrong_vector``.
        IdentityError: ``bad_signature``: a site did not make its vector.
        RoundFailed: ``sum_unreadable``.
    """
    agreement, context = state.ready()
    own = state.receipts.get(round_number)
    if own is None or own not in receipts:
        raise SumRefused("own_vector_missing", f"the vector of {state.name} is not in the sum of round {round_number}")
    names = tuple(receipt.site for receipt in receipts)
    if list(names) != sorted(set(names)):
        raise SumRefused("malformed_message", f"survivors are sorted and differ, got {names}")
    for receipt in receipts:
        agreement.check_receipt(receipt, round_number=round_number, context=own.context)
    _check_enough(state, agreement, names, code="too_few_survivors")
    if state.decrypted.get(round_number, names) != names:
        raise SumRefused("second_survivor_set", f"{state.name} has decrypted another sum in round {round_number}")
    total = ckks.decrypt(blocks, context, length=state.session.length)
    return state.model_copy(update={"decrypted": {**state.decrypted, round_number: names}}), total


def _maker(agreement: Agreement) -> str:
    return min(agreement.peers)


def _check_enough(state: CkksState, agreement: Agreement, names: Sequence[str], *, code: str) -> None:
    smallest = max(state.minimum, SMALLEST_SUM)
    if len(agreement.organisations(names)) < smallest:
        raise SumRefused(code, f"{state.name} wants {smallest} organisations in a sum, found {names}")


def _box_key(agreement: Agreement, channel: bytes, *, receiver: str, other: str) -> tuple[bytes, bytes]:
    """Give the key of the maker's box for a peer, and what the box is bound to."""
    session = agreement.session
    about = canonical.encode(
        {
            "content": "ckks",
            "sender": agreement.peer(_maker(agreement)).fingerprint,
            "receiver": agreement.peer(receiver).fingerprint,
            "job": session.job_id,
            "attempt": session.attempt,
            "set_ups": agreement.set_ups_sha256,
        }
    )
    shared = masks.agree(channel, agreement.peer(other).channel_key)
    return masks.derive(shared, purpose="box", context=about), about
