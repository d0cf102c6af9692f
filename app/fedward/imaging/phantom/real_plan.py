"""Patients of a phantom hospital who have real patients' nodules: a real patient stands behind one phantom alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from fedward.errors import SettingsError
from fedward.imaging.phantom.lidc import RealNodule
from fedward.imaging.phantom.plan import Density, NodulePlan, PatientPlan, allot, deal_places, plan_patients
from fedward.randomness import Seeded
from fedward.settings.phantom import PhantomHospital

#: No patient has more of them; the largest are kept.
_MOST = 5


def plan_hospital(
    profile: PhantomHospital, *, name: str, randomness: Seeded, nodules: Sequence[RealNodule] = ()
) -> tuple[PatientPlan, ...]:
    """Plan a hospital's patients: with real nodules of its scanner's maker where ``nodules`` are given.

    Each phantom patient with nodules has those of one real patient and of no other, so hospitals of different makers
    share no real patient, and no more does a hospital's training with its testing. Sizes, forms, densities and grades
    are the real ones; where a nodule lies is the profile's.

    Raises:
        SettingsError: ``invalid_settings``: the profile asks for more patients than the maker's scanners saw.
    """
    if not nodules:
        return plan_patients(profile, name=name, randomness=randomness)
    rng = randomness.generator("real plan", name)
    dealt = _dealt_patients(profile, nodules, rng)
    flat = [nodule for of_one in dealt for nodule in of_one]
    densities = [_density(nodule) for nodule in flat]
    places = deal_places(profile.nodules, densities, rng)
    lower = allot({True: profile.nodules.lower_share, False: 1.0}, len(flat), rng)
    plans = iter(
        [
            NodulePlan(
                diameter_mm=nodule.shape.diameter_mm,
                density=density,
                margin="smooth",
                place=place,
                lower=low,
                shape=nodule.shape,
                is_malignant=nodule.is_malignant,
            )
            for nodule, density, place, low in zip(flat, densities, places, lower, strict=True)
        ]
    )
    of_patient = [tuple(next(plans) for _ in of_one) for of_one in dealt]
    # Everything but the nodules is as in the phantom without them.
    like = plan_patients(profile, name=name, randomness=randomness)
    return tuple(
        PatientPlan(one.patient_id, one.sex, one.age, one.has_localizer, one.has_report, nodules=found)
        for one, found in zip(like, of_patient, strict=True)
    )


def _dealt_patients(
    profile: PhantomHospital, nodules: Sequence[RealNodule], rng: np.random.Generator
) -> list[list[RealNodule]]:
    """Give each phantom patient's real nodules, nobody's for those without."""
    of_patient: dict[str, list[RealNodule]] = defaultdict(list)
    for nodule in nodules:
        if nodule.maker.casefold() == profile.scanner.maker.casefold():
            of_patient[nodule.patient].append(nodule)
    count = profile.patients - round(profile.share_without_nodule * profile.patients)
    if len(of_patient) < count:
        raise SettingsError(
            "invalid_settings",
            f"the phantom asks for {count} patients with nodules on {profile.scanner.maker}, the real shapes have "
            f"{len(of_patient)}",
        )
    patients = rng.permutation(sorted(of_patient))[:count]
    dealt = [sorted(of_patient[one], key=lambda nodule: -nodule.shape.diameter_mm)[:_MOST] for one in patients]
    dealt += [[] for _ in range(profile.patients - count)]
    return [dealt[index] for index in rng.permutation(len(dealt))]


def _density(nodule: RealNodule) -> Density:
    """Turn the readers' texture (1 ground glass, 3 part-solid, 5 solid) into the phantom's."""
    if nodule.texture < 2:
        return "ground_glass"
    return "part_solid" if nodule.texture < 4 else "solid"
