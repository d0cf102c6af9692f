"""Fixed point: an update, its weight and its metrics as one vector of the ring of 2^32, where masks are added.

The vector holds the site's weight times its update, then its metrics, then its weight; sums of vectors are sums of
each. Weights are counted in tens, as public weights are multiples of ten.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from fedward.errors import RoundFailed, SumRefused, UpdateRefused
from fedward.federation.checks import WEIGHT_STEP, check_weight
from fedward.identity import canonical
from fedward.randomness import Secret

#: A sum is read as a signed number of 32 bits.
_LARGEST_SUM = 2**31 - 1

#: A step is at most this share of the clip, and of the local noise's standard deviation.
_LARGEST_STEP = 1e-3
_LARGEST_NOISE_SHARE = 1e-2

#: Numbers worked on at a time: their float64 stays in the processor's cache.
_SLICE = 1 << 16


@dataclass(frozen=True, eq=False)
class Encoded:
    """What a site is about to mask.

    Attributes:
        vector: uint32, as long as the quantiser's ``length``.
        clipped: How many numbers lay beyond their clip.
    """

    vector: NDArray[np.uint32]
    clipped: int


@dataclass(frozen=True, eq=False)
class Decoded:
    """What a sum says.

    Attributes:
        update: The weighted mean, flat float32.
        weight: The sum of the weights.
        metrics: The sum of each metric.
    """

    update: NDArray[np.float32]
    weight: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Quantiser:
    """A fixed-point format whose sums cannot overflow; the job document fixes it.

    Attributes:
        size: How many numbers an update has.
        clip: The largest magnitude of a coordinate that enters the sum.
        levels: How many steps there are from 0 to ``clip``, for ten patients.
        weight_cap: The largest weight of a site.
        sites: The largest number of sites in a sum.
        metrics: The names of the metrics, in the vector's order.
        metric_bound: The largest magnitude of a metric.
        metric_levels: How many steps there are from 0 to ``metric_bound``.

    Raises:
        SumRefused: ``overflow_possible``: that many honest sites could leave the ring; ``rounding_too_coarse``: a step
            is more than a thousandth of its clip.
    """

    size: int
    clip: float
    levels: int
    weight_cap: int
    sites: int
    metrics: tuple[str, ...] = ()
    metric_bound: float = 1.0
    metric_levels: int = 1000

    def __post_init__(self) -> None:
        counts = (self.size, self.levels, self.sites, self.metric_levels, self.weight_cap // WEIGHT_STEP)
        bounds = (self.clip, self.metric_bound)
        if min(counts) < 1 or not all(math.isfinite(bound) and bound > 0 for bound in bounds):
            raise ValueError(f"sizes, levels, sites, weights and finite bounds are above 0, got {self}")
        if len(set(self.metrics)) != len(self.metrics):
            raise ValueError(f"metrics differ, got {self.metrics}")
        per_site = max(self._units(self.weight_cap) * self.levels, self.metric_levels)
        if self.sites * per_site > _LARGEST_SUM:
            raise SumRefused(
                "overflow_possible",
                f"{self.sites} sites of weight {self.weight_cap} with {self.levels} steps to the clip reach "
                f"{self.sites * per_site}, the ring holds sums up to {_LARGEST_SUM}",
            )
        if min(self.levels, self.metric_levels) * _LARGEST_STEP < 1:
            raise SumRefused(
                "rounding_too_coarse",
                f"{self.levels} steps to the clip and {self.metric_levels} to the largest metric; "
                f"expected at least {1 / _LARGEST_STEP:g}",
            )

    @classmethod
    def finest(
        cls,
        size: int,
        *,
        clip: float,
        weight_cap: int,
        sites: int,
        metrics: tuple[str, ...] = (),
        metric_bound: float = 1.0,
    ) -> Quantiser:
        """Give the format with the smallest steps that cannot overflow.

        Raises:
            SumRefused: ``rounding_too_coarse``: so many sites of such weights leave too few steps.
        """
        room = _LARGEST_SUM // sites
        levels = max(1, room // cls._units(weight_cap))
        return cls(size, clip, levels, weight_cap, sites, metrics, metric_bound, metric_levels=room)

    @property
    def length(self) -> int:
        """How many numbers a vector has: the update's, one a metric, and the weight."""
        return self.size + len(self.metrics) + 1

    @property
    def step(self) -> float:
        """The distance of two levels, for a site of ten patients."""
        return self.clip / self.levels

    @property
    def metric_step(self) -> float:
        """The distance of two levels of a metric."""
        return self.metric_bound / self.metric_levels

    @property
    def digest(self) -> str:
        """SHA-256 of the parameters, hexadecimal."""
        return hashlib.sha256(canonical.encode({"format": "fedward-quantiser/1", **asdict(self)})).hexdigest()

    def check_noise(self, deviation: float) -> None:
        """Refuse a step that is more than a hundredth of a site's own noise (its standard deviation).

        Raises:
            SumRefused: ``rounding_too_coarse``.
        """
        if self.step > _LARGEST_NOISE_SHARE * deviation:
            raise SumRefused(
                "rounding_too_coarse",
                f"a step is {self.step:g}, expected at most {_LARGEST_NOISE_SHARE:g} of the noise {deviation:g}",
            )

    def encode(
        self, update: NDArray[np.float32], *, weight: int, metrics: Mapping[str, float], secret: Secret
    ) -> Encoded:
        """Write a site's numbers into the ring, each rounded up or down at random so that its mean stays.

        Raises:
            UpdateRefused: ``wrong_layout``, ``not_finite``, ``weight_invalid``, or ``wrong_metrics``: other names than
                the job's.
        """
        check_weight(weight, cap=self.weight_cap, pinned=None)
        if update.dtype != np.float32 or update.shape != (self.size,):
            raise UpdateRefused("wrong_layout", f"expected float32 ({self.size},), found {update.dtype} {update.shape}")
        if set(metrics) != set(self.metrics):
            raise UpdateRefused("wrong_metrics", f"expected {self.metrics}, found {tuple(sorted(metrics))}")
        vector = np.empty(self.length, np.uint32)
        units = self._units(weight)
        clipped = 0
        for start in range(0, self.size, _SLICE):
            part = slice(start, min(start + _SLICE, self.size))
            clipped += _write(update[part], vector[part], bound=self.clip, levels=self.levels * units, secret=secret)
        tail = np.array([metrics[name] for name in self.metrics], np.float64)
        clipped += _write(
            tail, vector[self.size : -1], bound=self.metric_bound, levels=self.metric_levels, secret=secret
        )
        vector[-1] = units
        return Encoded(vector, clipped)

    def decode(self, total: NDArray[np.uint32], *, contributors: int) -> Decoded:
        """Read a sum of ``contributors`` vectors.

        A sum that honest sites cannot have made is refused: with a mask left in it, it is noise.

        Raises:
            RoundFailed: ``sum_unreadable``.
        """
        if total.dtype != np.uint32 or total.shape != (self.length,):
            raise RoundFailed("sum_unreadable", f"expected ({self.length},), found {total.dtype} {total.shape}")
        units = int(total[-1])
        if not contributors <= units <= contributors * self._units(self.weight_cap):
            raise RoundFailed("sum_unreadable", f"{contributors} sites cannot have a weight of {units} tens")
        signed = total.view(np.int32)
        self._check_within(signed[: self.size], units * self.levels)
        self._check_within(signed[self.size : -1], contributors * self.metric_levels)
        mean = np.empty(self.size, np.float32)
        for start in range(0, self.size, _SLICE):
            part = slice(start, min(start + _SLICE, self.size))
            mean[part] = signed[part] * (self.step / units)
        metrics = {name: int(signed[self.size + place]) * self.metric_step for place, name in enumerate(self.metrics)}
        return Decoded(mean, units * WEIGHT_STEP, metrics)

    @staticmethod
    def _units(weight: int) -> int:
        return weight // WEIGHT_STEP

    @staticmethod
    def _check_within(values: NDArray[np.int32], bound: int) -> None:
        if values.size and max(int(values.max()), -int(values.min())) > bound:
            raise RoundFailed("sum_unreadable", f"a sum lies beyond {bound} steps, which honest sites cannot reach")


def _write(
    values: NDArray[np.floating], target: NDArray[np.uint32], *, bound: float, levels: int, secret: Secret
) -> int:
    """Write ``values`` into ``target`` with ``levels`` steps to ``bound``; give how many lay beyond it.

    Raises:
        UpdateRefused: ``not_finite``.
    """
    # A NaN or an infinity shows in the largest or the smallest of them.
    peak = max(float(values.max()), -float(values.min())) if values.size else 0.0
    if not math.isfinite(peak):
        raise UpdateRefused("not_finite", "the update or its metrics hold NaN or infinite values")
    clipped = int(np.count_nonzero(np.abs(values) > bound)) if peak > bound else 0
    scale = levels / bound
    exact = np.multiply(values, scale, dtype=np.float64)
    # Clipped after scaling: no error of the product may pass the integer that the overflow check counted on.
    if peak * scale > levels:
        np.clip(exact, -levels, levels, out=exact)
    target[:] = secret.round(exact).view(np.uint32)
    return clipped
