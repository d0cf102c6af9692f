"""A phantom hospital's split: few patients, and still some of them in every part."""

from __future__ import annotations

import tomllib
from collections import Counter

import pytest

from fedward.imaging.phantom.plan import plan_patients
from fedward.imaging.phantom.split import phantom_split_key
from fedward.imaging.splits import assign
from fedward.randomness import Seeded
from fedward.settings.phantom import PhantomHospital
from fedward.settings.site import Split
from support import ROOT

FEDERATION = tomllib.loads((ROOT / "poc" / "federation.toml").read_text(encoding="utf-8"))
PROFILES = {entry["name"]: PhantomHospital.model_validate(entry["phantom"]) for entry in FEDERATION["hospital"]}
SPLIT = Split(validation=0.15, test=0.4)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", PROFILES)
def test_every_part_gets_its_share_of_the_patients(name: str, seed: int) -> None:
    profile = PROFILES[name]
    key = phantom_split_key(profile, SPLIT, name=name, randomness=Seeded(seed))
    plans = plan_patients(profile, name=name, randomness=Seeded(Seeded(seed).seed_of("phantom", name)))
    parts = Counter(assign(f"|{plan.patient_id}", key=key, split=SPLIT) for plan in plans)
    assert parts["test"] == round(0.4 * len(plans))
    assert parts["validation"] == round(0.15 * len(plans))


def test_the_same_seed_gives_the_same_key_and_another_seed_another() -> None:
    keys = [phantom_split_key(PROFILES["north"], SPLIT, name="north", randomness=Seeded(seed)) for seed in (1, 1, 2)]
    assert keys[0] == keys[1] != keys[2]
