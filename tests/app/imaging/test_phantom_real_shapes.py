"""The phantom draws real nodules as their readers outlined and rated them, each real patient in one place alone."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest

from fedward.errors import SettingsError, SourceError
from fedward.imaging.phantom.grid import Grid
from fedward.imaging.phantom.hospital import write_patient
from fedward.imaging.phantom.lidc import PIXEL_MM, RealNodule, read_real_nodules
from fedward.imaging.phantom.patient import draw_patient
from fedward.imaging.phantom.plan import plan_patients
from fedward.imaging.phantom.real_plan import plan_hospital
from fedward.imaging.phantom.real_shape import RealShape
from fedward.randomness import Seeded
from fedward.settings.phantom import PhantomHospital
from lidc_folder import SLICE_MM, Mark, Scan, write_lidc
from support import shared_data

VOXEL_MM3 = SLICE_MM * PIXEL_MM**2


def profile(maker: str = "GE MEDICAL SYSTEMS", patients: int = 3, without: float = 0.0) -> PhantomHospital:
    return PhantomHospital.model_validate(
        {
            "patients": patients,
            "share_without_nodule": without,
            "scanner": {"maker": maker, "model": "one"},
            "protocol": {
                "matrix": 112, "pixel_spacing_mm": 2.9, "slice_thickness_mm": 4.0, "slice_increment_mm": 3.0,
                "slices": 32, "kernel": "B30f", "sharpness": 0.4, "resolution_mm": 2.0, "noise_hu": 12.0, "kvp": 120,
                "tube_current_ma": 150,
            },
        }
    )  # fmt: skip


def two_readers(**changes: object) -> list[Mark]:
    return [Mark(reader=reader, **changes) for reader in (0, 1)]  # type: ignore[arg-type]


def read(tmp_path: Path, *scans: Scan) -> tuple[RealNodule, ...]:
    return read_real_nodules(write_lidc(tmp_path / "lidc", scans))


def test_a_nodule_has_the_volume_inside_its_contours_without_the_contours_themselves(tmp_path: Path) -> None:
    (plain,) = read(tmp_path, Scan("p1", "GE", two_readers()))
    assert np.pi / 6 * plain.shape.diameter_mm**3 == pytest.approx(Mark(0).voxels * VOXEL_MM3)
    (hollow,) = read(tmp_path / "hollow", Scan("p1", "GE", two_readers(hole_px=2)))
    assert np.pi / 6 * hollow.shape.diameter_mm**3 == pytest.approx(Mark(0, hole_px=2).voxels * VOXEL_MM3)


def test_readers_of_one_nodule_are_put_together_and_the_median_outline_is_taken(tmp_path: Path) -> None:
    first = [
        Mark(reader=0, radius_px=6, malignancy=4, texture=5),
        Mark(reader=1, radius_px=7, column=122, malignancy=5, texture=4),
        Mark(reader=2, radius_px=8, slice=11, malignancy=3, texture=3),
    ]
    other = two_readers(row=180, malignancy=1)
    found = read(tmp_path, Scan("p1", "GE", [*first, *other]))
    benign, malignant = sorted(found, key=lambda nodule: nodule.malignancy)
    assert (benign.malignancy, benign.is_malignant, benign.texture) == (1, False, 5)
    assert (malignant.malignancy, malignant.is_malignant, malignant.texture) == (4, True, 4)
    assert np.pi / 6 * malignant.shape.diameter_mm**3 == pytest.approx(first[1].voxels * VOXEL_MM3)


@pytest.mark.parametrize(
    "marks",
    [
        [Mark(reader=0)],
        two_readers(malignancy=3),
        [Mark(reader=0, malignancy=2), Mark(reader=1, malignancy=4)],
        two_readers(slices=2),
        two_readers(radius_px=2, slices=3),
        two_readers(radius_px=30),
    ],
    ids=["one reader", "indeterminate", "no agreement", "two slices", "too small", "too large"],
)
def test_what_says_too_little_is_left_out(tmp_path: Path, marks: list[Mark]) -> None:
    assert read(tmp_path, Scan("p1", "GE", marks)) == ()


def test_a_patient_whom_two_makers_scanned_belongs_to_no_hospital_and_a_second_scan_counts_not(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        Scan("p1", "GE", two_readers(), name="a"),
        Scan("p1", "SIEMENS", two_readers(), name="b"),
        Scan("p2", "GE", two_readers(), name="c"),
        Scan("p2", "GE", two_readers(), name="d"),
    )
    assert [(nodule.patient, nodule.maker) for nodule in found] == [("p2", "GE")]


@pytest.mark.parametrize("name", ["scans.csv", "readings.csv", "lidc_xml.tar.xz"])
def test_a_folder_that_is_something_else_is_refused(tmp_path: Path, name: str) -> None:
    folder = write_lidc(tmp_path, [Scan("p1", "GE", two_readers())])
    (folder / name).write_text("something else\n1\n")
    with pytest.raises(SourceError, match="unreadable_source"):
        read_real_nodules(folder)
    (folder / name).unlink()
    with pytest.raises(SourceError, match="missing_source") as refused:
        read_real_nodules(folder)
    assert name in refused.value.detail


def test_a_shape_keeps_its_form_on_a_finer_grid_and_at_another_size() -> None:
    block = np.zeros((5, 16, 10), dtype=bool)
    block[1:4, 2:14, 2:8] = True
    shape = RealShape.of(block, (SLICE_MM, PIXEL_MM, PIXEL_MM))
    grid = Grid((60, 60, 60), (0.5, 0.5, 0.5))
    for scale in (1.0, 1.4):
        _, share = shape.voxelise(grid, np.zeros(3), scale * shape.diameter_mm / 2)
        extents = np.array([np.ptp(index) + 1 for index in np.nonzero(share >= 0.5)]) * 0.5
        np.testing.assert_allclose(extents, np.array([3 * SLICE_MM, 12 * PIXEL_MM, 6 * PIXEL_MM]) * scale, atol=2.2)
        assert share.sum() * 0.5**3 == pytest.approx(block.sum() * VOXEL_MM3 * scale**3, rel=0.3)


@pytest.fixture(scope="module")
def nodules(tmp_path_factory: pytest.TempPathFactory) -> tuple[RealNodule, ...]:
    scans = [
        Scan(
            f"{maker}-{number}",
            maker,
            [*two_readers(malignancy=1 + 4 * (number % 2), radius_px=6 + number % 3), *two_readers(row=180, texture=1)],
        )
        for maker in ("GE MEDICAL SYSTEMS", "SIEMENS")
        for number in range(6)
    ]
    return read_real_nodules(write_lidc(tmp_path_factory.mktemp("lidc"), scans))


def test_a_hospital_has_its_own_makers_patients_each_once(nodules: tuple[RealNodule, ...]) -> None:
    patient_of = {id(nodule.shape): (nodule.patient, nodule.maker, nodule.is_malignant) for nodule in nodules}
    seen: list[str] = []
    for maker in ("GE MEDICAL SYSTEMS", "Siemens"):
        plans = plan_hospital(profile(maker, 7, 0.2), name="x", randomness=Seeded(1), nodules=nodules)
        assert sorted(len(plan.nodules) for plan in plans) == [0, 2, 2, 2, 2, 2, 2]
        for plan in plans:
            real = {patient_of[id(nodule.shape)][:2] for nodule in plan.nodules}
            assert len(real) <= 1
            assert all(one.casefold() == maker.casefold() for _, one in real)
            seen += [patient for patient, _ in real]
            for nodule in plan.nodules:
                assert nodule.is_malignant is patient_of[id(nodule.shape)][2]
                assert nodule.diameter_mm == nodule.shape.diameter_mm  # type: ignore[union-attr]
        assert {nodule.density for nodule in chain(*(plan.nodules for plan in plans))} == {"solid", "ground_glass"}
    assert len(seen) == len(set(seen)) == 12


def test_more_patients_than_the_maker_scanned_are_refused(nodules: tuple[RealNodule, ...]) -> None:
    with pytest.raises(SettingsError, match="invalid_settings") as refused:
        plan_hospital(profile("SIEMENS", 7), name="x", randomness=Seeded(1), nodules=nodules)
    assert "7 patients with nodules on SIEMENS, the real shapes have 6" in refused.value.detail


def test_without_real_nodules_the_plan_is_the_phantoms_own() -> None:
    assert plan_hospital(profile(), name="x", randomness=Seeded(1)) == plan_patients(
        profile(), name="x", randomness=Seeded(1)
    )


def test_benign_and_malignant_nodules_are_drawn_and_have_a_segment_each(
    tmp_path: Path, nodules: tuple[RealNodule, ...]
) -> None:
    plans = plan_hospital(profile(patients=6), name="x", randomness=Seeded(1), nodules=nodules)
    plan = next(plan for plan in plans if {nodule.is_malignant for nodule in plan.nodules} == {False, True})
    patient = draw_patient(plan, profile(), Seeded(1))
    for nodule in patient.nodules:
        assert nodule.diameter_mm == pytest.approx(nodule.plan.diameter_mm, rel=0.15)
    only_benign = replace(plan, patient_id="X-9", nodules=tuple(one for one in plan.nodules if not one.is_malignant))
    for written, grades in ((plan, (False, True)), (only_benign, (False,))):
        write_patient(written, profile(), tmp_path / written.patient_id, Seeded(1), is_graded=True)
        (path,) = [
            one for one in (tmp_path / written.patient_id).rglob("*.dcm") if pydicom.dcmread(one).Modality == "SEG"
        ]
        segmentation = highdicom.seg.segread(path)
        labels = [one.SegmentLabel for one in segmentation.SegmentSequence]
        assert labels == ["Nodule benign", "Nodule malignant"]
        stored = segmentation.pixel_array.astype(bool)
        drawn = draw_patient(written, profile(), Seeded(1))
        expected = sum(int(nodule.mask.sum()) for nodule in drawn.nodules)
        assert stored.sum() == expected > 0
        assert {nodule.plan.is_malignant for nodule in drawn.nodules} == set(grades)


def test_the_real_collection_gives_hundreds_of_nodules_of_four_makers() -> None:
    found = read_real_nodules(shared_data("lidc_idri_annotations"))
    makers = {nodule.maker for nodule in found}
    assert makers == {"GE MEDICAL SYSTEMS", "SIEMENS", "Philips", "TOSHIBA"}
    patients = {maker: {nodule.patient for nodule in found if nodule.maker == maker} for maker in makers}
    assert sum(map(len, patients.values())) == len(set.union(*patients.values()))
    assert all(len(of_one) >= 20 for of_one in patients.values())
    assert {nodule.is_malignant for nodule in found} == {False, True}
