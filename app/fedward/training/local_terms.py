"""What a federated algorithm adds to a site's own gradients. It depends on no patient, so it needs no noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fedward.settings.algorithms import AnyAlgorithm, FedProx

Flat = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class LocalTerm:
    """``gradient += proximal * (weights - anchor) + correction``.

    Attributes:
        proximal: FedProx's mu (Li et al. 2020, eq. 2); 0 adds nothing.
        anchor: The round's global model, flat float32 in the network's layout.
        correction: SCAFFOLD's ``c - c_i`` (Karimireddy et al. 2020, eq. 3), of the same size; None adds nothing.
    """

    proximal: float
    anchor: Flat
    correction: Flat | None = None

    @classmethod
    def of(cls, algorithm: AnyAlgorithm, weights: Flat, correction: Flat | None = None) -> LocalTerm | None:
        """Give what a job's algorithm adds in a round that starts from ``weights``; None where it adds nothing."""
        proximal = algorithm.proximal if isinstance(algorithm, FedProx) else 0.0
        return cls(proximal, weights, correction) if proximal or correction is not None else None

    def add_to(self, module: torch.nn.Module) -> None:
        """Add to the gradients that stand in a network's trainable parameters."""
        parameters = [value for value in module.parameters() if value.requires_grad]
        sizes = [value.numel() for value in parameters]
        anchors = torch.split(torch.from_numpy(self.anchor), sizes)
        corrections = None if self.correction is None else torch.split(torch.from_numpy(self.correction), sizes)
        for index, value in enumerate(parameters):
            added = torch.zeros_like(value) if value.grad is None else value.grad
            if self.proximal:
                away = value.detach() - anchors[index].view(value.shape).to(value.device)
                added = added.add(away, alpha=self.proximal)
            if corrections is not None:
                added = added + corrections[index].view(value.shape).to(value.device)
            value.grad = added


def next_control(own: Flat, of_server: Flat, update: Flat, *, local_distance: float) -> Flat:
    """Give SCAFFOLD's next control of a site; it stays at the site.

    Args:
        own: Before the round.
        of_server: As it stood at the round's start.
        update: Weights after the round minus before.
        local_distance: The sum of the learning rates of the round's steps of plain gradient descent, above 0.

    Source:
        Karimireddy et al., SCAFFOLD, ICML 2020, eq. 4, option II.
    """
    return np.asarray(own - of_server - update / np.float32(local_distance), np.float32)
