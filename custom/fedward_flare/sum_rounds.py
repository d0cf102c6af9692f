"""The server's side of a job's encrypted sum: it carries the sites' messages and adds what it cannot read.

What a message means stands in :mod:`fedward.federation.secure_sum`; this carries it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass
from datetime import UTC, datetime

from cryptography import x509
from nvflare.apis.shareable import Shareable

from fedward.errors import FedwardError, RoundFailed, SumRefused
from fedward.federation.ckks import Encrypted
from fedward.federation.quantise import Decoded
from fedward.federation.round import Failure
from fedward.federation.secure_agreement import Agreement, read_set_ups
from fedward.federation.secure_job import quantiser_of, session_of
from fedward.federation.secure_messages import Box, Masked, Opened, SetUp
from fedward.federation.secure_sum import ServerRound
from fedward.identity.document import JobDocument
from fedward.identity.trusted import claimed_roster
from fedward.settings.job import SummedJob
from fedward_flare import exchange, sum_exchange, tasks

#: Sends a message to sites and hands each answer on as it comes, until all have answered or the deadline has passed.
Ask = Callable[[str, Shareable, Collection[str], Callable[[str, Shareable], None]], None]

#: A site that answers so has lost its part of the set-up: the next round begins with another one.
_OUTSIDE = frozenset({"set_up_unfinished", "too_few_peers", "key_set_used", "own_set_up_changed", "other_context"})


@dataclass(frozen=True)
class Carriers:
    """How messages travel.

    Attributes:
        task: As an engine's task, which a site fetches: for what takes long or comes once a job.
        direct: To the site's running job process at once: for what a round waits for.
    """

    task: Ask
    direct: Ask


@dataclass(eq=False)
class SumRounds:
    """All rounds of a job.

    Attributes:
        document: The job.
        job: What it says.
        size: How many numbers the network has, or how many counts each site gives.
        root: The federation's root certificate, as the server has it.
        next_attempt: Gives the number of a set-up that no site has seen.
    """

    document: JobDocument
    job: SummedJob
    _: KW_ONLY
    size: int
    root: x509.Certificate
    next_attempt: Callable[[], int]

    def __post_init__(self) -> None:
        self._quantiser = quantiser_of(self.job, size=self.size, sites=len(self.document.sites))
        self._agreement: Agreement | None = None
        self._boxes: tuple[Box, ...] = ()
        self._is_stale = True
        self._round: ServerRound | None = None
        #: The code of each site that did not take part in the latest set-up.
        self.failures: dict[str, str] = {}

    def set_up(self, number: int, carriers: Carriers) -> Mapping[str, str]:
        """Make a fresh set-up for the rounds from ``number`` unless the one that stands will do.

        Returns:
            The code of each site that did not take part in it; none where nothing had to be done.

        Raises:
            RoundFailed: ``too_few_sites``: fewer than the threshold.
        """
        agreement = self._agreement
        if agreement is not None and not self._is_stale and number in agreement.session.rounds:
            return {}
        failures: dict[str, str] = {}
        self.failures = failures
        session = session_of(self.document, self.job, self._quantiser, attempt=self.next_attempt(), first=number)
        set_ups: dict[str, SetUp] = {}
        begin = sum_exchange.pack_begin(attempt=session.attempt, first_round=number)
        carriers.task(
            tasks.SET_UP_TASK,
            begin,
            self.document.sites,
            reading(sum_exchange.unpack_set_up, set_ups.__setitem__, failures),
        )
        boxes: dict[str, tuple[Box, ...]] = {}
        try:
            roster = claimed_roster([set_up.certificate for set_up in set_ups.values()], self.root)
            agreement = read_set_ups(list(set_ups.values()), session, roster=roster, now=datetime.now(UTC))
            carriers.task(
                tasks.SHARES_TASK,
                sum_exchange.pack_set_ups(list(set_ups.values()), first_round=number),
                set_ups.keys(),
                reading(sum_exchange.boxes_of, boxes.__setitem__, failures),
            )
            self._agreement = agreement.joined_by(boxes)
        except FedwardError as error:
            why = f"the set-up for round {number}: {error.detail} ({listed(failures)})"
            raise RoundFailed("too_few_sites", why) from error
        self._boxes = tuple(box for dealt in boxes.values() for box in dealt if box.receiver in boxes)
        self._is_stale = False
        return failures

    def open_round(self, number: int, model_sha256: str) -> None:
        """Begin to add up a round's vectors; they are bound to the model that the sites have."""
        self._round = ServerRound(self._standing(), number, model_sha256=model_sha256)

    def complete(self, message: Shareable) -> Shareable:
        """Put what the peers have dealt into a round's message: whoever has it already leaves it alone."""
        sum_exchange.add_boxes(message, self._boxes)
        return message

    def receive(self, site: str, masked: Masked | Encrypted | None) -> Failure | None:
        """Add a site's vector; give its failure where it cannot be added."""
        try:
            self._add(site, masked)
        except FedwardError as error:
            return Failure(error.code)
        return None

    def note(self, failures: Iterable[str]) -> None:
        """Take note of the codes of sites that took no part: some ask for another set-up."""
        self._is_stale = self._is_stale or not _OUTSIDE.isdisjoint(failures)

    def finish(self, number: int, carriers: Carriers) -> Decoded:
        """Have the survivors agree and open their shares; give the mean.

        Raises:
            RoundFailed: ``too_few_sites``, ``too_few_votes``, ``too_few_shares`` or ``sum_unreadable``; the round may
                be tried again after another set-up.
        """
        was_stale, self._is_stale = self._is_stale, True
        current = self._open()
        survivors = current.close()
        names = [receipt.site for receipt in survivors]
        failures: dict[str, str] = {}
        message = sum_exchange.pack_survivors(number, survivors)
        carriers.direct(tasks.VOTE_TOPIC, message, names, reading(sum_exchange.unpack_vote, current.count, failures))
        if not current.has_enough_votes:
            raise RoundFailed("too_few_votes", f"round {number}: {listed(failures)}")
        opened: dict[str, Opened] = {}

        def keep(site: str, shares: Opened) -> None:
            current.check_opened(site, shares)
            opened[site] = shares

        message = sum_exchange.pack_survivors(number, survivors, current.votes)
        carriers.direct(tasks.OPEN_TOPIC, message, names, reading(sum_exchange.unpack_opened, keep, failures))
        if not opened:
            raise RoundFailed("too_few_shares", f"round {number}: {listed(failures)}")
        try:
            total = current.unmask(list(opened.values()))
        except RoundFailed:
            raise
        except FedwardError as error:
            raise RoundFailed("sum_unreadable", f"round {number}: {error.code}: {error.detail}") from error
        decoded = self._quantiser.decode(total, contributors=len(survivors))
        self._is_stale = was_stale
        self.note(failures.values())
        return decoded

    def _add(self, site: str, masked: Masked | Encrypted | None) -> None:
        if not isinstance(masked, Masked):
            raise SumRefused("malformed_message", f"expected a masked vector of {site}")
        self._open().receive(site, masked)

    def _standing(self) -> Agreement:
        if self._agreement is None:
            raise RoundFailed("too_few_sites", "there is no set-up")
        return self._agreement

    def _open(self) -> ServerRound:
        if self._round is None:
            raise RoundFailed("too_few_sites", "no round is open")
        return self._round


def reading(
    unpack: Callable[[Shareable], object], take: Callable[..., None], failures: dict[str, str]
) -> Callable[[str, Shareable], None]:
    """Give a function that hands on what a site's answer holds, or notes why there is nothing."""

    def receive(site: str, answer: Shareable) -> None:
        try:
            code = exchange.failure_of(answer)
            if code is None:
                take(site, unpack(answer))
        except FedwardError as error:
            code = error.code
        if code is not None:
            failures[site] = code

    return receive


def listed(failures: Mapping[str, str]) -> str:
    """Give who failed and why, in a line."""
    return ", ".join(f"{site}: {code}" for site, code in sorted(failures.items())) or "no answer"
