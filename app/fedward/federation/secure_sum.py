"""The server's side of the encrypted sum: it adds what it cannot read (Bonawitz et al. 2017, with double masking).

Once a job, each site makes for every round of the plan a key pair, the seed of a self-mask and shares of both for every
peer (:func:`secure_site.begin`, :func:`~secure_site.take_set_ups`, :func:`~secure_site.take_shares`). In a round

1. each site adds to its vector its self-mask and, for each peer, a mask that the peer subtracts (:func:`~.mask`);
2. the server adds up what comes (:meth:`ServerRound.receive`) and closes the sum (:meth:`~ServerRound.close`);
3. each survivor signs who is in the sum (:func:`~secure_site.sign_survivors`, :meth:`~ServerRound.count`);
4. on enough signatures it opens, of each survivor, the share of its self-mask and, of each drop-out, that of its key
   (:func:`~secure_site.open_shares`), and the server takes away what is left (:meth:`~ServerRound.unmask`).

Nothing here is trusted by the sites: what the server checks tells faults early and names the site at fault.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import chain, combinations, islice

import numpy as np
from numpy.typing import NDArray

from fedward.errors import RoundFailed, SumRefused
from fedward.federation import shamir
from fedward.federation.masks import add_mask
from fedward.federation.secure_agreement import Agreement, check_vote, pair_key, self_key
from fedward.federation.secure_messages import Masked, Opened, Receipt, RoundKeys, Vote, hash_vector, survivors_content

#: With one opener's share altered, so many choices among the others are tried before a round is given up.
_MOST_CHOICES = 200


class ServerRound:
    """One round at the server: a running sum, and no vector.

    Args:
        agreement: With its participants.
        round_number: Of the plan.
        model_sha256: Of the model that the sites received.
    """

    def __init__(self, agreement: Agreement, round_number: int, *, model_sha256: str) -> None:
        self._agreement = agreement
        self._number = round_number
        self._context = agreement.context(round_number, model_sha256)
        self._sum = np.zeros(agreement.session.length, np.uint32)
        self._receipts: dict[str, Receipt] = {}
        self._votes: dict[str, Vote] = {}
        self._is_open = True
        self._is_given = False

    @property
    def received(self) -> frozenset[str]:
        """The sites whose vector is in the sum."""
        return frozenset(self._receipts)

    @property
    def votes(self) -> tuple[Vote, ...]:
        """The survivors' signatures so far."""
        return tuple(self._votes.values())

    @property
    def has_enough_votes(self) -> bool:
        """Whether the survivors will open their shares."""
        return len(self._votes) >= self._agreement.session.threshold

    def receive(self, site: str, masked: Masked) -> None:
        """Add a site's vector; the same one again changes nothing.

        Args:
            site: Who has sent it, as the connection says.
            masked: What came; not kept.

        Raises:
            SumRefused: ``wrong_sender``: the message names another site; ``wrong_vector``: not this length, or not
                what was signed; ``second_vector``: another one from this site; ``late_vector``: the sum is closed;
                ``unknown_site``, ``wrong_round``, ``other_context``.
            IdentityError: ``bad_signature``.
        """
        receipt, vector = masked.receipt, masked.vector
        if receipt.site != site:
            raise SumRefused("wrong_sender", f"{site!r} sent a vector in the name of {receipt.site!r}")
        self._agreement.check_receipt(receipt, round_number=self._number, context=self._context)
        if site in self._receipts and receipt.vector_sha256 == self._receipts[site].vector_sha256:
            return
        if site in self._receipts:
            raise SumRefused("second_vector", f"{site!r} sent two different vectors in round {self._number}")
        if not self._is_open:
            raise SumRefused("late_vector", f"{site!r} sent its vector after round {self._number} was closed")
        if vector.dtype != np.uint32 or vector.shape != self._sum.shape:
            raise SumRefused("wrong_vector", f"expected {self._sum.shape}, found {vector.dtype} {vector.shape}")
        if hash_vector(vector) != receipt.vector_sha256:
            raise SumRefused("wrong_vector", f"the vector of {site!r} is not the one that it signed")
        np.add(self._sum, vector, out=self._sum)
        self._receipts[site] = receipt

    def close(self) -> tuple[Receipt, ...]:
        """End the collection; give the survivors' receipts, sorted by site, which go to every survivor.

        Raises:
            RoundFailed: ``too_few_sites``.
        """
        self._is_open = False
        agreement = self._agreement
        if len(agreement.organisations(self._receipts)) < agreement.session.threshold:
            raise RoundFailed(
                "too_few_sites",
                f"round {self._number}: expected {agreement.session.threshold} organisations in the sum, "
                f"found {sorted(self._receipts)}",
            )
        return tuple(self._receipts[name] for name in sorted(self._receipts))

    def count(self, site: str, vote: Vote) -> None:
        """Keep a survivor's signature on the closed set.

        Raises:
            SumRefused: ``wrong_sender`` or ``unknown_site``.
            IdentityError: ``bad_signature``.
        """
        if vote.site != site:
            raise SumRefused("wrong_sender", f"{site!r} voted in the name of {vote.site!r}")
        statement = survivors_content(self._context, self.close())
        check_vote(self._agreement, vote, statement=statement, survivors=self._receipts)
        self._votes[site] = vote

    def check_opened(self, site: str, opened: Opened) -> None:
        """Refuse shares that are not those asked for; their values are held against commitments later.

        Raises:
            SumRefused: ``wrong_sender``, ``unknown_site``, ``wrong_round`` or ``wrong_shares``.
        """
        if opened.site != site:
            raise SumRefused("wrong_sender", f"{site!r} opened shares in the name of {opened.site!r}")
        if site not in self._receipts:
            raise SumRefused("unknown_site", f"{site!r} is not among the survivors of round {self._number}")
        if opened.round_number != self._number:
            raise SumRefused("wrong_round", f"expected shares of round {self._number}, got {opened.round_number}")
        if opened.seeds.keys() != self._receipts.keys() or opened.keys.keys() != set(self._lost):
            raise SumRefused("wrong_shares", f"{site!r} opened other shares than a seed a survivor, a key a drop-out")
        if any(len(share) != shamir.SHARE_SIZE for share in (*opened.seeds.values(), *opened.keys.values())):
            raise SumRefused("wrong_shares", f"{site!r} opened shares that are not {shamir.SHARE_SIZE} bytes long")

    def unmask(self, opened: Sequence[Opened]) -> NDArray[np.uint32]:
        """Take the masks away that are left in the sum, and give it; the round is then over.

        Args:
            opened: One message a survivor, of at least the threshold of them.

        Raises:
            RoundFailed: ``too_few_shares``.
            SumRefused: ``broken_commitment``: a share was altered, or was dealt wrongly; ``already_opened``: the sum
                was given; else as :meth:`check_opened`.
        """
        if self._is_given:
            raise SumRefused("already_opened", f"the sum of round {self._number} was given")
        for message in opened:
            self.check_opened(message.site, message)
        by_point = {self._agreement.peer(message.site).point: message for message in opened}
        if len(by_point) < self._agreement.session.threshold:
            raise RoundFailed(
                "too_few_shares", f"expected {self._agreement.session.threshold} openers, found {len(by_point)}"
            )
        recover = _Recovery(self._agreement, self._number, by_point)
        seeds = {name: recover.seed(name) for name in self._receipts}
        keys = {name: recover.key(name) for name in self._lost}
        for seed in seeds.values():
            add_mask(self._sum, self_key(seed, self._context), sign=-1)
        for lost, private_key in keys.items():
            for name in self._receipts:
                key, sign = pair_key(
                    self._agreement, private_key, self._number, context=self._context, of=lost, to=name
                )
                add_mask(self._sum, key, sign=sign)
        self._is_given = True
        return self._sum

    @property
    def _lost(self) -> tuple[str, ...]:
        return tuple(name for name in self._agreement.participants if name not in self._receipts)


