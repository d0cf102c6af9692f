from __future__ import annotations

import numpy as np
import pytest

from fedward.dicom.volume import Volume
from fedward.inference.lesions import MAXIMUM_LESIONS, Inference, find_lesions, lesion_cores
from fedward.randomness import Secret
from fedward.settings.job import Segmentation

NODULES = Segmentation(kind="segmentation", classes=("nodule",), measure="lesion_dice", minimum_lesion_mm=4.0)
KINDS = Segmentation(kind="segmentation", classes=("solid", "subsolid"), measure="lesion_dice")
ORGANS = Segmentation(kind="segmentation", classes=("anterior", "posterior"), measure="dice")

OBLIQUE = np.array(
    [
        [0.0, 0.36, 0.64, -50.0],
        [0.0, 0.48, -0.48, 20.0],
        [2.5, 0.0, 0.0, -300.0],
        [0.0, 0.0, 0.0, 1.0],
    ]
)


def volume(shape: tuple[int, int, int], affine: np.ndarray, *, dicom: bool = True) -> Volume:
    return Volume(
        array=np.zeros(shape, np.float32),
        affine=np.array(affine, dtype=np.float64),
        modality="CT",
        patient_key="p",
        study_instance_uid="1.2.3",
        series_instance_uid="1.2.3.4",
        sop_instance_uids=tuple(f"1.2.3.4.{k + 1}" for k in range(shape[0])) if dicom else (),
    )


def find(labels: np.ndarray, image: Volume, task: Segmentation = NODULES, probability: float = 0.75) -> Inference:
    return find_lesions(labels, np.full(labels.shape, probability, np.float16), image, task=task, randomness=Secret())


def ball(shape: tuple[int, int, int], image: Volume, centre_mm: np.ndarray, radius_mm: float) -> np.ndarray:
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    place = index @ image.affine[:3, :3].T + image.affine[:3, 3]
    return (np.linalg.norm(place - centre_mm, axis=-1) <= radius_mm).astype(np.uint8)


@pytest.mark.parametrize(
    "affine",
    [
        np.array([[0, 0, 0.7, -100], [0, 0.7, 0, -90], [1.0, 0, 0, -40], [0, 0, 0, 1]], float),
        np.array([[0, 0, 0.7, -100], [0, 0.7, 0, -90], [-1.0, 0, 0, 40], [0, 0, 0, 1]], float),
        np.array([[1.2, 0, 0, 5], [0, 0, 0.8, -90], [0, -0.8, 0, 60], [0, 0, 0, 1]], float),
        OBLIQUE,
    ],
    ids=["axial", "head first", "sagittal", "oblique"],
)
def test_a_ball_is_measured_where_it_lies(affine: np.ndarray) -> None:
    shape = (20, 40, 44)
    image = volume(shape, affine)
    centre = (affine @ [9, 19, 20, 1])[:3]
    lesion = find(ball(shape, image, centre, 7.0), image).findings.lesions[0]
    row_mm, column_mm = image.spacing_mm[1:]
    assert lesion.volume_mm3 == pytest.approx(4 / 3 * np.pi * 7**3, rel=0.08)
    assert lesion.long_axis_mm == pytest.approx(14, abs=max(row_mm, column_mm))
    assert lesion.short_axis_mm == pytest.approx(14, abs=2 * max(row_mm, column_mm))
    assert lesion.mean_diameter_mm == pytest.approx((lesion.long_axis_mm + lesion.short_axis_mm) / 2, abs=0.1)
    assert lesion.centre_mm == pytest.approx(tuple(centre), abs=0.2)
    assert lesion.slice_number == pytest.approx(10, abs=1)
    assert lesion.sop_instance_uid == f"1.2.3.4.{lesion.slice_number}"
    assert (lesion.first_slice + lesion.last_slice) / 2 == pytest.approx(10)


def test_the_axes_ends_lie_in_the_patient_as_far_apart_as_the_axes() -> None:
    image = volume((4, 30, 30), OBLIQUE)
    labels = np.zeros((4, 30, 30), np.uint8)
    labels[2, 5:25, 10:16] = 1
    lesion = find(labels, image).findings.lesions[0]
    for ends, length in (
        (lesion.long_axis_ends_mm, lesion.long_axis_mm),
        (lesion.short_axis_ends_mm, lesion.short_axis_mm),
    ):
        assert np.linalg.norm(np.subtract(*ends)) == pytest.approx(length, abs=0.07)
        for end in ends:
            slice_index = np.linalg.solve(OBLIQUE, [*end, 1])[0]
            assert slice_index == pytest.approx(2, abs=0.02)


