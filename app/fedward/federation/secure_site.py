"""A hospital's side of the encrypted sum: from a state and a message to the next state and the next message.

The caller writes each new state to the disk *before* the message that came with it leaves, and goes on from what is
written there. A key set that has masked a vector is gone from the state, and so are shares that were opened: nothing
that is read back can use them again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from fedward.errors import SumRefused
from fedward.federation import masks, shamir
from fedward.federation.secure_agreement import (
    Agreement,
    check_trusted,
    check_vote,
    pair_key,
    read_set_ups,
    self_key,
)
from fedward.federation.secure_messages import (
    SET_UP_PURPOSE,
    SURVIVORS_PURPOSE,
    VECTOR_PURPOSE,
    Box,
    Masked,
    Opened,
    Receipt,
    RoundKeys,
    Session,
    SetUp,
    SetUpContent,
    Vote,
    hash_vector,
    receipt_content,
    survivors_content,
)
from fedward.federation.secure_state import HeldShares, KeySet, SiteState
from fedward.identity import canonical
from fedward.identity.roster import Roster, Signer
from fedward.randomness import Secret


def begin(
    session: Session, signer: Signer, *, minimum: int, secret: Secret, after: SiteState | None = None
) -> tuple[SiteState, SetUp]:
    """Make a key set for every round of the plan, and the set-up that tells the peers of them.

    Args:
        session: What the set-up is for.
        signer: This site.
        minimum: How many organisations its site file wants in a sum.
        secret: Where all keys come from.
        after: What the site kept of its last attempt in this job; None in the first.

    Raises:
        SumRefused: ``unknown_site``: the job does not ask this one; ``wrong_session``: no later attempt of the same
            job.
    """
    if signer.name not in session.sites:
        raise SumRefused("unknown_site", f"the job does not ask {signer.name!r}")
    if after is not None and not after.may_precede(session):
        raise SumRefused("wrong_session", f"attempt {session.attempt} does not follow {after.session.attempt}")
    own = {
        number: KeySet(private_key=secret.take(masks.KEY_SIZE), seed=secret.take(shamir.SECRET_SIZE))
        for number in session.rounds
    }
    channel = secret.take(masks.KEY_SIZE)
    content = SetUpContent(
        session=session,
        site=signer.name,
        channel_key=masks.public_key_of(channel).hex(),
        keys=[_public(keys) for keys in own.values()],
    )
    encoded = canonical.encode(content.model_dump(mode="json"))
    state = SiteState(
        session=session,
        name=signer.name,
        minimum=minimum,
        set_up_sha256=_sha256(encoded),
        channel=channel,
        own=own,
        past={} if after is None else after.opened_rounds(),
    )
    signature = signer.sign(encoded, purpose=SET_UP_PURPOSE)
    return state, SetUp(content=encoded, signature=signature, certificate=signer.certificate)


def take_set_ups(
    state: SiteState, set_ups: Sequence[SetUp], *, roster: Roster, now: datetime, secret: Secret
) -> tuple[SiteState, tuple[Box, ...]]:
    """Read the set-ups of all peers, the site's own among them, and deal each peer its shares of every round.

    Raises:
        SumRefused: ``set_ups_taken``: this was done; ``own_set_up_changed``; ``too_few_peers``: fewer organisations
            than the site's minimum; else as :func:`read_set_ups`.
        IdentityError: as :func:`read_set_ups`.
    """
    if state.agreement is not None or state.channel is None:
        raise SumRefused("set_ups_taken", f"{state.name} has taken the set-ups of attempt {state.session.attempt}")
    if state.set_up_sha256 not in {_sha256(set_up.content) for set_up in set_ups}:
        raise SumRefused("own_set_up_changed", f"the set-up of {state.name} is missing or another one")
    agreement = read_set_ups(set_ups, state.session, roster=roster, now=now)
    if len(agreement.organisations(agreement.peers)) < state.minimum:
        raise SumRefused("too_few_peers", f"{state.name} wants {state.minimum} organisations in a sum")
    dealt = _deal(state, agreement, secret)
    kept = _read_dealt(dealt.pop(state.name), state.session)
    boxes = []
    for name, shares in dealt.items():
        key, about = _box_key(agreement, state.channel, own=state.name, sender=state.name, receiver=name)
        content = masks.seal(shares, key, about=about, secret=secret)
        boxes.append(Box(sender=state.name, receiver=name, content=content))
    held = {number: {state.name: shares} for number, shares in kept.items()}
    return state.model_copy(update={"agreement": agreement, "held": held}), tuple(boxes)


def take_shares(state: SiteState, boxes: Sequence[Box]) -> SiteState:
    """Open what the peers have dealt; the senders and the site itself are the participants from now on.

    Raises:
        SumRefused: ``set_up_unfinished``: before the set-ups, or a second time; ``share_misdirected``,
            ``repeated_share``, ``share_altered``, ``unknown_site`` or ``too_few_peers``.
    """
    agreement, channel = state.agreement, state.channel
    if agreement is None or channel is None:
        raise SumRefused("set_up_unfinished", f"{state.name} takes shares once, after the set-ups")
    held = {number: dict(kept) for number, kept in state.held.items()}
    for box in boxes:
        if box.receiver != state.name or box.sender == state.name:
            raise SumRefused("share_misdirected", f"{box.sender!r}'s shares for {box.receiver!r} came to {state.name}")
        key, about = _box_key(agreement, channel, own=state.name, sender=box.sender, receiver=state.name)
        for number, shares in _read_dealt(masks.unseal(box.content, key, about=about), state.session).items():
            if box.sender in held[number]:
                raise SumRefused("repeated_share", f"{box.sender!r} has dealt its shares twice")
            held[number][box.sender] = shares
    agreement = agreement.joined_by([state.name, *(box.sender for box in boxes)])
    return state.model_copy(update={"agreement": agreement, "channel": None, "held": held})


def mask(
    state: SiteState,
    round_number: int,
    vector: NDArray[np.uint32],
    *,
    model_sha256: str,
    signer: Signer,
    roster: Roster,
    now: datetime,
) -> tuple[SiteState, Masked]:
    """Mask the one vector that this round's key set serves, and erase the key set and all earlier ones.

    Raises:
        SumRefused: ``set_up_unfinished``; ``wrong_round``: not in the plan; ``key_set_used``: it served a vector, or a
            later one did; ``wrong_vector``: not uint32 of the session's length.
        IdentityError: a participant is revoked, expired or no longer listed.
    """
    agreement = state.agreed()
    if round_number not in state.session.rounds:
        raise SumRefused("wrong_round", f"attempt {state.session.attempt} has no key set for round {round_number}")
    if round_number not in state.own:
        raise SumRefused("key_set_used", f"the key set of round {round_number} has served; begin another attempt")
    if vector.dtype != np.uint32 or vector.shape != (state.session.length,):
        raise SumRefused("wrong_vector", f"expected ({state.session.length},), found {vector.dtype} {vector.shape}")
    check_trusted(agreement, roster=roster, now=now)
    context = agreement.context(round_number, model_sha256)
    keys = state.own[round_number]
    masked = vector.copy()
    masks.add_mask(masked, self_key(keys.seed, context), sign=1)
    for name in agreement.participants:
        if name != state.name:
            key, sign = pair_key(agreement, keys.private_key, round_number, context=context, of=state.name, to=name)
            masks.add_mask(masked, key, sign=sign)
    receipt = _receipt(signer, round_number, context=context, vector_sha256=hash_vector(masked))
    return state.after_vector(receipt), Masked(receipt, masked)


def sign_survivors(
    state: SiteState, round_number: int, survivors: Sequence[Receipt], *, signer: Signer
) -> tuple[SiteState, Vote]:
    """Sign who is in the sum, once in a round, after checking that it hides this site's update.

    Once a site has opened its shares of a round, no other attempt at that round may sum other sites: the update is the
    same one, and the difference of the two sums would show a single hospital's.

    Args:
        state: After :func:`mask`.
        round_number: The round.
        survivors: The receipts of all vectors in the sum, sorted by site.
        signer: This site.

    Raises:
        SumRefused: ``own_vector_missing``; ``other_context``: a survivor was told another model, document or plan;
            ``too_few_survivors``: fewer organisations than threshold, site minimum or three; ``second_survivor_set``;
            ``unknown_site``, ``wrong_round``, ``malformed_message``.
        IdentityError: ``bad_signature``: a survivor did not make its vector.
    """
    agreement, use = state.agreed(), state.use_of(round_number)
    statement = survivors_content(use.receipt.context, survivors)
    names = tuple(receipt.site for receipt in survivors)
    if use.statement not in (b"", statement) or state.past.get(round_number, names) != names:
        raise SumRefused("second_survivor_set", f"{state.name} has signed another set in round {round_number}")
    if list(names) != sorted(set(names)):
        raise SumRefused("malformed_message", f"survivors are sorted and differ, got {names}")
    for receipt in survivors:
        agreement.check_receipt(receipt, round_number=round_number, context=use.receipt.context)
    if use.receipt.vector_sha256 not in {r.vector_sha256 for r in survivors if r.site == state.name}:
        raise SumRefused("own_vector_missing", f"the vector of {state.name} is not in the sum of round {round_number}")
    smallest = max(state.session.threshold, state.minimum)
    if len(agreement.organisations(names)) < smallest:
        raise SumRefused("too_few_survivors", f"expected {smallest} organisations in the sum, found {names}")
    vote = Vote(site=state.name, signature=signer.sign(statement, purpose=SURVIVORS_PURPOSE))
    return state.after_vote(round_number, survivors=names, statement=statement), vote


def open_shares(
    state: SiteState, round_number: int, survivors: Sequence[Receipt], votes: Sequence[Vote]
) -> tuple[SiteState, Opened]:
    """Open one share for each participant: of the self-mask where it survived, else of the key. Both are then erased.

    Args:
        state: After :func:`sign_survivors`.
        round_number: The round.
        survivors: As signed.
        votes: The survivors' signatures.

    Raises:
        SumRefused: ``second_survivor_set``: not the set that the site signed; ``too_few_votes``: fewer than the
            threshold; ``already_opened``, and ``both_shares_asked`` where the set is another one than was opened for;
            ``own_vector_missing``, ``unknown_site``.
        IdentityError: ``bad_signature``: a vote for another set, or in another context.
    """
    agreement, use = state.agreed(), state.use_of(round_number)
    is_same = use.statement == survivors_content(use.receipt.context, survivors)
    if use.opened:
        code = "already_opened" if is_same else "both_shares_asked"
        raise SumRefused(code, f"{state.name} has opened its shares of round {round_number}")
    if not is_same:
        raise SumRefused("second_survivor_set", f"{state.name} did not sign this set in round {round_number}")
    for vote in votes:
        check_vote(agreement, vote, statement=use.statement, survivors=use.survivors)
    voters = {state.name, *(vote.site for vote in votes)}
    if len(voters) < state.session.threshold:
        raise SumRefused(
            "too_few_votes", f"expected {state.session.threshold} signatures on the set, found {len(voters)}"
        )
    held = state.held[round_number]
    opened = Opened(
        site=state.name,
        round_number=round_number,
        seeds={name: held[name].seed for name in use.survivors},
        keys={name: held[name].key for name in agreement.participants if name not in use.survivors},
    )
    return state.after_opening(round_number), opened


def _public(keys: KeySet) -> RoundKeys:
    return RoundKeys(
        public_key=masks.public_key_of(keys.private_key).hex(),
        key_sha256=_sha256(keys.private_key),
        seed_sha256=_sha256(keys.seed),
    )


def _deal(state: SiteState, agreement: Agreement, secret: Secret) -> dict[str, bytes]:
    """Share the two secrets of every round; give each peer's shares, one after the other."""
    dealt: dict[str, list[bytes]] = {name: [] for name in agreement.peers}
    for keys in state.own.values():
        for value in (keys.private_key, keys.seed):
            shares = shamir.split(
                value, threshold=state.session.threshold, count=len(state.session.sites), randomness=secret
            )
            for peer in agreement.peers.values():
                dealt[peer.name].append(shares[peer.point - 1])
    return {name: b"".join(shares) for name, shares in dealt.items()}