class _Recovery:
    """Secrets from opened shares, each held against its commitment.

    Where one set of openers gives a wrong secret, others are tried: first those that leave neighbours out, which
    finds a way round any one altered share.
    """

    def __init__(self, agreement: Agreement, round_number: int, opened: Mapping[int, Opened]) -> None:
        self._agreement = agreement
        self._number = round_number
        self._opened = opened
        points, size = sorted(opened), agreement.session.threshold
        turned = ((points[at:] + points[:at])[:size] for at in range(len(points)))
        choices = (tuple(sorted(choice)) for choice in chain(turned, combinations(points, size)))
        self._choices = tuple(dict.fromkeys(islice(choices, _MOST_CHOICES)))
        self._weights = cache(shamir.weights_at_zero)

    def seed(self, name: str) -> bytes:
        return self._secret(name, lambda message: message.seeds[name], lambda keys: keys.seed_sha256)

    def key(self, name: str) -> bytes:
        return self._secret(name, lambda message: message.keys[name], lambda keys: keys.key_sha256)

    def _secret(self, name: str, share: Callable[[Opened], bytes], commitment: Callable[[RoundKeys], str]) -> bytes:
        expected = commitment(self._agreement.peer(name).keys[self._number])
        for points in self._choices:
            found = shamir.combine([share(self._opened[point]) for point in points], self._weights(points))
            if hashlib.sha256(found).hexdigest() == expected:
                return found
        raise SumRefused("broken_commitment", f"the opened shares of {name!r} do not give what it committed to")