def test_lesions_are_numbered_by_size_and_the_map_bears_the_numbers() -> None:
    image = volume((6, 30, 30), np.eye(4))
    labels = np.zeros((6, 30, 30), np.uint8)
    labels[1, 2, 2:8] = 1  # 6 mm
    labels[3, 20, 5:17] = 1  # 12 mm
    labels[5, 28, 20:23] = 1  # 3 mm: too small
    result = find(labels, image)
    assert [lesion.long_axis_mm for lesion in result.findings.lesions] == [12.0, 6.0]
    assert [lesion.number for lesion in result.findings.lesions] == [1, 2]
    expected = np.zeros_like(labels)
    expected[3, 20, 5:17], expected[1, 2, 2:8] = 1, 2
    assert np.array_equal(result.lesion_map, expected)
    assert not result.lesion_map.flags.writeable


def test_every_lesion_gets_its_own_uid_and_no_two_runs_share_one() -> None:
    image = volume((3, 30, 30), np.eye(4))
    labels = np.zeros((3, 30, 30), np.uint8)
    labels[1, 2, 2:8] = labels[1, 10, 2:9] = 1
    uids = [lesion.tracking_uid for _ in range(2) for lesion in find(labels, image).findings.lesions]
    assert len(set(uids)) == 4
    assert all(uid.startswith("2.25.") and len(uid) <= 64 for uid in uids)


def test_the_probability_is_averaged_over_the_lesion_alone() -> None:
    image = volume((2, 20, 20), np.eye(4))
    labels = np.zeros((2, 20, 20), np.uint8)
    labels[0, 4, 4:10] = 1
    probability = np.zeros(labels.shape, np.float16)
    probability[0, 4, 4:10] = [0.5, 0.75, 0.75, 1, 1, 0.5]
    found = find_lesions(labels, probability, image, task=NODULES, randomness=Secret())
    assert found.findings.lesions[0].mean_probability == 0.75


def test_neighbours_of_two_classes_are_two_lesions() -> None:
    image = volume((2, 20, 20), np.eye(4))
    labels = np.zeros((2, 20, 20), np.uint8)
    labels[0, 4, 4:10], labels[0, 5, 4:9] = 1, 2
    assert [lesion.class_name for lesion in find(labels, image, KINDS).findings.lesions] == ["solid", "subsolid"]


def test_a_structure_is_one_finding_even_in_two_pieces() -> None:
    image = volume((2, 20, 20), np.eye(4))
    labels = np.zeros((2, 20, 20), np.uint8)
    labels[0, 4, 4:10] = labels[1, 15, 15] = 1
    found = find(labels, image, ORGANS).findings
    assert found.kind == "structures"
    assert [(lesion.class_name, lesion.volume_mm3) for lesion in found.lesions] == [("anterior", 7)]


def test_nothing_found_is_a_finding() -> None:
    image = volume((2, 20, 20), np.eye(4))
    result = find(np.zeros((2, 20, 20), np.uint8), image)
    assert result.findings.lesions == ()
    assert not result.lesion_map.any()


def test_a_nifti_source_has_no_image_uid() -> None:
    image = volume((1, 20, 20), np.eye(4), dicom=False)
    labels = np.zeros((1, 20, 20), np.uint8)
    labels[0, 4, 4:10] = 1
    assert find(labels, image).findings.lesions[0].sop_instance_uid is None


def test_of_too_many_regions_the_largest_are_listed_and_the_others_counted() -> None:
    image = volume((2, 120, 120), np.eye(4))
    labels = np.zeros((2, 120, 120), np.uint8)
    labels[0, ::8, ::8] = 1
    labels[0, 60, 4:20] = 1
    task = KINDS.model_copy(update={"minimum_lesion_mm": 0.0})
    result = find(labels, image, task)
    assert len(result.findings.lesions) == MAXIMUM_LESIONS
    assert result.findings.left_out > 0
    assert result.findings.lesions[0].long_axis_mm > result.findings.lesions[1].long_axis_mm
    assert result.lesion_map.max() == MAXIMUM_LESIONS


def test_arrays_of_another_grid_are_refused() -> None:
    image = volume((2, 20, 20), np.eye(4))
    with pytest.raises(ValueError, match="volume's grid"):
        find(np.zeros((2, 20, 21), np.uint8), image)


def test_a_crescents_core_is_its_own_voxel_though_its_centre_lies_outside() -> None:
    lesion_map = np.zeros((5, 30, 30), np.uint8)
    rows, columns = np.mgrid[:30, :30]
    radius = np.hypot(rows - 15, columns - 15)
    lesion_map[2][(radius > 8) & (radius < 11) & (columns < 22)] = 2
    lesion_map[0, 0, 0] = 1
    first, second = lesion_cores(lesion_map, OBLIQUE)
    assert first == pytest.approx(OBLIQUE[:3, 3])
    index = np.rint(np.linalg.solve(OBLIQUE, [*second, 1.0])[:3]).astype(int)
    assert lesion_map[tuple(index)] == 2
    middle = np.argwhere(lesion_map == 2).mean(axis=0)
    assert lesion_map[tuple(np.rint(middle).astype(int))] == 0
