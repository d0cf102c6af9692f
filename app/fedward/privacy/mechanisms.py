"""Everything that leaves a hospital and depends on patients, as frozen data that an accountant can read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class SampledGaussian:
    """Steps of patient-level DP-SGD: a Poisson sample of the patients, a clipped sum, Gaussian noise.

    Attributes:
        sampling_rate: Each patient is in a step's sample with this probability, in (0, 1].
        noise_multiplier: The noise's standard deviation over the clip norm, above 0.
        steps: How many, 0 or more.

    Raises:
        ValueError: a number out of its range.
    """

    sampling_rate: float
    noise_multiplier: float
    steps: int

    def __post_init__(self) -> None:
        if not 0 < self.sampling_rate <= 1:
            raise ValueError(f"a sampling rate lies in (0, 1], got {self.sampling_rate}")
        _check(self.noise_multiplier, self.steps)


@dataclass(frozen=True)
class Gaussian:
    """Sums over all patients with Gaussian noise, as metrics are released.

    Attributes:
        noise_multiplier: The noise's standard deviation over the largest share of one patient, above 0.
        releases: How many, 0 or more.

    Raises:
        ValueError: a number out of its range.
    """

    noise_multiplier: float
    releases: int

    def __post_init__(self) -> None:
        _check(self.noise_multiplier, self.releases)


@dataclass(frozen=True)
class Unprotected:
    """Something that leaves without noise: its epsilon is infinite."""


Mechanism = SampledGaussian | Gaussian | Unprotected

#: What a job, or one round of it, does to the patients of each group; every patient is in one group, so a patient pays
#: for that group's mechanisms alone (parallel composition).
Spend = Mapping[str, tuple[Mechanism, ...]]

_KINDS: dict[str, type[Mechanism]] = {
    "sampled_gaussian": SampledGaussian,
    "gaussian": Gaussian,
    "unprotected": Unprotected,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def as_data(mechanisms: Sequence[Mechanism]) -> list[dict[str, Any]]:
    """Write mechanisms as JSON's data."""
    return [{"kind": _NAMES[type(mechanism)], **asdict(mechanism)} for mechanism in mechanisms]


def from_data(data: Sequence[Mapping[str, Any]]) -> tuple[Mechanism, ...]:
    """Read what :func:`as_data` wrote."""
    return tuple(_KINDS[one["kind"]](**{k: v for k, v in one.items() if k != "kind"}) for one in data)


def _check(noise_multiplier: float, count: int) -> None:
    if not (noise_multiplier > 0 and math.isfinite(noise_multiplier)):
        raise ValueError(f"a noise multiplier is finite and above 0, got {noise_multiplier}")
    if count < 0:
        raise ValueError(f"a mechanism runs 0 times or more, got {count}")
