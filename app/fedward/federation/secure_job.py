"""What a job's encrypted sum looks like; sites and server compute it each for themselves from the signed document."""

from __future__ import annotations

from fedward.federation.checks import WEIGHT_STEP
from fedward.federation.quantise import Quantiser
from fedward.federation.secure_messages import MOST_ROUNDS, Session
from fedward.identity.document import JobDocument
from fedward.imaging.traits import trait_keys
from fedward.privacy.metrics import PATIENTS, TOTAL
from fedward.settings.job import EvaluationJob, PrivateTraining, SummedJob, TrainingJob

#: No noised total of a site is larger; what lies beyond is cut.
_METRIC_BOUND = 10_000.0

#: No noised count of a site is larger; what lies beyond is cut.
_COUNT_BOUND = 100_000.0


def quantiser_of(job: SummedJob, *, size: int, sites: int) -> Quantiser:
    """Give the fixed-point format of a job.

    Args:
        job: Clip, weight cap, and whether noised totals are summed.
        size: How many numbers the network has; of a job that trains nothing, how many counts each site gives.
        sites: How many sites the job asks.

    Raises:
        SumRefused: ``overflow_possible`` or ``rounding_too_coarse``.
    """
    if isinstance(job, EvaluationJob):
        # Nothing is trained: a site's update is one number that stays zero, and all sites weigh the same.
        names = count_names(size)
        return Quantiser.finest(
            1, clip=1.0, weight_cap=WEIGHT_STEP, sites=sites, metrics=names, metric_bound=_COUNT_BOUND
        )
    quantiser = Quantiser.finest(
        size,
        clip=job.exchange.clip,
        weight_cap=job.exchange.weight_cap,
        sites=sites,
        metrics=summed_metrics(job),
        metric_bound=_METRIC_BOUND,
    )
    if job.privacy is not None:
        quantiser.check_noise(_noise_of_a_step(job, job.privacy))
    return quantiser


def _noise_of_a_step(job: TrainingJob, privacy: PrivateTraining) -> float:
    """Give how far one step's noise moves a weight at least: so large is a site's own noise in every round."""
    if job.training.optimiser == "sgd":
        return job.training.learning_rate * privacy.noise_multiplier * privacy.clip_norm / privacy.expected_patients
    # AdamW scales noised gradients to about the learning rate.
    return job.training.learning_rate


def count_names(count: int) -> tuple[str, ...]:
    """Give the names under which so many counts travel."""
    return tuple(f"count_{place}" for place in range(count))


def last_sum(job: SummedJob) -> int:
    """Give the number of a job's last sum: the closing validation's, or the only one."""
    return job.training.rounds + 1 if isinstance(job, TrainingJob) else 1


def summed_metrics(job: TrainingJob) -> tuple[str, ...]:
    """Name what travels inside the encrypted sum beside the update, in the vector's order.

    The counts of what training images are like are there without privacy too: each site file decides whether its own
    enter, and nobody sees which did.
    """
    totals = (TOTAL, PATIENTS) if sums_metrics(job) else ()
    has_ranges = job.privacy is None or job.privacy.range_noise_multiplier is not None
    return (*totals, *trait_keys(job.input)) if has_ranges else totals


def sums_metrics(job: TrainingJob) -> bool:
    """Whether noised validation totals travel inside the encrypted sum."""
    return job.privacy is not None and job.privacy.metric_releases > 0


def sums_at_the_end(job: TrainingJob) -> bool:
    """Whether the closing validation ends in an encrypted sum of its own, of noised totals alone."""
    return job.exchange.mode != "plain" and sums_metrics(job) and job.is_validated(job.training.rounds)


def session_of(document: JobDocument, job: SummedJob, quantiser: Quantiser, *, attempt: int, first: int) -> Session:
    """Give what a set-up is for: the rounds from ``first`` to the job's last sum, as many as one set-up holds."""
    last = min(last_sum(job), first + MOST_ROUNDS - 1)
    return Session(
        job_id=document.id,
        job_sha256=document.digest,
        sites=document.sites,
        quantiser_sha256=quantiser.digest,
        length=quantiser.length,
        attempt=attempt,
        first_round=first,
        last_round=last,
    )
