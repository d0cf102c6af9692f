"""What a training job does to the patients of one hospital: its mechanisms, round by round."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from fedward.errors import JobRefused
from fedward.privacy.accounting import epsilon
from fedward.privacy.mechanisms import Gaussian, Mechanism, SampledGaussian, Spend, Unprotected
from fedward.settings.job import EvaluationJob, GateJob, PrivateTraining, TrainingJob
from fedward.settings.site import Privacy

#: The groups of patients; a site's split puts each patient in one of them.
TRAIN, VALIDATION, TEST = "train", "validation", "test"


#: What is said of a job's cost is rounded up to this share of 1.
_DECIMALS = 10_000

#: Of all patients of a site no more than this many in expectation may lose the promise altogether.
_EXPECTED_FAILURES = 0.1


@dataclass(frozen=True)
class Spent:
    """What a job has cost any patient of a site at most.

    Attributes:
        epsilon: The smallest over all Rényi orders.
        delta: The site's own.
    """

    epsilon: float
    delta: float


@dataclass(frozen=True)
class Plan:
    """A job under a site's caps.

    Attributes:
        job: What is proposed.
        caps: The hospital's own numbers.
        measured: Whether enough validation patients take part for their noised totals to leave.
    """

    job: TrainingJob
    caps: Privacy
    measured: bool = True

    @property
    def asked(self) -> PrivateTraining | None:
        """The job's privacy settings; None for training without."""
        return self.job.privacy

    @property
    def noise_multiplier(self) -> float:
        """The noise of a private job's steps here: what is proposed, never less than the site's minimum.

        Raises:
            ValueError: the job is not private.
        """
        return max(self._private.noise_multiplier, self.caps.min_noise_multiplier)

    @property
    def metric_noise_multiplier(self) -> float:
        """The noise of a private job's metric releases here, likewise.

        Raises:
            ValueError: the job is not private.
        """
        return max(self._private.metric_noise_multiplier, self.caps.min_noise_multiplier)

    @property
    def range_noise_multiplier(self) -> float:
        """The noise of a private job's counts of training images here, likewise.

        Raises:
            ValueError: the job is not private, or asks for no such counts.
        """
        asked = self._private.range_noise_multiplier
        if asked is None:
            raise ValueError(f"job {self.job.name} asks for no counts of training images")
        return max(asked, self.caps.min_noise_multiplier)

    @property
    def crops_at_a_time(self) -> int:
        """How many crops go through the network at a time."""
        batch_size = self.job.training.batch_size
        return batch_size if self.asked is None else min(batch_size, self.asked.crops_per_patient)

    def check_delta(self, patients: int) -> None:
        """Refuse a promise that would fail for one patient of a large site almost surely.

        Raises:
            JobRefused: ``delta_too_large``.
        """
        if self.asked is not None:
            check_delta(self.caps.delta, patients)

    def with_validation_of(self, patients: int, *, smallest_cohort: int) -> Plan:
        """Give the plan for so many validation patients: below the smallest cohort none of their numbers leave."""
        return replace(self, measured=self.asked is None or patients >= smallest_cohort)

    def measures(self, number: int) -> bool:
        """Whether a task validates the model that comes in."""
        return self.measured and number > 1 and self.job.is_validated(number - 1)

    def gives_ranges(self, number: int) -> bool:
        """Whether what the training images are like leaves with a round: with the first one, or never."""
        if self.asked is None:
            return number == 1 and "training_ranges" in self.caps.share_metrics
        return number == 1 and self.asked.range_noise_multiplier is not None

    def round(self, number: int) -> Spend:
        """Give what one task of the job does; the task after the last round validates and trains nothing."""
        trains = number <= self.job.training.rounds
        if self.asked is None:
            shares = self.measures(number) and bool(self.caps.share_metrics)
            return _groups((Unprotected(),) if trains else (), (Unprotected(),) if shares else ())
        steps = (*self._steps(1), *self._ranges(number)) if trains else ()
        return _groups(steps, self._releases(1) if self.measures(number) else ())

    def whole(self) -> Spend:
        """Give what the whole job does."""
        if self.asked is None:
            return _groups((Unprotected(),), (Unprotected(),) if self.caps.share_metrics else ())
        steps = (*self._steps(self.job.training.rounds), *self._ranges(1))
        return _groups(steps, self._releases(self.asked.metric_releases))

    def spent_after(self, number: int) -> Spent | None:
        """Give what the job has cost once task ``number`` is answered; None without privacy."""
        if self.asked is None:
            return None
        groups = (
            (*self._steps(min(number, self.job.training.rounds)), *self._ranges(1)),
            self._releases(sum(self.measures(task) for task in range(1, number + 1))),
        )
        return max((_spent(mechanisms, self.caps) for mechanisms in groups), key=lambda spent: spent.epsilon)

    @property
    def _private(self) -> PrivateTraining:
        if self.asked is None:
            raise ValueError(f"job {self.job.name} trains without privacy")
        return self.asked

    def _steps(self, rounds: int) -> tuple[Mechanism, ...]:
        steps = rounds * self.job.training.steps_per_round
        return (SampledGaussian(self._private.sampling_rate, self.noise_multiplier, steps),)

    def _ranges(self, number: int) -> tuple[Mechanism, ...]:
        return (Gaussian(self.range_noise_multiplier, 1),) if self.gives_ranges(number) else ()

    def _releases(self, count: int) -> tuple[Mechanism, ...]:
        return (Gaussian(self.metric_noise_multiplier, count),)


@dataclass(frozen=True)
class Cost:
    """What a job would do to the patients of a site.

    Attributes:
        spend: All its mechanisms.
        spent: What they cost a patient at most; None where the job is not private.
        noise_multiplier: The smallest noise among them; None where the job is not private.
    """

    spend: Spend
    spent: Spent | None
    noise_multiplier: float | None


def cost_of(job: TrainingJob | GateJob | EvaluationJob, caps: Privacy) -> Cost:
    """Give what a whole job would do under a site's caps: of a gate or an evaluation one noised sum leaves.

    An evaluation that also takes the hospital's own model is not private for who trained it.
    """
    if isinstance(job, TrainingJob):
        plan = Plan(job, caps)
        spent = plan.spent_after(job.training.rounds + 1)
        return Cost(plan.whole(), spent, plan.noise_multiplier if job.privacy else None)
    asked = job.noise_multiplier if isinstance(job, GateJob) else job.privacy.noise_multiplier
    noise = max(asked, caps.min_noise_multiplier)
    counted: Spend = {TEST: (Gaussian(noise, 1),)}
    if isinstance(job, EvaluationJob) and job.local_models:
        return Cost({TRAIN: (Unprotected(),), **counted}, None, None)
    return Cost(counted, _spent((Gaussian(noise, 1),), caps), noise)


def _spent(mechanisms: tuple[Mechanism, ...], caps: Privacy) -> Spent:
    return Spent(math.ceil(epsilon(mechanisms, caps.delta) * _DECIMALS) / _DECIMALS, caps.delta)


def check_delta(delta: float, patients: int) -> None:
    """Refuse a promise that would fail for one patient of a large site almost surely.

    Raises:
        JobRefused: ``delta_too_large``.
    """
    if delta * patients > _EXPECTED_FAILURES:
        raise JobRefused(
            "delta_too_large",
            f"[privacy] delta is {delta:g}; with {patients} patients it must be at most "
            f"{_EXPECTED_FAILURES / patients:g}",
        )


def _groups(train: tuple[Mechanism, ...], validation: tuple[Mechanism, ...]) -> Spend:
    return {TRAIN: train, VALIDATION: validation}
