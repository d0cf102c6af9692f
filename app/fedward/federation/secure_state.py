"""What a hospital keeps of an encrypted sum from one message to the next; its bytes are secret."""

from __future__ import annotations

from pydantic import Field

from fedward.errors import SumRefused
from fedward.federation.secure_agreement import Agreement
from fedward.federation.secure_messages import Receipt, Session, Value


class KeySet(Value):
    """A site's own secrets of one round, 32 bytes each: its X25519 key and the seed of its self-mask."""

    private_key: bytes = Field(repr=False)
    seed: bytes = Field(repr=False)


class HeldShares(Value):
    """The shares of one peer's two secrets of one round."""

    key: bytes = Field(repr=False)
    seed: bytes = Field(repr=False)


class Use(Value):
    """What a site has done in a round.

    Attributes:
        receipt: Of the one vector that it sent.
        survivors: Who is in the survivor set that it signed; empty before.
        statement: What it signed then.
        opened: Whether its shares of the round have left.
    """

    receipt: Receipt
    survivors: tuple[str, ...] = ()
    statement: bytes = b""
    opened: bool = False


class SiteState(Value):
    """All that a site keeps of one set-up.

    Attributes:
        session: What the set-up is for.
        name: The site's own.
        minimum: How many organisations its site file wants in a sum.
        set_up_sha256: Of its own set-up.
        channel: The private key of its sealed boxes; None once all boxes have been opened.
        own: Its key sets that have not been used, by round.
        held: What it keeps for each peer, by round.
        uses: By round in which it has sent a vector.
        agreement: None before the peers' set-ups were read.
        past: By round that the site opened its shares of in an earlier attempt, the survivors then.
    """

    session: Session
    name: str
    minimum: int
    set_up_sha256: str
    channel: bytes | None = Field(repr=False)
    own: dict[int, KeySet] = Field(repr=False)
    held: dict[int, dict[str, HeldShares]] = Field(default_factory=dict, repr=False)
    uses: dict[int, Use] = Field(default_factory=dict)
    agreement: Agreement | None = None
    past: dict[int, tuple[str, ...]] = Field(default_factory=dict)

    def may_precede(self, session: Session) -> bool:
        """Whether ``session`` is a later attempt of the same job."""
        return session.job_id == self.session.job_id and session.attempt > self.session.attempt

    def opened_rounds(self) -> dict[int, tuple[str, ...]]:
        """Give the survivors of every round of the job that the site has opened its shares of, in any attempt."""
        return {**self.past, **{number: use.survivors for number, use in self.uses.items() if use.opened}}

    def agreed(self) -> Agreement:
        """Give what was agreed on, once every box has been opened.

        Raises:
            SumRefused: ``set_up_unfinished``.
        """
        if self.agreement is None or not self.agreement.participants:
            raise SumRefused("set_up_unfinished", f"{self.name} has not taken its peers' set-ups and shares yet")
        return self.agreement

    def use_of(self, round_number: int) -> Use:
        """Give what the site has done in a round.

        Raises:
            SumRefused: ``own_vector_missing``: it sent no vector.
        """
        if round_number not in self.uses:
            raise SumRefused("own_vector_missing", f"{self.name} has sent no vector in round {round_number}")
        return self.uses[round_number]

    def after_vector(self, receipt: Receipt) -> SiteState:
        """Give the state once a round's vector is masked.

        The key set is gone, those of earlier rounds too, and what was kept for rounds that the site sent nothing in.
        """
        number = receipt.round_number
        uses = {**self.uses, number: Use(receipt=receipt)}
        own = {other: keys for other, keys in self.own.items() if other > number}
        held = {other: kept for other, kept in self.held.items() if other >= number or other in uses}
        return self.model_copy(update={"own": own, "held": held, "uses": uses})

    def after_vote(self, round_number: int, *, survivors: tuple[str, ...], statement: bytes) -> SiteState:
        """Give the state once a survivor set is signed."""
        use = self.use_of(round_number).model_copy(update={"survivors": survivors, "statement": statement})
        return self.model_copy(update={"uses": {**self.uses, round_number: use}})

    def after_opening(self, round_number: int) -> SiteState:
        """Give the state once a round's shares are opened: they are gone from it."""
        use = self.use_of(round_number).model_copy(update={"opened": True})
        held = {number: kept for number, kept in self.held.items() if number != round_number}
        return self.model_copy(update={"held": held, "uses": {**self.uses, round_number: use}})
