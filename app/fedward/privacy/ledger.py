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

import hmac
import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedward.errors import JobRefused, StoreError
from fedward.files import write_bytes, write_text
from fedward.privacy.accounting import budget
from fedward.randomness import Secret
from fedward.store.chain import append, read_chain
from fedward.store.database import Database

KEY, HEAD = "ledger.key", "ledger.head"
_KEY_BYTES = 32

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


@dataclass
class _Round:
    model_sha256: str
    cost: float
    update_sha256: str | None = None
    is_sent: bool = False


@dataclass
class _Job:
    """A job as the ledger's lines tell it."""

    document_sha256: str
    patients: frozenset[str]
    planned: float
    rounds: dict[int, _Round] = field(default_factory=dict)
    is_open: bool = True

    @property
    def spent(self) -> float:
        return math.fsum(one.cost for one in self.rounds.values())

    @property
    def held(self) -> float:
        """What a patient of this job cannot spend elsewhere."""
        return max(self.planned, self.spent) if self.is_open else self.spent


@dataclass(frozen=True)
class RoundState:
    """How far a round has come: charged, and then perhaps sealed, and then perhaps sent.

    Attributes:
        model_sha256: Of the model that the round began with.
        update_sha256: Of the update that the charge bought; None before it is sealed.
        is_sent: Whether it has left.
    """

    model_sha256: str
    update_sha256: str | None
    is_sent: bool


