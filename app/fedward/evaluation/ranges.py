"""From the hospitals' counts of what their training images are like to the ranges that a passport states."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedward.imaging.traits import Unit, trait_keys, traits_of
from fedward.settings.job import Input

#: A bin counts as filled from so many standard deviations of the noise on: of the some 70 bins that could be empty, one
#: job in sixty takes one for filled.
_DEVIATIONS = 3.5

#: An exact count that is smaller is the rounding of an encrypted sum.
_ROUNDING = 1e-3

#: From the median of absolute values to the standard deviation of a normal distribution.
_FROM_MEDIAN = 1.4826


@dataclass(frozen=True)
class Covered:
    """What the training images' values of one trait lie between.

    Attributes:
        trait: Its name.
        unit: Its unit.
        low: The lower edge of the first bin that is filled; None where that bin is open.
        high: The upper edge of the last one, likewise.
    """

    trait: str
    unit: Unit
    low: float | None
    high: float | None


def collected(metrics: Mapping[str, Mapping[str, float]], settings: Input) -> dict[str, float]:
    """Add up the counts in what each site, or their encrypted sum, gave; empty where nobody gave any.

    Args:
        metrics: By site; a number that is not finite counts as not given.
        settings: The job's.
    """
    totals = {
        key: math.fsum(value for of_site in metrics.values() if math.isfinite(value := of_site.get(key, 0.0)))
        for key in trait_keys(settings)
    }
    return totals if any(abs(total) > _ROUNDING for total in totals.values()) else {}


def covered_ranges(counts: Mapping[str, float], settings: Input, *, deviation: float) -> tuple[Covered, ...]:
    """Give the range of each trait, from the first filled bin to the last; a trait without any is left out.

    A hospital may add more noise than the job asks for, so that the deviation is also estimated from the counts
    themselves, most of which are of empty bins; the larger one counts.

    Args:
        counts: By :func:`fedward.imaging.traits.trait_keys`; what is missing is 0.
        settings: The job's.
        deviation: Of the noise on each count; 0 for exact counts.
    """
    values = np.array([counts.get(key, 0.0) for key in trait_keys(settings)])
    noise = max(deviation, _FROM_MEDIAN * float(np.median(np.abs(values)))) if deviation else 0.0
    filled = values > max(_DEVIATIONS * noise, _ROUNDING)
    found, start = [], 0
    for trait in traits_of(settings):
        of_trait: NDArray[np.intp] = np.flatnonzero(filled[start : start + trait.bins])
        start += trait.bins
        if of_trait.size:
            edges = (None, *trait.edges, None)
            found.append(Covered(trait.name, trait.unit, edges[of_trait[0]], edges[of_trait[-1] + 1]))
    return tuple(found)
