"""What the ledger's lines say, replayed: the jobs, their rounds, and what each patient has spent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fedward.errors import JobRefused
from fedward.privacy.mechanisms import Mechanism, Spend, as_data, from_data

Costs = Mapping[str, float]

#: JSON has no infinity.
_INFINITE = "infinite"


@dataclass
class LedgerRound:
    """A round of a job.

    Attributes:
        model_sha256: Of the model that it began with; of a hospital's own model that leaves, of that one.
        spend: Its mechanisms by group.
        costs: Their Rényi divergence by group, at the ledger's order.
        update_sha256: Of the update that the charge bought; None before it is sealed.
        is_sent: Whether it has left.
    """

    model_sha256: str
    spend: Spend
    costs: Costs
    update_sha256: str | None = None
    is_sent: bool = False


@dataclass
class LedgerJob:
    """A job.

    Attributes:
        document_sha256: Of its signed document.
        name: The job's name.
        ends: When its document expires.
        patients: The group of each pseudonym that takes part.
        plan: The whole job's mechanisms by group.
        planned: Their costs.
        rounds: Those that were charged.
        is_open: Whether more may come.
    """

    document_sha256: str
    name: str
    ends: datetime
    patients: Mapping[str, str]
    plan: Spend
    planned: Costs
    rounds: dict[int, LedgerRound] = field(default_factory=dict)
    is_open: bool = True

    def spent(self, group: str) -> float:
        """What the charged rounds cost a patient of ``group``."""
        return math.fsum(one.costs.get(group, 0.0) for one in self.rounds.values())

    def held(self, group: str) -> float:
        """What a patient of ``group`` cannot spend elsewhere."""
        return max(self.planned.get(group, 0.0), self.spent(group)) if self.is_open else self.spent(group)

    def charged(self, group: str) -> tuple[Mechanism, ...]:
        """The mechanisms of all charged rounds."""
        return tuple(mechanism for one in self.rounds.values() for mechanism in one.spend.get(group, ()))


@dataclass
class Entries:
    """All lines, and what they add up to."""

    contents: list[dict[str, Any]] = field(default_factory=list)
    jobs: dict[str, LedgerJob] = field(default_factory=dict)

    def apply(self, content: dict[str, Any]) -> None:
        """Take one more line in."""
        self.contents.append(content)
        job = self.jobs.get(content.get("job", ""))
        match content["kind"]:
            case "reserve":
                self.jobs[content["job"]] = LedgerJob(
                    content["document"],
                    content["name"],
                    datetime.fromisoformat(content["ends"]),
                    content["patients"],
                    _spend(content["plan"]),
                    _costs(content["costs"]),
                )
            case "charge" if job:
                job.rounds[content["round"]] = LedgerRound(
                    content["model"], _spend(content["spend"]), _costs(content["costs"])
                )
            case "seal" if job:
                job.rounds[content["round"]].update_sha256 = content["update"]
            case "sent" if job:
                job.rounds[content["round"]].is_sent = True
            case "close" if job:
                job.is_open = False

    def held(self, patient: str) -> float:
        """What a patient cannot spend on another private job: finite, as jobs without privacy are not in it."""
        costs = (job.held(job.patients[patient]) for job in self.jobs.values() if patient in job.patients)
        return math.fsum(cost for cost in costs if math.isfinite(cost))

    def is_unprotected(self, patient: str) -> bool:
        """Whether a job without privacy has taken, or may take, this patient's data."""
        return any(math.isinf(job.held(job.patients[patient])) for job in self.jobs.values() if patient in job.patients)

    def open_job(self, job_id: str) -> LedgerJob:
        """Give a job that may go on.

        Raises:
            JobRefused: ``unknown_job``.
        """
        job = self.jobs.get(job_id)
        if job is None or not job.is_open:
            raise JobRefused("unknown_job", f"job {job_id} has no open reservation in the privacy ledger")
        return job

    def charged_round(self, job_id: str, number: int) -> LedgerRound:
        """Give a round that was charged.

        Raises:
            JobRefused: ``unknown_job``.
        """
        known = self.open_job(job_id).rounds.get(number)
        if known is None:
            raise JobRefused("unknown_job", f"round {number} of job {job_id} was not charged")
        return known


def spend_data(spend: Spend) -> dict[str, list[dict[str, Any]]]:
    """Write a spend as JSON's data."""
    return {group: as_data(mechanisms) for group, mechanisms in spend.items()}


def cost_data(costs: Costs) -> dict[str, float | str]:
    """Write costs as JSON's data."""
    return {group: cost if math.isfinite(cost) else _INFINITE for group, cost in costs.items()}


def _spend(data: Mapping[str, Any]) -> Spend:
    return {group: from_data(mechanisms) for group, mechanisms in data.items()}


def _costs(data: Mapping[str, float | str]) -> Costs:
    return {group: math.inf if cost == _INFINITE else float(cost) for group, cost in data.items()}