class Ledger:
    """The privacy ledger of one site.

    Args:
        database: The site's.
        state: The site's state folder, where the head and its key lie.
        terms: What the hospital promises.
    """

    def __init__(self, database: Database, state: Path, terms: Terms) -> None:
        self._database = database
        self._state = state
        self._terms = terms

    @classmethod
    def open(cls, database: Database, *, state: Path, terms: Terms) -> Ledger:
        """Open the site's ledger; the first call begins it under ``terms``.

        Raises:
            StoreError: ``broken_ledger``, ``ledger_rolled_back``, or ``ledger_terms``: it was begun under others.
            ValueError: the terms leave nothing to spend.
        """
        ledger = cls(database, state, terms)
        wanted = {"kind": "open", "epsilon": terms.epsilon, "delta": terms.delta, "order": terms.order}
        _ = terms.budget
        with ledger._lines() as lines:
            if not lines.contents:
                lines.add(wanted)
            elif lines.contents[0] != wanted:
                found = {key: value for key, value in lines.contents[0].items() if key != "kind"}
                raise StoreError("ledger_terms", f"the ledger was begun with {found}; its promises cannot be changed")
        return ledger

    def reserve(
        self,
        *,
        job_id: str,
        document_sha256: str,
        patients: Collection[str],
        cost: float,
        smallest_cohort: int,
    ) -> frozenset[str]:
        """Reserve a job's whole plan for every patient who can afford it.

        Args:
            job_id: The job's random id.
            document_sha256: Of its signed document.
            patients: Pseudonyms of all who are eligible.
            cost: Of the whole plan for one patient, at the ledger's order; infinite for a job without privacy.
            smallest_cohort: With fewer patients the job is refused.

        Returns:
            The patients who take part in the whole job. The same job may ask again after a restart.

        Raises:
            JobRefused: ``too_few_patients``; ``repeated_job``: the id was reserved by another document, or is closed.
            StoreError: the ledger cannot be trusted or written.
        """
        with self._lines() as lines:
            known = lines.jobs.get(job_id)
            if known is not None:
                if known.document_sha256 != document_sha256 or not known.is_open:
                    raise JobRefused(
                        "repeated_job", f"job {job_id} stands in the ledger with another document, or closed"
                    )
                return known.patients
            can = frozenset(patient for patient in patients if self._affords(lines.held(patient) + cost, cost))
            if len(can) < smallest_cohort:
                raise JobRefused(
                    "too_few_patients",
                    f"{len(can)} of {len(patients)} patients have privacy left for this job; at least "
                    f"{smallest_cohort} must take part",
                )
            lines.add(
                {
                    "kind": "reserve",
                    "job": job_id,
                    "document": document_sha256,
                    "patients": sorted(can),
                    "cost": cost if math.isfinite(cost) else "infinite",
                }
            )
            return can

    def charge(self, *, job_id: str, number: int, model_sha256: str, cost: float) -> RoundState:
        """Charge a round to everybody in the job, once.

        A repeated request for a round with the same model costs nothing and gives what is known of it: the update that
        was sealed is sent again, or, where the process died before the seal, the round is trained again in its place;
        nothing of the first attempt has left.

        Raises:
            JobRefused: ``unknown_job``; ``model_changed``: the round came with another model before; ``budget_spent``:
                the rounds would cost more than was reserved.
            StoreError: the ledger cannot be trusted or written.
        """
        with self._lines() as lines:
            job = lines.open_job(job_id)
            known = job.rounds.get(number)
            if known is None:
                if job.spent + cost > job.planned * (1 + _TOLERANCE):
                    raise JobRefused(
                        "budget_spent", f"round {number} of job {job_id} goes beyond what was reserved for it"
                    )
                lines.add(
                    {"kind": "charge", "job": job_id, "round": number, "model": model_sha256, "cost": _finite(cost)}
                )
                return RoundState(model_sha256, None, is_sent=False)
            if known.model_sha256 != model_sha256:
                raise JobRefused("model_changed", f"round {number} of job {job_id} was charged for another model")
            return RoundState(known.model_sha256, known.update_sha256, known.is_sent)

    def seal(self, *, job_id: str, number: int, update_sha256: str) -> None:
        """Note which update a charge has bought; it lies whole on the disk by now, and no other will ever be sent.

        Raises:
            JobRefused: ``unknown_job``, or ``update_changed``: another update was sealed before.
        """
        with self._lines() as lines:
            known = lines.charged(job_id, number)
            if known.update_sha256 is None:
                lines.add({"kind": "seal", "job": job_id, "round": number, "update": update_sha256})
            elif known.update_sha256 != update_sha256:
                raise JobRefused("update_changed", f"round {number} of job {job_id} is sealed with another update")

    def mark_sent(self, *, job_id: str, number: int) -> None:
        """Note that the sealed update is about to leave.

        Raises:
            JobRefused: ``unknown_job``: there is no sealed update.
        """
        with self._lines() as lines:
            known = lines.charged(job_id, number)
            if known.update_sha256 is None:
                raise JobRefused("unknown_job", f"round {number} of job {job_id} has no sealed update to send")
            if not known.is_sent:
                lines.add({"kind": "sent", "job": job_id, "round": number})

    def close(self, *, job_id: str) -> None:
        """End a job: what was reserved and not charged is free again. Closing twice does nothing."""
        with self._lines() as lines:
            if job_id in lines.jobs and lines.jobs[job_id].is_open:
                lines.add({"kind": "close", "job": job_id})

    def spent(self) -> Mapping[str, float]:
        """Give what every patient of any job has spent or has reserved, as a divergence at the ledger's order."""
        with self._lines() as lines:
            return {patient: lines.held(patient) for patient in sorted(lines.patients)}

    def verify(self) -> int:
        """Check the whole chain against its head, and give the number of lines.

        Raises:
            StoreError: ``broken_ledger`` or ``ledger_rolled_back``.
        """
        with self._lines() as lines:
            return len(lines.contents)

    def _affords(self, held: float, cost: float) -> bool:
        """Whether the sum stays within the budget; a job without privacy is the hospital's own decision."""
        return math.isinf(cost) or held <= self._terms.budget * (1 + _TOLERANCE)

    @contextmanager
    def _lines(self) -> Iterator[_Lines]:
        """Read all lines under the database's writing lock, check them against the head, and move the head on."""
        with self._database.transaction() as session:
            contents, digests = read_chain(session)
            self._check_head(digests)

            def write(content: str, length: int, last: str | None) -> str:
                return append(session, length=length, last=last, content=content)

            lines = _Lines([json.loads(content) for content in contents], list(digests), write)
            yield lines
        self._write_head(lines.digests)

    def _check_head(self, digests: tuple[str, ...]) -> None:
        path = self._state / HEAD
        if not path.exists():
            if digests:
                raise StoreError("ledger_rolled_back", f"{HEAD} is missing: nobody can tell whether lines were lost")
            return
        try:
            head = json.loads(path.read_text(encoding="utf-8"))
            length, keyed = int(head["length"]), str(head["hash"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError("ledger_rolled_back", f"{HEAD} cannot be read: {error}") from error
        # A process may die between the database's commit and the head's: then the database is the longer one.
        if length > len(digests) or not hmac.compare_digest(keyed, self._keyed(digests[:length])):
            raise StoreError(
                "ledger_rolled_back",
                f"the database has {len(digests)} lines of the ledger, its head was at {length}: it is an older copy "
                "or not this site's; nothing is trained on it",
            )

    def _write_head(self, digests: list[str]) -> None:
        """Called after the commit; a head of another process that is already further stays."""
        path = self._state / HEAD
        if path.exists() and json.loads(path.read_text(encoding="utf-8"))["length"] >= len(digests):
            return
        write_text(path, json.dumps({"length": len(digests), "hash": self._keyed(tuple(digests))}), mode=0o600)

    def _keyed(self, digests: tuple[str, ...]) -> str:
        last = digests[-1] if digests else ""
        return hmac.digest(self._key(), f"{len(digests)}:{last}".encode(), "sha256").hex()

    def _key(self) -> bytes:
        path = self._state / KEY
        if not path.exists():
            if (self._state / HEAD).exists():
                raise StoreError("ledger_rolled_back", f"{KEY} is missing, so the head cannot be checked")
            write_bytes(path, Secret().take(_KEY_BYTES))
        return path.read_bytes()


@dataclass
class _Lines:
    """The ledger within one transaction."""

    contents: list[dict[str, Any]]
    digests: list[str]
    write: Callable[[str, int, str | None], str]
    jobs: dict[str, _Job] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for content in self.contents:
            self._apply(content)

    @property
    def patients(self) -> set[str]:
        return {patient for job in self.jobs.values() for patient in job.patients}

    def held(self, patient: str) -> float:
        return math.fsum(job.held for job in self.jobs.values() if patient in job.patients)

    def add(self, content: dict[str, Any]) -> None:
        text = json.dumps(content, sort_keys=True, allow_nan=False)
        self.digests.append(self.write(text, len(self.digests), self.digests[-1] if self.digests else None))
        self.contents.append(content)
        self._apply(content)

    def open_job(self, job_id: str) -> _Job:
        job = self.jobs.get(job_id)
        if job is None or not job.is_open:
            raise JobRefused("unknown_job", f"job {job_id} has no open reservation in the privacy ledger")
        return job

    def charged(self, job_id: str, number: int) -> _Round:
        known = self.open_job(job_id).rounds.get(number)
        if known is None:
            raise JobRefused("unknown_job", f"round {number} of job {job_id} was not charged")
        return known

    def _apply(self, content: Mapping[str, Any]) -> None:
        match content["kind"]:
            case "reserve":
                cost = math.inf if content["cost"] == "infinite" else float(content["cost"])
                self.jobs[content["job"]] = _Job(content["document"], frozenset(content["patients"]), cost)
            case "charge":
                cost = math.inf if content["cost"] == "infinite" else float(content["cost"])
                self.jobs[content["job"]].rounds[content["round"]] = _Round(content["model"], cost)
            case "seal":
                self.jobs[content["job"]].rounds[content["round"]].update_sha256 = content["update"]
            case "sent":
                self.jobs[content["job"]].rounds[content["round"]].is_sent = True
            case "close":
                self.jobs[content["job"]].is_open = False


def _finite(cost: float) -> float | str:
    return cost if math.isfinite(cost) else "infinite"
