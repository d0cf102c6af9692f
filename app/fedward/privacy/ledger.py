"""What every patient has spent of a lifetime's privacy, and whether there is enough left for one more job.

The ledger is a chain of lines in the site database. Its head (length and keyed hash) is kept outside of it too: a
database that was restored from a backup is shorter than its head says, and nothing is trained on it.

A job's whole plan is reserved for every patient who can afford it, when the job is admitted; the others are left out of
the whole job. A round is charged to everybody in the job, drawn or not, before it begins; the charge buys one update:
``charged``, then ``sealed`` with the update's hash, then ``sent``. What was reserved and not charged is freed when the
job is closed. Costs are Rényi divergences at one order, fixed when the ledger is opened: as a privacy filter (Feldman
and Zrnic 2021) their sum may be chosen round by round by somebody who has seen all that came before.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fedward.errors import JobRefused, StoreError
from fedward.privacy.accounting import budget, renyi_cost
from fedward.privacy.entries import Costs, Entries, LedgerRound, cost_data, spend_data
from fedward.privacy.head import Head, HeadFile
from fedward.privacy.mechanisms import Spend
from fedward.store.chain import append, read_chain
from fedward.store.database import Database

#: Sums of costs are compared with the budget to this relative width: they were added in another order.
_TOLERANCE = 1e-12


@dataclass(frozen=True)
class Terms:
    """What the hospital promises each patient; fixed when the ledger is opened.

    Attributes:
        epsilon: The cap for a lifetime at this site.
        delta: With this probability it may fail.
        order: The Rényi order at which costs are summed.
    """

    epsilon: float
    delta: float
    order: int

    @property
    def budget(self) -> float:
        """The largest sum of costs at ``order``."""
        return budget(self.epsilon, self.delta, self.order)

    def costs(self, spend: Spend) -> Costs:
        """Give what mechanisms cost a patient of each group."""
        return {group: renyi_cost(mechanisms, self.order) for group, mechanisms in spend.items()}


@dataclass(frozen=True)
class JobId:
    """A job as the ledger knows it.

    Attributes:
        id: The random id.
        name: What it is called.
        document_sha256: Of the signed document.
        ends: When the document expires: what is still reserved then is free again.
    """

    id: str
    name: str
    document_sha256: str
    ends: datetime


class Ledger:
    """The privacy ledger of one site.

    Args:
        database: The site's.
        state: The site's state folder, where the head and its key lie.
        terms: What the hospital promises.
        clock: Gives the time that each line notes.
    """

    def __init__(self, database: Database, state: Path, terms: Terms, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._head = HeadFile(state)
        self._clock = clock
        self.terms = terms

    @classmethod
    def open(
        cls,
        database: Database,
        *,
        state: Path,
        terms: Terms,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> Ledger:
        """Open the site's ledger; the first call begins it under ``terms``.

        Raises:
            StoreError: ``broken_ledger``, ``ledger_rolled_back``, or ``ledger_terms``: it was begun under others, or
                the terms leave nothing to spend.
        """
        ledger = cls(database, state, terms, clock)
        promise = {"epsilon": terms.epsilon, "delta": terms.delta, "order": terms.order}
        try:
            _ = terms.budget
        except ValueError as error:
            raise StoreError("ledger_terms", str(error)) from error
        with ledger._lines() as lines:
            if not lines.entries.contents:
                lines.add({"kind": "open", **promise})
            found = {name: lines.entries.contents[0].get(name) for name in promise}
            if found != promise:
                raise StoreError("ledger_terms", f"the ledger was begun with {found}; its promises cannot be changed")
        return ledger

    def pseudonym(self, patient_key: str) -> str:
        """Give the name under which a patient stands here."""
        return self._head.pseudonym(patient_key)

    def reserve(
        self,
        job: JobId,
        *,
        patients: Mapping[str, str],
        plan: Spend,
        smallest_cohort: Mapping[str, int],
        after_unprotected: bool = False,
    ) -> frozenset[str]:
        """Reserve a job's whole plan for every patient who can afford it.

        Args:
            job: The job.
            patients: The group of each eligible pseudonym.
            plan: The whole job's mechanisms by group.
            smallest_cohort: By group; with fewer patients of one the job is refused.
            after_unprotected: Whether patients may take part whose data a job without privacy has used.

        Returns:
            The patients who take part in the whole job. The same job may ask again after a restart.

        Raises:
            JobRefused: ``too_few_patients``; ``privacy_spent``: there would be enough, had they not spent theirs;
                ``repeated_job``: the id was reserved by another document, or is closed.
            StoreError: the ledger cannot be trusted or written.
        """
        costs = self.terms.costs(plan)
        with self._lines() as lines:
            for over in [id_ for id_, one in lines.entries.jobs.items() if one.is_open and one.ends < self._clock()]:
                lines.add({"kind": "close", "job": over})
            known = lines.entries.jobs.get(job.id)
            if known is not None:
                if known.document_sha256 != job.document_sha256 or not known.is_open:
                    raise JobRefused(
                        "repeated_job", f"job {job.id} stands in the ledger with another document, or closed"
                    )
                return frozenset(known.patients)
            can = {
                patient: group
                for patient, group in patients.items()
                if self._affords(lines.entries, patient, costs[group], after_unprotected=after_unprotected)
            }
            for group, smallest in smallest_cohort.items():
                _check_cohort(list(patients.values()).count(group), list(can.values()).count(group), smallest, job.name)
            lines.add(
                {
                    "kind": "reserve",
                    "job": job.id,
                    "name": job.name,
                    "document": job.document_sha256,
                    "ends": job.ends.isoformat(),
                    "patients": can,
                    "plan": spend_data(plan),
                    "costs": cost_data(costs),
                }
            )
            return frozenset(can)

    def able(self, patients: Iterable[str], *, cost: float, after_unprotected: bool = False) -> frozenset[str]:
        """Give the patients who could afford a job of this cost now; nothing is reserved."""
        with self._lines() as lines:
            return frozenset(
                patient
                for patient in patients
                if self._affords(lines.entries, patient, cost, after_unprotected=after_unprotected)
            )

    def charge(self, job_id: str, number: int, *, model_sha256: str, spend: Spend) -> LedgerRound:
        """Charge a round to everybody in the job, once.

        A repeated request for a round with the same model costs nothing and gives what is known of it: the update that
        was sealed is sent again, or, where the process died before the seal, the round is trained again in its place;
        nothing of the first attempt has left.

        Raises:
            JobRefused: ``unknown_job``; ``model_changed``: the round came with another model before; ``budget_spent``:
                the rounds would cost more than was reserved.
            StoreError: the ledger cannot be trusted or written.
        """
        costs = self.terms.costs(spend)
        with self._lines() as lines:
            job = lines.entries.open_job(job_id)
            known = job.rounds.get(number)
            if known is None:
                for group, cost in costs.items():
                    if job.spent(group) + cost > job.planned.get(group, 0.0) * (1 + _TOLERANCE):
                        raise JobRefused(
                            "budget_spent", f"round {number} of job {job_id} goes beyond what was reserved for it"
                        )
                lines.add(
                    {
                        "kind": "charge",
                        "job": job_id,
                        "round": number,
                        "model": model_sha256,
                        "spend": spend_data(spend),
                        "costs": cost_data(costs),
                    }
                )
                return job.rounds[number]
            if known.model_sha256 != model_sha256:
                raise JobRefused("model_changed", f"round {number} of job {job_id} was charged for another model")
            return known

    def seal(self, job_id: str, number: int, *, update_sha256: str) -> None:
        """Note which update a charge has bought; it lies whole on the disk by now, and no other will ever be sent.

        Raises:
            JobRefused: ``unknown_job``, or ``update_changed``: another update was sealed before.
        """
        with self._lines() as lines:
            known = lines.entries.charged_round(job_id, number)
            if known.update_sha256 is None:
                lines.add({"kind": "seal", "job": job_id, "round": number, "update": update_sha256})
            elif known.update_sha256 != update_sha256:
                raise JobRefused("update_changed", f"round {number} of job {job_id} is sealed with another update")

    def mark_sent(self, job_id: str, number: int) -> None:
        """Note that the sealed update is about to leave.

        Raises:
            JobRefused: ``unknown_job``: there is no sealed update.
        """
        with self._lines() as lines:
            known = lines.entries.charged_round(job_id, number)
            if known.update_sha256 is None:
                raise JobRefused("unknown_job", f"round {number} of job {job_id} has no sealed update to send")
            if not known.is_sent:
                lines.add({"kind": "sent", "job": job_id, "round": number})

    def close(self, job_id: str) -> None:
        """End a job: what was reserved and not charged is free again. Closing twice does nothing."""
        with self._lines() as lines:
            job = lines.entries.jobs.get(job_id)
            if job and job.is_open:
                lines.add({"kind": "close", "job": job_id})

    def entries(self) -> Entries:
        """Check the whole chain against its head, and give what the lines say.

        Raises:
            StoreError: ``broken_ledger`` or ``ledger_rolled_back``.
        """
        with self._lines() as lines:
            return lines.entries

    def head(self) -> Head:
        """Give the head as it stands, for others to keep."""
        with self._lines() as lines:
            return self._head.of(lines.digests)

    def check_seen(self, seen: Head) -> None:
        """Refuse to go on when somebody has seen a later head of this ledger than the database knows.

        Raises:
            StoreError: ``ledger_rolled_back``.
        """
        with self._lines() as lines:
            self._head.check_seen(seen, lines.digests)

    def _affords(self, entries: Entries, patient: str, cost: float, *, after_unprotected: bool) -> bool:
        """Whether the sum stays within the budget; a job without privacy is the hospital's own decision."""
        if math.isinf(cost):
            return True
        if entries.is_unprotected(patient) and not after_unprotected:
            return False
        return entries.held(patient) + cost <= self.terms.budget * (1 + _TOLERANCE)

    @contextmanager
    def _lines(self) -> Iterator[_Lines]:
        """Read all lines under the database's writing lock, check them against the head, and move the head on."""
        with self._database.transaction() as session:
            contents, digests = read_chain(session)
            self._head.check(digests)
            lines = _Lines(
                Entries(),
                list(digests),
                lambda text, length, last: append(session, length=length, last=last, content=text),
                self._clock,
            )
            for content in contents:
                lines.entries.apply(json.loads(content))
            yield lines
        self._head.write(lines.digests)


def _check_cohort(eligible: int, can: int, smallest: int, name: str) -> None:
    if can < smallest:
        raise JobRefused(
            "too_few_patients" if eligible < smallest else "privacy_spent",
            f"{can} of {eligible} patients have privacy left for job {name}; at least {smallest} must take part",
        )


@dataclass
class _Lines:
    """The ledger within one transaction."""

    entries: Entries
    digests: list[str]
    write: Callable[[str, int, str | None], str]
    clock: Callable[[], datetime]

    def add(self, content: dict[str, Any]) -> None:
        dated = {**content, "at": self.clock().isoformat(timespec="seconds")}
        text = json.dumps(dated, sort_keys=True, allow_nan=False)
        self.digests.append(self.write(text, len(self.digests), self.digests[-1] if self.digests else None))
        self.entries.apply(dated)
