from __future__ import annotations

import tomllib

import numpy as np
import pytest
from pydantic import ValidationError

from fedward.imaging.phantom.plan import allot, plan_patients
from fedward.randomness import Seeded
from fedward.settings.phantom import PhantomHospital
from support import ROOT

FEDERATION = tomllib.loads((ROOT / "poc" / "federation.toml").read_text(encoding="utf-8"))
PROFILES = {entry["name"]: PhantomHospital.model_validate(entry["phantom"]) for entry in FEDERATION["hospital"]}


@pytest.mark.parametrize("seed", [0, 1, 20_260_101])
@pytest.mark.parametrize("name", PROFILES)
def test_a_hospital_has_the_patients_and_nodules_that_were_fixed(name: str, seed: int) -> None:
    plans = plan_patients(PROFILES[name], name=name, randomness=Seeded(seed))
    nodules = [nodule for plan in plans for nodule in plan.nodules]
    assert 12 <= len(plans) <= 18
    assert 0.15 <= np.mean([not plan.nodules for plan in plans]) <= 0.35
    assert max(len(plan.nodules) for plan in plans) <= 5
    assert 2.5 <= len(nodules) / sum(bool(plan.nodules) for plan in plans) <= 3.5
    assert all(6 <= nodule.diameter_mm <= 20 for nodule in nodules)
    assert np.mean([nodule.density != "solid" for nodule in nodules]) >= 0.2
    assert {nodule.margin for nodule in nodules} == {"smooth", "lobulated", "spiculated"}
    assert {nodule.place for nodule in nodules} == {"juxta_vascular", "juxta_pleural", "isolated"}


def test_the_four_hospitals_differ_in_everything_that_real_ones_differ_in() -> None:
    for read in (
        lambda p: p.scanner.maker,
        lambda p: p.scanner.model,
        lambda p: p.scanner.transfer_syntax,
        lambda p: p.protocol.pixel_spacing_mm,
        lambda p: p.protocol.slice_thickness_mm,
        lambda p: p.protocol.kernel,
        lambda p: p.protocol.noise_hu,
        lambda p: p.protocol.tube_current_ma,
    ):
        assert len({read(profile) for profile in PROFILES.values()}) == 4
    for read in (lambda p: p.scanner.table, lambda p: p.patients, lambda p: p.share_without_nodule):
        assert len({read(profile) for profile in PROFILES.values()}) > 1


def test_allot_keeps_the_running_shares_rounded_up() -> None:
    dealt = allot({"a": 0.1, "b": 0.1, "c": 1.0}, 42, np.random.default_rng(0))
    # 4.2 and 8.4 round up to 5 and 9: no share below what was asked for.
    assert [dealt.count(value) for value in "abc"] == [5, 4, 33]


def test_a_profile_with_too_few_subsolid_nodules_is_refused() -> None:
    nodules = {"ground_glass_share": 0.1, "part_solid_share": 0.05}
    with pytest.raises(ValidationError, match="at least a fifth of the nodules is subsolid"):
        PhantomHospital.model_validate({**PROFILES["north"].model_dump(), "nodules": nodules})


def test_slices_with_gaps_are_refused() -> None:
    protocol = {**PROFILES["north"].protocol.model_dump(), "slice_thickness_mm": 1.0, "slice_increment_mm": 2.0}
    with pytest.raises(ValidationError, match="leave gaps"):
        PhantomHospital.model_validate({**PROFILES["north"].model_dump(), "protocol": protocol})
