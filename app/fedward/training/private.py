"""One site's round under patient-level differential privacy (DP-SGD, Abadi et al. 2016, with the patient as the unit).

Every step draws each patient by its own secret coin, averages the gradients of several crops of a patient
(augmentation multiplicity, De et al. 2022), clips that mean, sums over the patients, adds secret noise, and divides by
a constant of the job. One patient at a time goes through the network, so a gradient depends on nobody else whatever
the network is, and memory does not grow with the sample.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fedward.errors import Stopped
from fedward.imaging.cases import SiteData
from fedward.imaging.patches import Batch, TrainingCase
from fedward.models.networks import build
from fedward.models.runtime import Runtime
from fedward.models.weights import read_weights, write_weights
from fedward.randomness import Secret, Seeded, add_noise
from fedward.settings.job import PrivateTraining, TrainingJob
from fedward.training.batches import Placed, ahead, draw, placed, tensors
from fedward.training.local import LocalResult, steps_of
from fedward.training.local_terms import LocalTerm
from fedward.training.optimiser import OptimiserState, learning_rate, make_optimiser
from fedward.training.task_loss import Loss, loss_of

#: Rounding to float32 must not lift a clipped gradient above the clip norm.
_ROUNDING = 1 - 1e-6

#: Patients whose crops wait ahead of a CUDA device.
_AHEAD = 2


def train_private(
    weights: NDArray[np.float32],
    data: SiteData,
    job: TrainingJob,
    *,
    round_number: int,
    runtime: Runtime,
    noise_multiplier: float,
    secret: Secret,
    optimiser_state: OptimiserState | None = None,
    correction: NDArray[np.float32] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    progress: Callable[[int, int], None] | None = None,
) -> LocalResult:
    """Take the round's private steps from ``weights`` on the site's training patients.

    Which crops a patient gives in a step comes from the job's seed; who is drawn and what noise is added is secret, so
    no two runs are alike. An empty sample is a step like any other.

    Args:
        weights: The global model, flat float32.
        data: The site's cases of the patients who take part; its training part is used.
        job: Network, task, training and privacy settings.
        round_number: Counted from 1.
        runtime: How the network runs here.
        noise_multiplier: The noise's standard deviation over the clip norm, as this site has decided it.
        secret: Draws the samples and the noise.
        optimiser_state: Of the site's last round; None starts anew.
        correction: Added to every noised gradient; what it knows of patients it must know from noised updates alone.
        should_stop: Asked before each patient.
        progress: Called after each step with the steps done and the steps of the round.

    Returns:
        The update, and a loss that is exact: it stays at the site.

    Raises:
        ValueError: the job is not private, or has no such round.
        ModelError: ``wrong_layout``: weights or optimiser state are another network's.
        Stopped: ``aborted``.
        SourceError: ``no_labelled_case``: the site has nothing to train on.
    """
    if job.privacy is None:
        raise ValueError(f"job {job.name} has no privacy settings")
    start = time.perf_counter()
    steps = steps_of(round_number, job)
    patients = list(data.training_patients.items())
    samples = [np.flatnonzero(secret.bernoulli(len(patients), job.privacy.sampling_rate)) for _ in steps]
    stream = Seeded(Seeded(job.training.seed).seed_of("site", data.name))
    drawn = (
        _Drawn.of(patients[index], step=step, job=job, asked=job.privacy, randomness=stream)
        for step, sample in zip(steps, samples, strict=True)
        for index in sample
    )
    with (
        torch.random.fork_rng(devices=[runtime.device] if runtime.is_cuda else []),
        _prepared(drawn, runtime) as prepared,
        ThreadPoolExecutor(1, "noise") as beside,
    ):
        module = build(job.network, task=job.task)
        write_weights(module, weights)
        module = runtime.compiled(runtime.place_module(module).train())
        optimiser, state_now = make_optimiser(module, job.training, optimiser_state)
        total = PatientSum(module, clip_norm=job.privacy.clip_norm, loss=loss_of(job.task))
        term = LocalTerm.of(job.algorithm, weights, correction)
        deviation = noise_multiplier * job.privacy.clip_norm
        for step, sample in zip(steps, samples, strict=True):
            noise = beside.submit(secret.gaussian, total.size, deviation)
            for _ in sample:
                if should_stop():
                    raise Stopped("aborted", f"training was asked to end at step {step - steps.start} of the round")
                total.add(next(prepared), batch_size=job.training.batch_size, runtime=runtime)
            noised = add_noise(total.take(), noise.result(), deviation=deviation)
            total.hand_over(noised / job.privacy.expected_patients)
            if term:
                term.add_to(module)
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(step, job.training)
            optimiser.step()
            if progress:
                progress(step - steps.start + 1, len(steps))
    return LocalResult(
        update=read_weights(module) - weights,
        optimiser_state=state_now(),
        loss=total.mean_loss(),
        seconds=time.perf_counter() - start,
    )


@dataclass(frozen=True, eq=False)
class PatientCrops:
    """One patient's crops of one step, on the device.

    Attributes:
        images: Shape ``(crop, 1, superior, posterior, left)``.
        labels: As the task's batches hold them, the crop along the first axis.
        seed: Of what the network itself draws for this patient (dropout).
        facts: As the task's batches hold them, if they do.
    """

    images: torch.Tensor
    labels: torch.Tensor
    seed: int
    facts: torch.Tensor | None = None

    @property
    def parts(self) -> Placed:
        """The crops as a batch."""
        return (self.images, self.labels) if self.facts is None else (self.images, self.labels, self.facts)


class PatientSum:
    """The sum of clipped gradients, one patient after the other.

    Args:
        module: The network, on its device.
        clip_norm: The largest Euclidean norm of one patient's share of the sum.
        loss: Of the job's task: the mean over a batch's crops.
    """

    def __init__(self, module: torch.nn.Module, *, clip_norm: float, loss: Loss) -> None:
        self._module, self._of_task = module, loss
        self._parameters = [value for value in module.parameters() if value.requires_grad]
        self._clip_norm = clip_norm
        self.size = sum(value.numel() for value in self._parameters)
        device = self._parameters[0].device
        # float64: adding one more patient must not round what the others gave.
        self._sum = torch.zeros(self.size, dtype=torch.float64, device=device)
        self._loss = torch.zeros((), device=device)
        self._count = 0

    def add(self, crops: PatientCrops, *, batch_size: int, runtime: Runtime) -> None:
        """Add the clipped mean gradient of a patient's crops, ``batch_size`` of which go through at a time.

        A gradient that is not finite counts as zero.
        """
        torch.manual_seed(crops.seed)
        self._module.zero_grad(set_to_none=True)
        for batch in zip(*(torch.split(part, batch_size) for part in crops.parts), strict=True):
            share = len(batch[0]) / len(crops.images)
            loss = self._of_task(self._module, batch, runtime) * share
            # bfloat16 has float32's range, so gradients need no scaling.
            loss.backward()  # type: ignore[no-untyped-call]
            self._loss += loss.detach()
        self._count += 1
        gradients = [value.grad for value in self._parameters if value.grad is not None]
        norm = torch.stack([torch.linalg.vector_norm(g, dtype=torch.float64) for g in gradients]).norm()
        if not torch.isfinite(norm):
            return
        factor = torch.clamp(self._clip_norm * _ROUNDING / norm, max=1.0).item()
        for place, value in self._places():
            if value.grad is not None:
                self._sum[place].add_(value.grad.flatten(), alpha=factor)

    def take(self) -> NDArray[np.float64]:
        """Give the sum, flat in the network's layout, and begin anew."""
        taken = self._sum.cpu().numpy().copy()
        self._sum.zero_()
        return taken

    def hand_over(self, gradient: NDArray[np.float64]) -> None:
        """Set the parameters' gradients for the optimiser."""
        flat = torch.from_numpy(gradient.astype(np.float32)).to(self._sum.device)
        for place, value in self._places():
            value.grad = torch.empty_like(value).copy_(flat[place].view(value.shape))

    def mean_loss(self) -> float:
        """Give the mean over all patients drawn so far, 0 where nobody was; it is exact and stays at the site."""
        return float(self._loss) / max(1, self._count)

    def _places(self) -> Iterator[tuple[slice, torch.nn.Parameter]]:
        start = 0
        for value in self._parameters:
            yield slice(start, start + value.numel()), value
            start += value.numel()