def _read_dealt(content: bytes, session: Session) -> dict[int, HeldShares]:
    """Give what :func:`_deal` wrote for one peer, by round.

    Raises:
        SumRefused: ``wrong_shares``: not two shares a round.
    """
    size = shamir.SHARE_SIZE
    if len(content) != 2 * size * len(session.rounds):
        raise SumRefused("wrong_shares", f"expected two shares for each of {len(session.rounds)} rounds")
    return {
        number: HeldShares(key=content[at : at + size], seed=content[at + size : at + 2 * size])
        for number, at in zip(session.rounds, range(0, len(content), 2 * size), strict=True)
    }


def _box_key(agreement: Agreement, channel: bytes, *, own: str, sender: str, receiver: str) -> tuple[bytes, bytes]:
    """Give the key of the box from one peer to another, and what the box is bound to."""
    session = agreement.session
    about = canonical.encode(
        {
            "sender": agreement.peer(sender).fingerprint,
            "receiver": agreement.peer(receiver).fingerprint,
            "job": session.job_id,
            "attempt": session.attempt,
            "set_ups": agreement.set_ups_sha256,
        }
    )
    other = agreement.peer(sender if receiver == own else receiver)
    return masks.derive(masks.agree(channel, other.channel_key), purpose="box", context=about), about


def _receipt(signer: Signer, round_number: int, *, context: str, vector_sha256: str) -> Receipt:
    content = receipt_content(signer.name, round_number, context=context, vector_sha256=vector_sha256)
    return Receipt(
        site=signer.name,
        round_number=round_number,
        context=context,
        vector_sha256=vector_sha256,
        signature=signer.sign(content, purpose=VECTOR_PURPOSE),
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
