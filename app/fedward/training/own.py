"""What a round does with the numbers that a site keeps for itself: SCAFFOLD's control, FedBN's norms.

They are one flat float32 array, here called *own*. It never leaves the site.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedward.models.networks import build
from fedward.models.norms import keeping_own, norm_mask, without_own
from fedward.settings.algorithms import FedBN, Scaffold
from fedward.settings.job import TrainingJob
from fedward.training.local_terms import next_control
from fedward.training.optimiser import local_distance

Flat = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Start:
    """What a site's round begins with.

    Attributes:
        weights: Flat, in the network's layout.
        correction: Added to every gradient; None adds nothing.
    """

    weights: Flat
    correction: Flat | None = None


def norms_of(job: TrainingJob) -> NDArray[np.bool_]:
    """Give which of the flat weights a FedBN job leaves to the sites."""
    return norm_mask(build(job.network, task=job.task))


def personal(job: TrainingJob, weights: Flat, own: Flat | None) -> Flat:
    """Give the model that a site validates and runs: the global one, under FedBN with the site's own norms.

    Args:
        job: The job.
        weights: The global model.
        own: The site's own numbers; None before its first round.
    """
    if isinstance(job.algorithm, FedBN) and own is not None:
        return keeping_own(weights, own, norms_of(job))
    return weights


def start_of(job: TrainingJob, weights: Flat, own: Flat | None, of_server: Flat | None = None) -> Start:
    """Give what a site's round begins with.

    Args:
        job: The job.
        weights: The global model.
        own: The site's own numbers; None before its first round.
        of_server: SCAFFOLD's control of the server.
    """
    if isinstance(job.algorithm, Scaffold) and of_server is not None:
        return Start(weights, of_server if own is None else of_server - own)
    return Start(personal(job, weights, own))


def end_of(
    job: TrainingJob, start: Start, update: Flat, *, number: int, own: Flat | None, of_server: Flat | None = None
) -> tuple[Flat, Flat | None]:
    """Give what a site sends of its round's update, and its own numbers from now on; None where it keeps none.

    Args:
        job: The job.
        start: What the round began with.
        update: Weights after minus ``start.weights``.
        number: The round.
        own: As before the round.
        of_server: As before the round.
    """
    if isinstance(job.algorithm, FedBN):
        mask = norms_of(job)
        return without_own(update, mask), (start.weights + update)[mask]
    if isinstance(job.algorithm, Scaffold) and of_server is not None:
        before = np.zeros_like(of_server) if own is None else own
        # The server's control must be the mean of the sites': what the sum cuts off, no control may hold.
        sent = update if job.exchange.mode == "plain" else np.clip(update, -job.exchange.clip, job.exchange.clip)
        return update, next_control(before, of_server, sent, local_distance=local_distance(number, job.training))
    return update, None
