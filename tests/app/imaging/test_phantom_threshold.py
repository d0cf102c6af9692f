"""The phantom's bar: a Hounsfield threshold must not find its nodules."""

from __future__ import annotations

import tomllib

import numpy as np
import pytest
from scipy import ndimage

from fedward.imaging.phantom.patient import Patient, draw_patient
from fedward.imaging.phantom.plan import plan_patients
from fedward.randomness import Seeded
from fedward.settings.phantom import PhantomHospital
from support import ROOT

FEDERATION = tomllib.loads((ROOT / "poc" / "federation.toml").read_text(encoding="utf-8"))
PROFILES = {entry["name"]: PhantomHospital.model_validate(entry["phantom"]) for entry in FEDERATION["hospital"]}
THRESHOLDS_HU = (-700, -600, -550, -500, -400, -300, -200, -100, -50, 0, 50)


def lesion_dice(patient: Patient, threshold_hu: float) -> list[float]:
    """Per true lesion, the Dice with all components above the threshold inside the lungs that touch it."""
    inside = ndimage.find_objects(patient.lung.astype(np.uint8))[0]
    above = (patient.image[inside] > threshold_hu) & patient.lung[inside]
    components = ndimage.label(above, structure=np.ones((3, 3, 3)))[0]
    sizes = np.bincount(components.ravel())
    whole = np.zeros(patient.grid.shape, components.dtype)
    whole[inside] = components
    scores = []
    for nodule in patient.nodules:
        under = whole[nodule.box]
        touching = np.setdiff1d(under[nodule.mask], [0])
        overlap = np.isin(under, touching)[nodule.mask].sum()
        scores.append(float(2 * overlap / (sizes[touching].sum() + nodule.mask.sum())))
    return scores


@pytest.mark.parametrize("name", PROFILES)
def test_the_best_threshold_of_a_hospital_stays_below_a_lesion_dice_of_0_40(name: str) -> None:
    randomness = Seeded(Seeded(1).seed_of("phantom", name))
    scores: list[list[list[float]]] = []
    for plan in plan_patients(PROFILES[name], name=name, randomness=randomness):
        if plan.nodules:
            patient = draw_patient(plan, PROFILES[name], randomness)
            scores.append([lesion_dice(patient, threshold) for threshold in THRESHOLDS_HU])
    means = [np.mean([dice for case in scores for dice in case[index]]) for index in range(len(THRESHOLDS_HU))]
    assert 0.1 < max(means) < 0.40, dict(zip(THRESHOLDS_HU, np.round(means, 3), strict=True))
