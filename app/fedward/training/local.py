"""One site's round: weights and data in, an update out. A plain function of its arguments."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fedward.errors import Stopped
from fedward.imaging.cases import SiteData
from fedward.models.networks import build
from fedward.models.runtime import Runtime
from fedward.models.weights import read_weights, write_weights
from fedward.randomness import Seeded
from fedward.settings.job import Training, TrainingJob
from fedward.training.batches import Placed, batches
from fedward.training.local_terms import LocalTerm
from fedward.training.optimiser import OptimiserState, learning_rate, make_optimiser
from fedward.training.task_loss import Loss, loss_of


@dataclass(frozen=True, eq=False)
class LocalResult:
    """What one round at one site gives.

    Attributes:
        update: Weights after minus before, flat float32.
        optimiser_state: To be handed to the site's next round; it stays at the site.
        loss: The mean over the round's steps; it stays at the site.
        seconds: Wall time of the round.
    """

    update: NDArray[np.float32]
    optimiser_state: OptimiserState
    loss: float
    seconds: float


def train(
    weights: NDArray[np.float32],
    data: SiteData,
    job: TrainingJob,
    *,
    round_number: int,
    runtime: Runtime,
    optimiser_state: OptimiserState | None = None,
    correction: NDArray[np.float32] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    progress: Callable[[int, int], None] | None = None,
) -> LocalResult:
    """Take the round's optimiser steps from ``weights`` on the site's training cases.

    With one CPU thread and a given runtime the same arguments give the same update bit for bit: patches, augmentation
    and dropout come from the job's seed, the site's name, and the step's number in the whole job.

    Args:
        weights: The global model, flat float32.
        data: The site's cases; its training part is used.
        job: Network, task and training settings.
        round_number: Counted from 1; places the round on the job's one learning-rate schedule.
        runtime: How the network runs here.
        optimiser_state: Of the site's last round; None starts anew.
        correction: Added to every gradient, flat float32 in the network's layout; None adds nothing.
        should_stop: Asked before each step.
        progress: Called after each step with the steps done and the steps of the round.

    Raises:
        ValueError: the job has no such round.
        ModelError: ``wrong_layout``: weights or optimiser state are another network's.
        Stopped: ``aborted``.
        SourceError: ``no_labelled_case``: the site has nothing to train on.
    """
    start = time.perf_counter()
    steps = steps_of(round_number, job)
    stream = Seeded(Seeded(job.training.seed).seed_of("site", data.name))
    loss_sum = torch.zeros((), device=runtime.device)
    with (
        torch.random.fork_rng(devices=[runtime.device] if runtime.is_cuda else []),
        batches(data.training_cases, _batches_of(steps, job), job=job, randomness=stream, runtime=runtime) as prepared,
    ):
        torch.manual_seed(stream.seed_of("dropout", round_number))
        module = build(job.network, task=job.task)
        write_weights(module, weights)
        module = runtime.compiled(runtime.place_module(module).train())
        optimiser, state_now = make_optimiser(module, job.training, optimiser_state)
        gradient = _Gradient(module, loss_of(job.task), runtime, job.training)
        term = LocalTerm.of(job.algorithm, weights, correction)
        for step in steps:
            if should_stop():
                raise Stopped("aborted", f"training was asked to end at step {step - steps.start} of the round")
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(step, job.training)
            loss_sum += gradient.of(prepared)
            if term:
                term.add_to(module)
            optimiser.step()
            if progress:
                progress(step - steps.start + 1, len(steps))
    return LocalResult(
        update=read_weights(module) - weights,
        optimiser_state=state_now(),
        loss=float(loss_sum) / len(steps),
        seconds=time.perf_counter() - start,
    )


def steps_of(round_number: int, job: TrainingJob) -> range:
    """Give a round's steps, counted from 0 over the whole job.

    Raises:
        ValueError: the job has no such round.
    """
    if not 1 <= round_number <= job.training.rounds:
        raise ValueError(f"the job has rounds 1 to {job.training.rounds}, got {round_number}")
    count = job.training.steps_per_round
    return range((round_number - 1) * count, round_number * count)


def _batches_of(steps: range, job: TrainingJob) -> range:
    """Give the batches of a round's steps, counted from 0 over the whole job."""
    return range(steps.start * job.training.batches_per_step, steps.stop * job.training.batches_per_step)


@dataclass(frozen=True, eq=False)
class _Gradient:
    """A step's gradient: the mean over the step's batches, shortened where it is longer than the job allows."""

    module: torch.nn.Module
    of_task: Loss
    runtime: Runtime
    training: Training

    def of(self, prepared: Iterator[Placed]) -> torch.Tensor:
        """Leave the gradient of the next batches in the network's parameters; give their mean loss."""
        count = self.training.batches_per_step
        total = torch.zeros((), device=self.runtime.device)
        self.module.zero_grad(set_to_none=True)
        for _ in range(count):
            loss = self.of_task(self.module, next(prepared), self.runtime) / count
            # bfloat16 has float32's range, so gradients need no scaling.
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        if self.training.max_gradient_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.module.parameters(), self.training.max_gradient_norm)
        return total
