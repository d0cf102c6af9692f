"""The ledger's story in numbers that a person reads: what patients have spent, and what one more job would cost."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from fedward.privacy.accounting import epsilon
from fedward.privacy.entries import Entries
from fedward.privacy.ledger import Terms
from fedward.privacy.mechanisms import Mechanism, Unprotected


@dataclass(frozen=True)
class Account:
    """Patients with one history.

    Attributes:
        patients: How many.
        jobs: The names of the jobs that they took part in, the earliest first.
        epsilon: What has been spent on private jobs: the smallest over all orders, at the ledger's delta.
        reserved: The same with what open jobs may still spend.
        left: The share of the budget that is free.
        is_unprotected: Whether a job without privacy has used their data: then epsilon as a whole is infinite.
    """

    patients: int
    jobs: tuple[str, ...]
    epsilon: float
    reserved: float
    left: float
    is_unprotected: bool


def accounts(entries: Entries, terms: Terms) -> tuple[Account, ...]:
    """Give every history that the ledger holds, the costliest first."""
    histories: Counter[tuple[tuple[str, str], ...]] = Counter()
    example: dict[tuple[tuple[str, str], ...], str] = {}
    for patient in {patient for job in entries.jobs.values() for patient in job.patients}:
        history = tuple((id_, job.patients[patient]) for id_, job in entries.jobs.items() if patient in job.patients)
        histories[history] += 1
        example[history] = patient
    found = [
        _account(entries, terms, history, count=count, patient=example[history]) for history, count in histories.items()
    ]
    return tuple(sorted(found, key=lambda account: (account.left, -account.patients)))


def jobs_of(entries: Entries, patient: str) -> tuple[str, ...]:
    """Give the ids of the jobs in which a patient's data was used: at least one round was charged."""
    return tuple(id_ for id_, job in entries.jobs.items() if patient in job.patients and job.rounds)


def _account(
    entries: Entries, terms: Terms, history: tuple[tuple[str, str], ...], *, count: int, patient: str
) -> Account:
    spent: list[Mechanism] = []
    reserved: list[Mechanism] = []
    for id_, group in history:
        job = entries.jobs[id_]
        charged = job.charged(group)
        spent += charged
        reserved += job.plan.get(group, ()) if job.is_open else charged
    return Account(
        patients=count,
        jobs=tuple(entries.jobs[id_].name for id_, _ in history),
        epsilon=epsilon(_private(spent), terms.delta),
        reserved=epsilon(_private(reserved), terms.delta),
        left=max(0.0, 1 - entries.held(patient) / terms.budget),
        is_unprotected=entries.is_unprotected(patient),
    )


def _private(mechanisms: list[Mechanism]) -> list[Mechanism]:
    return [mechanism for mechanism in mechanisms if not isinstance(mechanism, Unprotected)]


def jobs_affordable(cost: float, terms: Terms) -> float:
    """Give how many jobs of this cost a patient who has spent nothing could take part in."""
    return math.floor(terms.budget / cost) if cost else math.inf