@dataclass(frozen=True, eq=False)
class _Drawn:
    """One patient's crops of one step, as the processor drew them."""

    crops: Batch
    seed: int

    @classmethod
    def of(
        cls,
        patient: tuple[str, Sequence[TrainingCase]],
        *,
        step: int,
        job: TrainingJob,
        asked: PrivateTraining,
        randomness: Seeded,
    ) -> _Drawn:
        key, cases = patient
        # By the patient alone: nobody else's presence changes what is drawn.
        own = Seeded(randomness.seed_of("patient", hashlib.sha256(key.encode()).hexdigest()))
        crops = draw(cases, count=asked.crops_per_patient, step=step, job=job, randomness=own)
        return cls(crops, own.seed_of("dropout", step))


@contextmanager
def _prepared(drawn: Iterator[_Drawn], runtime: Runtime) -> Iterator[Iterator[PatientCrops]]:
    """Give the patients' crops on the device; before a CUDA device a thread draws ahead."""
    pairs = ((tensors(one.crops, pinned=runtime.is_cuda), one.seed) for one in drawn)
    with ahead(pairs, depth=_AHEAD) if runtime.is_cuda else nullcontext(pairs) as ready:
        yield (_placed(pair, seed, runtime) for pair, seed in ready)


def _placed(pair: Placed, seed: int, runtime: Runtime) -> PatientCrops:
    images, labels, *facts = placed(pair, runtime)
    return PatientCrops(images, labels, seed, facts[0] if facts else None)
