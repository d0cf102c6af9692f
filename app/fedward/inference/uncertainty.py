"""How much a model doubts its own answer: several passes with dropout on, or several models."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.float32]

#: Passes of Monte-Carlo dropout unless a site asks for another number.
PASSES = 20


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """What several answers to one question say together.

    Attributes:
        mean: The mean probabilities, the class along the first axis, float32.
        variance: Of each probability over the passes, same shape; at most 1/4.
        entropy: Of ``mean`` over the classes, in nats, without the class axis: doubt of every kind.
        disagreement: The entropy less the passes' own mean entropy (mutual information), 0 where all passes agree:
            doubt that other training data could have settled.
        passes: How many answers there are.
    """

    mean: Floats
    variance: Floats
    entropy: Floats
    disagreement: Floats
    passes: int


@dataclass(frozen=True)
class LesionUncertainty:
    """One lesion's doubt, as the mean over its voxels.

    Attributes:
        number: In the lesion map.
        deviation: Of the foreground's probability over the passes: the root of the mean variance.
        entropy: In nats.
        disagreement: In nats.
    """

    number: int
    deviation: float
    entropy: float
    disagreement: float

    def needs_second_read(self, *, threshold: float) -> bool:
        """Whether the deviation lies above a site's threshold."""
        return self.deviation > threshold


class _Dropping(torch.nn.Module):
    """A network whose dropout stays on whatever mode it is put in."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def train(self, mode: bool = True) -> _Dropping:
        super().train(mode)
        for part in dropouts(self.module):
            part.train()
        return self

    def forward(self, images: torch.Tensor) -> object:
        return self.module(images)


def dropouts(module: torch.nn.Module) -> tuple[torch.nn.Module, ...]:
    """Give a network's layers that drop something in training."""
    kinds = (torch.nn.Dropout, torch.nn.Dropout1d, torch.nn.Dropout2d, torch.nn.Dropout3d, torch.nn.AlphaDropout)
    return tuple(part for part in module.modules() if isinstance(part, kinds) and part.p > 0)


@contextmanager
def dropping(module: torch.nn.Module, *, seed: int) -> Iterator[torch.nn.Module]:
    """Give the network with dropout on and everything else as in evaluation, whatever mode it is put in meanwhile.

    What is dropped comes from the seed; PyTorch's own generators and every layer's mode are then as they were.

    Raises:
        ValueError: the network drops nothing.

    Source:
        Gal & Ghahramani, Dropout as a Bayesian Approximation, ICML 2016.
    """
    if not dropouts(module):
        raise ValueError("the network was built without dropout: its passes would all be alike")
    modes = {part: part.training for part in module.modules()}
    devices = {value.device for value in module.parameters() if value.is_cuda}
    try:
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            yield _Dropping(module).eval()
    finally:
        for part, mode in modes.items():
            part.training = mode


def with_background(foreground: Floats) -> Floats:
    """Put the background's probability before the classes', shape ``(class, ...)`` to ``(1 + class, ...)``."""
    background = np.clip(1 - foreground.sum(axis=0, keepdims=True), 0, 1)
    return np.concatenate([background, foreground]).astype(np.float32)


def summarise_passes(answers: Iterable[Floats]) -> Uncertainty:
    """Put several answers together, one at a time, so that memory does not grow with their number.

    Args:
        answers: Probabilities that sum to 1 over the first axis, all of one shape.

    Raises:
        ValueError: there is none, or shapes differ.
    """
    count = 0
    for answer in answers:
        if not count:
            mean, squares = np.zeros(answer.shape), np.zeros(answer.shape)
            own_entropy = np.zeros(answer.shape[1:])
        elif answer.shape != mean.shape:
            raise ValueError(f"all answers must have one shape, got {mean.shape} and {answer.shape}")
        count += 1
        # Welford's recurrence: no difference of large sums.
        step = answer - mean
        mean += step / count
        squares += step * (answer - mean)
        own_entropy += _entropy(answer)
    if not count:
        raise ValueError("no answer to summarise")
    entropy = _entropy(mean)
    return Uncertainty(
        mean=mean.astype(np.float32),
        variance=(squares / count).astype(np.float32),
        entropy=entropy.astype(np.float32),
        disagreement=(entropy - own_entropy / count).clip(0).astype(np.float32),
        passes=count,
    )


def lesion_uncertainties(uncertainty: Uncertainty, lesion_map: NDArray[np.uint8]) -> tuple[LesionUncertainty, ...]:
    """Give each lesion's doubt, in the order of their numbers.

    Args:
        uncertainty: Of a volume, the background first along the class axis.
        lesion_map: Shape of the volume: 0 background, k lesion number k.

    Raises:
        ValueError: the shapes differ.
    """
    if uncertainty.entropy.shape != lesion_map.shape:
        raise ValueError(f"map and uncertainty must share one grid, got {lesion_map.shape}")
    # The foreground's probability is 1 less the background's, so both have one variance.
    variance, labels = uncertainty.variance[0], lesion_map.ravel()
    voxels = np.bincount(labels)
    sums = [
        np.bincount(labels, weights=part.ravel()) for part in (variance, uncertainty.entropy, uncertainty.disagreement)
    ]
    return tuple(
        LesionUncertainty(
            number,
            deviation=float(np.sqrt(sums[0][number] / voxels[number])),
            entropy=float(sums[1][number] / voxels[number]),
            disagreement=float(sums[2][number] / voxels[number]),
        )
        for number in range(1, voxels.size)
        if voxels[number]
    )


def _entropy(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    safe = np.where(probabilities > 0, probabilities, 1.0).astype(np.float64)
    return np.asarray(-(safe * np.log(safe)).sum(axis=0))
