"""A split key for a phantom hospital: it has so few patients that a key at random may leave nobody to validate with."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.dataset import Dataset

from fedward.dicom.values import patient_key
from fedward.imaging.phantom.lidc import RealNodule
from fedward.imaging.phantom.plan import PatientPlan
from fedward.imaging.phantom.real_plan import plan_hospital
from fedward.imaging.splits import assign
from fedward.randomness import Seeded
from fedward.settings.phantom import PhantomHospital
from fedward.settings.site import Split

_KEYS_TRIED = 400


def phantom_split_key(
    profile: PhantomHospital, split: Split, *, name: str, randomness: Seeded, nodules: Sequence[RealNodule] = ()
) -> bytes:
    """Give the seed's split key that comes nearest the shares of patients, and of nodules among the tested ones.

    A real hospital's key is its own secret; this one comes from the seed, so that a run can be repeated.

    Args:
        profile: What the hospital is like.
        split: The shares that its site file asks for.
        name: The hospital's name.
        randomness: The phantom's seed, as for :func:`fedward.imaging.phantom.hospital.write_hospital`.
        nodules: Real ones, likewise.
    """
    seeded = Seeded(randomness.seed_of("phantom", name))
    plans = plan_hospital(profile, name=name, randomness=seeded, nodules=nodules)
    keys = [randomness.generator("split", name, number).bytes(32) for number in range(_KEYS_TRIED)]
    return min(keys, key=lambda key: _distance(key, plans, split))


def _distance(key: bytes, plans: tuple[PatientPlan, ...], split: Split) -> tuple[float, float]:
    parts = [assign(_key_of(plan), key=key, split=split) for plan in plans]
    nodules = sum(len(plan.nodules) for plan in plans)
    tested = sum(len(plan.nodules) for plan, part in zip(plans, parts, strict=True) if part == "test")
    patients = abs(parts.count("test") - round(split.test * len(plans)))
    patients += abs(parts.count("validation") - round(split.validation * len(plans)))
    return patients, abs(tested - split.test * nodules)


def _key_of(plan: PatientPlan) -> str:
    dataset = Dataset()
    dataset.PatientID = plan.patient_id
    return patient_key(dataset)
