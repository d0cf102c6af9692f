from __future__ import annotations

import tomllib

import numpy as np
import pytest
from scipy import ndimage

from fedward.imaging.phantom.grid import Grid
from fedward.imaging.phantom.patient import Patient, draw_patient
from fedward.imaging.phantom.plan import NodulePlan, PatientPlan
from fedward.imaging.phantom.scanner import scan
from fedward.randomness import Seeded
from fedward.settings.phantom import PhantomHospital
from support import ROOT

FEDERATION = tomllib.loads((ROOT / "poc" / "federation.toml").read_text(encoding="utf-8"))
PROFILES = {entry["name"]: PhantomHospital.model_validate(entry["phantom"]) for entry in FEDERATION["hospital"]}
NODULES = (
    NodulePlan(diameter_mm=17.5, density="solid", margin="spiculated", place="juxta_vascular", lower=True),
    NodulePlan(diameter_mm=6.5, density="solid", margin="smooth", place="juxta_pleural", lower=False),
    NodulePlan(diameter_mm=13.0, density="ground_glass", margin="smooth", place="isolated", lower=True),
    NodulePlan(diameter_mm=12.0, density="part_solid", margin="lobulated", place="isolated", lower=False),
)


def plan(patient_id: str = "NORTH-0001", nodules: tuple[NodulePlan, ...] = NODULES) -> PatientPlan:
    return PatientPlan(patient_id, sex="F", age=60, has_localizer=False, has_report=False, nodules=nodules)


@pytest.fixture(scope="module", params=PROFILES)
def patient(request: pytest.FixtureRequest) -> Patient:
    return draw_patient(plan(), PROFILES[request.param], Seeded(3))


def test_every_nodule_is_one_piece_of_6_to_20_mm_inside_a_lung(patient: Patient) -> None:
    labels, count = ndimage.label(patient.truth, structure=np.ones((3, 3, 3)))
    assert count == len(NODULES)
    voxel_mm3 = float(np.prod(patient.grid.spacing_mm))
    for number in range(1, count + 1):
        voxels = np.argwhere(labels == number) * np.array(patient.grid.spacing_mm)
        assert 6 <= (6 * len(voxels) * voxel_mm3 / np.pi) ** (1 / 3) <= 20
        assert np.linalg.norm(voxels[:, None] - voxels, axis=-1).max() <= 20
    assert not (patient.truth & ~patient.lung).any()


def test_nodules_have_the_planned_diameter(patient: Patient) -> None:
    for nodule in patient.nodules:
        assert nodule.diameter_mm == pytest.approx(nodule.plan.diameter_mm, rel=0.12)


def test_each_density_has_its_hounsfield_units(patient: Patient) -> None:
    by_density = {nodule.plan.density: nodule for nodule in patient.nodules if nodule.plan.diameter_mm > 10}

    def mean_hu(density: str) -> float:
        nodule = by_density[density]
        inner = ndimage.distance_transform_edt(nodule.mask, sampling=nodule.spacing_mm)
        return float(patient.image[nodule.box][inner > 0.6 * inner.max()].mean())

    assert -10 <= mean_hu("solid") <= 70
    assert -650 <= mean_hu("ground_glass") <= -330
    assert by_density["part_solid"].core.max() == 1
    assert (by_density["part_solid"].core <= by_density["part_solid"].share).all()


def test_at_least_40_vessels_branch_and_none_is_wider_than_8_mm(patient: Patient) -> None:
    vessels = patient.vessels
    in_lung = patient.lung[patient.grid.index_of((vessels.start + vessels.end) / 2)]
    wide = np.unique(vessels.branch[in_lung & (vessels.end_radius > 1)])
    branching = set(wide) & set(vessels.parent)
    assert len(branching) >= 40
    assert 2 * vessels.start_radius.max() <= 8
    assert 2 * vessels.start_radius.max() > 6


def test_a_branch_is_no_wider_than_its_parent(patient: Patient) -> None:
    vessels = patient.vessels
    first = np.unique(vessels.branch, return_index=True)[1]
    widest = vessels.start_radius[first]
    children = np.flatnonzero(vessels.parent >= 0)
    assert (widest[children] <= widest[vessels.parent[children]] + 1e-9).all()


def test_solid_nodules_touch_what_their_plan_says(patient: Patient) -> None:
    for nodule in patient.nodules:
        reach = nodule.plan.diameter_mm / 2
        gap = float(patient.vessels.distance_mm(nodule.centre[None])[0])
        if nodule.plan.place == "juxta_vascular":
            assert gap < reach
        elif nodule.plan.place == "juxta_pleural":
            around = ndimage.binary_dilation(patient.truth, iterations=2) & ~patient.lung
            near = tuple(slice(max(0, part.start - 2), part.stop + 2) for part in nodule.box)
            assert around[near].any()


def test_lungs_are_air_and_the_body_is_soft_tissue(patient: Patient) -> None:
    lung = ndimage.binary_erosion(patient.lung, iterations=2)
    assert -900 < np.median(patient.image[lung]) < -780
    middle = patient.image[:, patient.grid.shape[1] // 2, patient.grid.shape[2] // 2]
    assert -120 < np.median(middle) < 80
    assert patient.image[:, 0].mean() < -950


def test_the_same_seed_draws_the_same_patient_and_another_draws_another() -> None:
    profile = PROFILES["south"]
    first, again = (draw_patient(plan(nodules=NODULES[:1]), profile, Seeded(5)) for _ in range(2))
    other = draw_patient(plan(nodules=NODULES[:1]), profile, Seeded(6))
    sibling = draw_patient(plan("NORTH-0002", NODULES[:1]), profile, Seeded(5))
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.truth, again.truth)
    for different in (other, sibling):
        assert not np.array_equal(first.truth, different.truth)


def test_noise_has_the_protocols_strength_and_the_kernels_grain() -> None:
    def noise(sharpness: float) -> np.ndarray:
        protocol = PROFILES["south"].protocol.model_copy(update={"sharpness": sharpness, "noise_hu": 20.0})
        grid = Grid((8, 128, 128), (3.0, 1.5, 1.5))
        return scan(np.zeros(grid.shape, np.float32), grid, protocol, np.random.default_rng(0))

    def neighbours(field: np.ndarray) -> float:
        return float(np.corrcoef(field[:, :, 1:].ravel(), field[:, :, :-1].ravel())[0, 1])

    smooth, sharp = noise(0.0), noise(1.0)
    for field in (smooth, sharp):
        assert field[:, 54:74, 54:74].std() == pytest.approx(20 * 1.1, rel=0.12)
    assert neighbours(smooth) > neighbours(sharp) + 0.2
