"""Who has which nodules: a hospital's patients and their nodules before anything is drawn."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from scipy.special import ndtr, ndtri

from fedward.imaging.phantom.real_shape import RealShape
from fedward.randomness import Seeded
from fedward.settings.phantom import Nodules, PhantomHospital

Density = Literal["solid", "part_solid", "ground_glass"]
Margin = Literal["smooth", "lobulated", "spiculated"]
Place = Literal["juxta_vascular", "juxta_pleural", "isolated"]
K = TypeVar("K", bound="str | int")

#: Equivalent diameters that are drawn, mm: the long axis then stays between 6 and 20 mm.
SMALLEST_MM, LARGEST_MM = 6.4, 18.0

#: Share of the patients with nodules who have 1, 2, ... of them.
COUNTS: Mapping[int, float] = {1: 0.1, 2: 0.2, 3: 0.3, 4: 0.22, 5: 0.18}


@dataclass(frozen=True)
class NodulePlan:
    """One nodule: its volume-equivalent diameter and what it is like.

    A real nodule has its own ``shape``, which takes the place of ``margin``, and readers who said whether it is
    malignant.
    """

    diameter_mm: float
    density: Density
    margin: Margin
    place: Place
    lower: bool
    shape: RealShape | None = None
    is_malignant: bool | None = None


@dataclass(frozen=True)
class PatientPlan:
    """One patient: a fictitious id, what the header says, and the nodules."""

    patient_id: str
    sex: Literal["F", "M"]
    age: int
    has_localizer: bool
    has_report: bool
    nodules: tuple[NodulePlan, ...]


def plan_patients(profile: PhantomHospital, *, name: str, randomness: Seeded) -> tuple[PatientPlan, ...]:
    """Plan a hospital's patients; every share of the profile is kept exactly, rounded up over the whole hospital."""
    rng = randomness.generator("plan", name)
    total = profile.patients
    without = round(profile.share_without_nodule * total)
    counts = [0] * without + allot(COUNTS, total - without, rng)
    rng.shuffle(counts)
    nodules = iter(_plan_nodules(profile.nodules, sum(counts), rng))
    localizer = allot({True: profile.share_with_localizer, False: 1.0}, total, rng)
    report = allot({True: profile.share_with_report, False: 1.0}, total, rng)
    return tuple(
        PatientPlan(
            patient_id=f"{name.upper()}-{number + 1:04d}",
            sex="F" if rng.random() < 0.5 else "M",
            age=int(rng.integers(45, 80)),
            has_localizer=localizer[number],
            has_report=report[number],
            nodules=tuple(next(nodules) for _ in range(count)),
        )
        for number, count in enumerate(counts)
    )


def allot(shares: Mapping[K, float], total: int, rng: np.random.Generator) -> list[K]:
    """Deal ``total`` values in random order; the running sums of the shares are kept, rounded up.

    Example:
        >>> sorted(allot({"a": 0.25, "b": 1.0}, 10, np.random.default_rng(0)))
        ['a', 'a', 'a', 'b', 'b', 'b', 'b', 'b', 'b', 'b']
    """
    dealt: list[K] = []
    running = 0.0
    for value, share in shares.items():
        running += share
        due = min(total, math.ceil(running * total - 1e-9))
        dealt += [value] * (due - len(dealt))
    order = rng.permutation(len(dealt))
    return [dealt[index] for index in order]


def _plan_nodules(profile: Nodules, total: int, rng: np.random.Generator) -> list[NodulePlan]:
    shares: dict[Density, float] = {"ground_glass": profile.ground_glass_share, "part_solid": profile.part_solid_share}
    densities = allot({**shares, "solid": 1.0}, total, rng)
    places = deal_places(profile, densities, rng)
    borders: dict[Margin, float] = {"lobulated": profile.lobulated_share, "spiculated": profile.spiculated_share}
    margins = allot({**borders, "smooth": 1.0}, total, rng)
    lower = allot({True: profile.lower_share, False: 1.0}, total, rng)
    rows = zip(_diameters(profile, total, rng), densities, margins, places, lower, strict=True)
    return [
        NodulePlan(diameter_mm=diameter, density=density, margin=margin, place=place, lower=low)
        for diameter, density, margin, place, low in rows
    ]


def deal_places(profile: Nodules, densities: list[Density], rng: np.random.Generator) -> list[Place]:
    """Deal the places; a subsolid nodule touches a vessel less often than a solid one."""

    def deal(vascular: float, total: int) -> Iterator[Place]:
        shares: dict[Place, float] = {"juxta_vascular": vascular, "juxta_pleural": profile.juxta_pleural_share}
        return iter(allot({**shares, "isolated": 1.0}, total, rng))

    solid = densities.count("solid")
    share = profile.juxta_vascular_share
    hands = {True: deal(share, solid), False: deal(0.7 * share, len(densities) - solid)}
    return [next(hands[density == "solid"]) for density in densities]


def _diameters(profile: Nodules, total: int, rng: np.random.Generator) -> list[float]:
    """Draw one diameter from each of ``total`` equal parts of a log-normal distribution cut at both ends."""
    centre, spread = math.log(profile.diameter_mm), profile.diameter_spread
    low, high = (ndtr((math.log(limit) - centre) / spread) for limit in (SMALLEST_MM, LARGEST_MM))
    quantile = low + (high - low) * (rng.permutation(total) + rng.random(total)) / total
    return [float(value) for value in np.exp(centre + spread * ndtri(quantile))]
