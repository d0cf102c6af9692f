"""What hospitals say to each other in an encrypted sum, as plain values of text, numbers and bytes.

None of them is secret but :class:`Opened`, which the server alone may see, and none is trusted when it comes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fedward.errors import SumRefused
from fedward.identity import canonical

SET_UP_PURPOSE = "secure-sum-set-up"
VECTOR_PURPOSE = "secure-sum-vector"
SURVIVORS_PURPOSE = "secure-sum-survivors"

#: A set-up of more rounds would not fit a signed document; a longer job is a chain of attempts.
MOST_ROUNDS = 2000

#: No sum of fewer is ever opened.
SMALLEST_SUM = 3

Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Value(BaseModel):
    """A frozen value of strict types, whose bytes are base64 in JSON."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, ser_json_bytes="base64", val_json_bytes="base64"
    )

    def to_bytes(self) -> bytes:
        """Write the value down as JSON."""
        return self.model_dump_json().encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Read what :meth:`to_bytes` wrote.

        Raises:
            SumRefused: ``malformed_message``.
        """
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            raise SumRefused("malformed_message", f"not a {cls.__name__}: {error.error_count()} faults") from error


class RoundKeys(Value):
    """What a site tells of its key set of one round.

    Attributes:
        public_key: X25519, hexadecimal.
        key_sha256: Of the private key.
        seed_sha256: Of the self-mask's seed.
    """

    public_key: Hex
    key_sha256: Hex
    seed_sha256: Hex


class Session(Value):
    """What one set-up is for; all who take part must agree on every word of it.

    Attributes:
        job_id: 128 random bits, hexadecimal.
        job_sha256: Of the job document.
        sites: All whom the job document asks, sorted; the threshold is counted from them, whoever takes part.
        quantiser_sha256: Of the fixed-point format.
        length: How many numbers a vector has.
        attempt: From 0; a set-up that replaces another, or continues the job, has the next number.
        first_round: The first round that has a key set.
        last_round: The last one.
    """

    job_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    job_sha256: Hex
    sites: Annotated[tuple[str, ...], Field(min_length=SMALLEST_SUM)]
    quantiser_sha256: Hex
    length: Annotated[int, Field(ge=1)]
    attempt: Annotated[int, Field(ge=0)]
    first_round: Annotated[int, Field(ge=1)]
    last_round: Annotated[int, Field(ge=1)]

    def model_post_init(self, _context: object) -> None:
        """Refuse sites that are no sorted set, and a plan without rounds or too long for one set-up."""
        if list(self.sites) != sorted(set(self.sites)):
            raise ValueError(f"sites must be sorted and differ, got {list(self.sites)}")
        if not 1 <= self.last_round - self.first_round + 1 <= MOST_ROUNDS:
            raise ValueError(f"a set-up holds 1 to {MOST_ROUNDS} rounds, got {self.first_round} to {self.last_round}")

    @property
    def threshold(self) -> int:
        """How many shares open a secret, and how many survivors a sum needs: more than two thirds of the sites."""
        return threshold(len(self.sites))

    @property
    def rounds(self) -> range:
        """The rounds that have a key set."""
        return range(self.first_round, self.last_round + 1)


class SetUpContent(Value):
    """What a site signs in a set-up.

    Attributes:
        session: What it is for.
        site: Who speaks.
        channel_key: X25519 public key of this set-up's sealed boxes, hexadecimal.
        keys: One entry a round of the plan, in order.
    """

    session: Session
    site: str
    channel_key: Hex
    keys: list[RoundKeys]


class SetUp(Value):
    """First leg: a site's public keys and commitments, signed with its certificate's key.

    Attributes:
        content: Canonical bytes of a :class:`SetUpContent`.
        signature: Over ``content``.
        certificate: PEM.
    """

    content: bytes
    signature: bytes
    certificate: bytes


class Box(Value):
    """Second leg: one site's shares for one peer, of every round, sealed."""

    sender: str
    receiver: str
    content: bytes


class Receipt(Value):
    """A masked vector without the vector: what its site signed.

    Attributes:
        site: Whose.
        round_number: Of the plan.
        context: The hash of all that the round's sites must agree on, see :meth:`Agreement.context`.
        vector_sha256: Of the vector's little-endian bytes.
        signature: The site's, over :func:`receipt_content`.
    """

    site: str
    round_number: int
    context: Hex
    vector_sha256: Hex
    signature: bytes

    @property
    def content(self) -> bytes:
        """What is signed."""
        return receipt_content(self.site, self.round_number, context=self.context, vector_sha256=self.vector_sha256)


@dataclass(frozen=True, eq=False)
class Masked:
    """A masked vector, uint32, and what its site signed about it."""

    receipt: Receipt
    vector: NDArray[np.uint32]


class Vote(Value):
    """A survivor's signature over :func:`survivors_content`."""

    site: str
    signature: bytes


class Opened(Value):
    """A survivor's shares of one round: each peer appears in one of the two, never in both.

    Attributes:
        site: Whose shares these were to keep.
        round_number: Of the plan.
        seeds: By survivor, the share of its self-mask's seed.
        keys: By drop-out, the share of its private key.
    """

    site: str
    round_number: int
    seeds: dict[str, bytes] = Field(repr=False)
    keys: dict[str, bytes] = Field(repr=False)


def threshold(sites: int) -> int:
    """Give floor(2n/3) + 1 for a job of ``n`` sites.

    Example:
        >>> [threshold(n) for n in range(3, 9)]
        [3, 3, 4, 5, 5, 6]
    """
    return 2 * sites // 3 + 1


def receipt_content(site: str, round_number: int, *, context: str, vector_sha256: str) -> bytes:
    """Give what a site signs about its masked vector."""
    about = {"site": site, "round": round_number, "context": context, "vector_sha256": vector_sha256}
    return canonical.encode(about)


def survivors_content(context: str, survivors: Sequence[Receipt]) -> bytes:
    """Give what a survivor signs: who is in the sum, with which vector, in which context."""
    vectors = {receipt.site: receipt.vector_sha256 for receipt in survivors}
    return canonical.encode({"context": context, "vectors": vectors})


def hash_vector(vector: NDArray[np.uint32]) -> str:
    """Give SHA-256 of a vector's little-endian bytes, hexadecimal."""
    return hashlib.sha256(np.ascontiguousarray(vector, "<u4").data).hexdigest()
