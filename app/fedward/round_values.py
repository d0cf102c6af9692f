"""What a round of a training job asks a hospital for, and what leaves the hospital after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedward.federation.algorithms import Control, RoundStart
from fedward.federation.ckks import Encrypted
from fedward.federation.secure_messages import Box, Masked
from fedward.identity.document import JobDocument
from fedward.privacy.head import Head
from fedward.privacy.plan import Spent

Weights = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class RoundTask:
    """What a training job asks in one round.

    Attributes:
        document: The accepted job.
        number: From 1; one more than the job's rounds for the closing validation.
        weights: The global model, flat float32.
        seen: The latest head of this site's privacy ledger that the server knows of.
        boxes: Under an encrypted sum, the shares that peers have dealt to this site.
        control: Under SCAFFOLD, the server's.
    """

    document: JobDocument
    number: int
    weights: Weights
    seen: Head | None = None
    boxes: tuple[Box, ...] = ()
    control: Control | None = None

    @property
    def start(self) -> RoundStart:
        """What the round begins with, the same at every site."""
        return RoundStart(self.number, self.weights, self.control)


@dataclass(frozen=True, eq=False)
class TrainedRound:
    """What leaves the site after a round.

    Attributes:
        update: Weights after minus before, flat float32; or, under an encrypted sum, that vector masked, with the
            noised totals inside.
        weight: The public weight.
        metrics: Exact numbers that the site file shares; in plain mode also noised totals of a private job.
        spent: What the job has cost any patient here so far; None without privacy.
        head: Of the site's privacy ledger, for the server to remember.
    """

    update: Weights | Masked | Encrypted
    weight: int
    metrics: Mapping[str, float]
    spent: Spent | None = None
    head: Head | None = None


@dataclass(frozen=True)
class Evaluated:
    """What leaves the site after the closing validation; see :class:`TrainedRound`.

    Attributes:
        masked: Under an encrypted sum the noised totals, in a vector that is zero elsewhere.
    """

    weight: int
    metrics: Mapping[str, float]
    spent: Spent | None = None
    head: Head | None = None
    masked: Masked | Encrypted | None = None
