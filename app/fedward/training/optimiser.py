"""A site's optimiser, its learning rate over the whole job, and its state as a value that is kept between rounds."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fedward.errors import ModelError, StoreError
from fedward.settings.job import Training
from fedward.store.vault import Vault

#: What is left of the learning rate after a share of the way.
_SHAPES: Mapping[str, Callable[[float], float]] = {
    "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress)),
    "polynomial": lambda progress: (1 - progress) ** 0.9,
    "constant": lambda _: 1.0,
}


@dataclass(frozen=True, eq=False)
class OptimiserState:
    """AdamW's memory. It describes the site's own gradients and never leaves the site.

    Attributes:
        first_moment: Flat float32 in the network's layout; empty after plain descent, which remembers nothing.
        second_moment: Likewise.
        steps: How many steps went into it.
    """

    first_moment: NDArray[np.float32]
    second_moment: NDArray[np.float32]
    steps: int

    def save(self, path: Path, vault: Vault) -> None:
        """Seal the state into ``path``, whole or not at all.

        Raises:
            StoreError: the disk cannot take it.
        """
        content = io.BytesIO()
        np.savez(content, first_moment=self.first_moment, second_moment=self.second_moment, steps=self.steps)
        vault.write(path, content.getvalue())

    @classmethod
    def load(cls, path: Path, vault: Vault) -> OptimiserState | None:
        """Read a saved state; None where there is none or the file is damaged: training then starts a fresh one."""
        try:
            with np.load(io.BytesIO(vault.read(path)), allow_pickle=False) as parts:
                return cls(parts["first_moment"], parts["second_moment"], int(parts["steps"]))
        except (StoreError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None


def learning_rate(step: int, training: Training) -> float:
    """Give the rate of one step: a linear warm-up, then what the job's schedule says of the way to its last step.

    Args:
        step: Counted from 0 over all rounds of the job.
        training: The job's settings.

    Source:
        cosine: Loshchilov & Hutter, SGDR, ICLR 2017, eq. 5 without restarts. polynomial: Chen et al., DeepLab, 2018,
        section 4.1, with the power 0.9.
    """
    warmup = min(training.warmup_steps, training.total_steps - 1)
    if step < warmup:
        return training.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1, training.total_steps - warmup)
    return training.learning_rate * _SHAPES[training.schedule](progress)


def local_distance(round_number: int, training: Training) -> float:
    """Give the sum of the learning rates of a round's steps, the same at every site."""
    count = training.steps_per_round
    return math.fsum(learning_rate(step, training) for step in range((round_number - 1) * count, round_number * count))


def make_optimiser(
    module: torch.nn.Module, training: Training, state: OptimiserState | None
) -> tuple[torch.optim.Optimizer, Callable[[], OptimiserState]]:
    """Give the job's optimiser over the network's trainable parameters, and a function that reads its state.

    Args:
        module: Already on its device.
        training: Which optimiser, its learning rate and weight decay.
        state: Where an earlier round left off; None starts anew.

    Raises:
        ModelError: ``wrong_layout``: the state is another network's.
    """
    parameters = [value for value in module.parameters() if value.requires_grad]
    rate, decay = training.learning_rate, training.weight_decay
    if training.optimiser == "sgd":
        none = np.empty(0, np.float32)
        return torch.optim.SGD(parameters, lr=rate, weight_decay=decay), lambda: OptimiserState(none, none, 0)
    optimiser = torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)
    if state:
        _restore(optimiser, parameters, state)
    return optimiser, lambda: _read(optimiser, parameters)


def _restore(optimiser: torch.optim.AdamW, parameters: list[torch.nn.Parameter], state: OptimiserState) -> None:
    sizes = [value.numel() for value in parameters]
    for moment in (state.first_moment, state.second_moment):
        if moment.shape != (sum(sizes),) or moment.dtype != np.float32:
            raise ModelError(
                "wrong_layout", f"the optimiser's state is {moment.dtype} {moment.shape}, not this network's"
            )
    first, second = (torch.split(torch.from_numpy(m.copy()), sizes) for m in (state.first_moment, state.second_moment))
    for value, one, two in zip(parameters, first, second, strict=True):
        # A copy in the parameter's own memory layout: the optimiser works on both at once.
        optimiser.state[value] = {
            "step": torch.tensor(float(state.steps)),
            "exp_avg": torch.empty_like(value).copy_(one.view(value.shape)),
            "exp_avg_sq": torch.empty_like(value).copy_(two.view(value.shape)),
        }


def _read(optimiser: torch.optim.AdamW, parameters: list[torch.nn.Parameter]) -> OptimiserState:
    states = [optimiser.state[value] for value in parameters]
    return OptimiserState(
        first_moment=torch.cat([state["exp_avg"].detach().flatten() for state in states]).cpu().numpy(),
        second_moment=torch.cat([state["exp_avg_sq"].detach().flatten() for state in states]).cpu().numpy(),
        steps=int(states[0]["step"]),
    )
