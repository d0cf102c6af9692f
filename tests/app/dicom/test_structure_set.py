"""RTSTRUCT contours onto their image: inside and outside, holes, and every contour that must be refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Outline
from pydicom.uid import generate_uid

from dicom_labels import Ring, drawn, refusal, square, write_contours
from dicom_series import AXIAL, CORONAL, SAGITTAL, Directions, Place, write_series
from fedward.dicom.labels import read_object
from fedward.dicom.matching import orphans
from fedward.dicom.objects import LabelObject
from fedward.dicom.parse import parse_file
from fedward.dicom.reader import scan
from fedward.dicom.structure_set import fill_even_odd
from fedward.dicom.volume import Volume
from fedward.errors import LabelRefused
from support import shared_data

SIZE = (12, 14)


@pytest.mark.parametrize("directions", [AXIAL, CORONAL, SAGITTAL], ids=["axial", "coronal", "sagittal"])
def test_a_square_covers_the_voxels_whose_centres_it_holds(tmp_path: Path, directions: Directions) -> None:
    series = write_series(tmp_path, size=SIZE, place=Place(directions=directions))
    write_contours(
        tmp_path / "rs.dcm", series, {"GTV": [square(2, 2.5, 7.5), [(3, 1.6, 3.9), (3, 4.4, 3.9), (3, 4.4, 9.5)]]}
    )
    mask = drawn(tmp_path)
    assert mask[2, 3:8, 3:8].all()
    assert mask[2].sum() == 25
    assert [np.flatnonzero(row).tolist() for row in mask[3, 2:5]] == [[4], [4, 5, 6], [4, 5, 6, 7, 8]]
    assert mask[3].sum() == 9
    assert mask[[0, 1, 4]].sum() == 0


def test_an_inner_contour_cuts_a_hole_and_an_island_in_it_stands(tmp_path: Path) -> None:
    series = write_series(tmp_path, size=SIZE)
    rings = [square(1, 0.5, 10.5), square(1, 2.5, 8.5), square(1, 4.5, 6.5)]
    write_contours(tmp_path / "rs.dcm", series, {"GTV": rings})
    mask = drawn(tmp_path)[1]
    assert mask.sum() == 100 - 36 + 4
    assert (mask[5, 1], mask[5, 3], mask[5, 5]) == (1, 0, 1)


def test_a_hole_through_a_keyhole_is_a_hole(tmp_path: Path) -> None:
    """One ring that walks in, around the hole and back out: how systems without inner contours write one."""
    series = write_series(tmp_path, size=SIZE)
    outer, inner = list(square(1, 0.5, 10.5)), list(square(1, 3.5, 7.5))
    write_contours(tmp_path / "rs.dcm", series, {"GTV": [[*outer, outer[0], inner[0], *inner[::-1]]]})
    assert drawn(tmp_path)[1].sum() == 100 - 16


def test_regions_keep_apart_and_may_not_share_voxels(tmp_path: Path) -> None:
    series = write_series(tmp_path, size=SIZE)
    write_contours(tmp_path / "rs.dcm", series, {"a": [square(1, 0.5, 4.5)], "b": [square(1, 6.5, 9.5)], "none": []})
    mask = drawn(tmp_path)
    assert np.unique(mask, return_counts=True)[1].tolist()[1:] == [16, 9]
    write_contours(tmp_path / "rs.dcm", series, {"a": [square(1, 0.5, 4.5)], "b": [square(1, 3.5, 9.5)]})
    refusal(tmp_path, "overlapping_classes")


@pytest.mark.parametrize(
    ("ring", "code"),
    [
        ([(1.0, 2, 2), (1.4, 2, 8), (1.4, 8, 8)], "oblique_contour"),
        ([(0, 2, 2), (3, 2, 8), (4, 8, 8)], "oblique_contour"),
        (square(1.5, 2, 6), "wrong_geometry"),
        (square(7, 2, 6), "wrong_geometry"),
        (square(-2, 2, 6), "wrong_geometry"),
        (square(1, 2, 20), "wrong_geometry"),
        (square(1, -4, 6), "wrong_geometry"),
    ],
    ids=["slanted", "across slices", "between slices", "above", "below", "outside", "outside on the other side"],
)
def test_a_contour_that_is_not_in_one_slice_of_the_image_is_refused(tmp_path: Path, ring: Ring, code: str) -> None:
    series = write_series(tmp_path, size=SIZE)
    write_contours(tmp_path / "rs.dcm", series, {"GTV": [ring]}, name_images=False)
    assert "rs.dcm" in refusal(tmp_path, code)


@pytest.mark.parametrize("kind", ["OPEN_PLANAR", "OPEN_NONPLANAR", "POINT", ""])
def test_a_contour_that_encloses_nothing_is_refused(tmp_path: Path, kind: str) -> None:
    series = write_series(tmp_path, size=SIZE)
    write_contours(tmp_path / "rs.dcm", series, {"GTV": [square(1, 2, 6)]}, kind=kind)
    refusal(tmp_path, "open_contour")


def test_a_contour_on_another_slice_than_the_one_it_names_is_refused(tmp_path: Path) -> None:
    series = write_series(tmp_path, size=SIZE)
    dataset = write_contours(tmp_path / "rs.dcm", series, {"GTV": [square(1, 2, 6)]})
    image = dataset.ROIContourSequence[0].ContourSequence[0].ContourImageSequence[0]
    image.ReferencedSOPInstanceUID = series.datasets[3].SOPInstanceUID
    dataset.save_as(tmp_path / "rs.dcm")
    refusal(tmp_path, "wrong_geometry")


def test_contours_on_slices_that_are_not_here_are_refused(tmp_path: Path) -> None:
    series = write_series(tmp_path, size=SIZE)
    dataset = write_contours(tmp_path / "rs.dcm", series, {"GTV": [square(1, 2, 6), square(2, 2, 6)]})
    image = dataset.ROIContourSequence[0].ContourSequence[0].ContourImageSequence[0]
    image.ReferencedSOPInstanceUID = generate_uid()
    dataset.save_as(tmp_path / "rs.dcm")
    assert "1 of 2" in refusal(tmp_path, "unknown_reference")


def test_without_named_images_the_frame_of_reference_must_agree(tmp_path: Path) -> None:
    series = write_series(tmp_path, size=SIZE)
    path = tmp_path / "rs.dcm"
    write_contours(path, series, {"GTV": [square(1, 2.5, 6.5)]}, name_images=False)
    assert drawn(tmp_path).sum() == 16
    write_contours(path, series, {"GTV": [square(1, 2.5, 6.5)]}, name_images=False, frame_of_reference=generate_uid())
    refusal(tmp_path, "unknown_reference")
    write_contours(path, series, {"GTV": [square(1, 2.5, 6.5)]}, frame_of_reference=generate_uid())
    assert drawn(tmp_path).sum() == 16


def test_contours_that_name_nothing_belong_to_the_one_series_of_their_frame_of_reference(tmp_path: Path) -> None:
    series = write_series(tmp_path / "ct", size=SIZE)
    write_contours(tmp_path / "rs.dcm", series, {"GTV": [square(1, 2.5, 6.5)]}, name_images=False, name_series=False)
    assert drawn(tmp_path).sum() == 16
    write_series(tmp_path / "pt", modality="PT", study=series.datasets[0])
    (verdict,) = orphans(scan(tmp_path))
    assert verdict.code == "unknown_reference"


def test_damaged_contours_are_refused(tmp_path: Path) -> None:
    series = write_series(tmp_path, size=SIZE)
    dataset = write_contours(tmp_path / "rs.dcm", series, {"GTV": [square(1, 2, 6)]})
    dataset.ROIContourSequence[0].ContourSequence[0].ContourData = [1.0, 2.0, 3.0, 4.0]
    dataset.save_as(tmp_path / "rs.dcm")
    refusal(tmp_path, "unreadable_label")


# Off the voxels' centres by shares that no sum of edges brings back: a centre on an outline is on either side.
rows = st.floats(-0.5, 11.5).map(lambda value: round(value, 3) + 0.00029135)
columns = st.floats(-0.5, 11.5).map(lambda value: round(value, 3) + 0.00037123)


@given(ring=st.lists(st.tuples(rows, columns), min_size=3, max_size=12))
@settings(max_examples=150, deadline=None)
def test_filling_agrees_with_winding_parity_counted_by_another_route(ring: list[tuple[float, float]]) -> None:
    """A second route: a ray the other way, edge by edge, from every voxel centre."""
    vertices = np.array(ring)
    expected = np.zeros((12, 12), dtype=bool)
    for row in range(12):
        for column in range(12):
            crossings = 0
            for (row_a, column_a), (row_b, column_b) in zip(vertices, np.roll(vertices, -1, axis=0), strict=True):
                if (row_a > row) != (row_b > row):
                    crossings += column_a + (row - row_a) / (row_b - row_a) * (column_b - column_a) > column
            expected[row, column] = crossings % 2 == 1
    np.testing.assert_array_equal(fill_even_odd(vertices, (12, 12)), expected)


@given(sides=st.integers(3, 40), radius=st.floats(1.0, 9.0), turn=st.floats(0, 6.0))
@settings(max_examples=50, deadline=None)
def test_filling_a_convex_outline_agrees_with_matplotlib(sides: int, radius: float, turn: float) -> None:
    angles = turn + np.arange(sides) * 2 * np.pi / sides
    outline = np.stack([10.03 + radius * np.sin(angles), 10.07 + radius * np.cos(angles)], axis=1)
    centres = np.stack(np.meshgrid(np.arange(20), np.arange(20), indexing="ij"), axis=-1).reshape(-1, 2)
    inside = Outline(outline).contains_points(centres).reshape(20, 20)
    clear = ~Outline(outline).contains_points(centres, radius=1e-6).reshape(20, 20) == ~inside
    np.testing.assert_array_equal(fill_even_odd(outline, (20, 20))[clear], inside[clear])


def test_outlines_that_share_an_edge_share_no_voxel_and_leave_none_out() -> None:
    left = fill_even_odd(np.array([[0, 0], [0, 5], [8, 5], [8, 0]], dtype=float), (10, 10))
    right = fill_even_odd(np.array([[0, 5], [0, 9], [8, 9], [8, 5]], dtype=float), (10, 10))
    assert not (left & right).any()
    assert (left | right)[:8, :9].all()


def rtutils(name: str) -> tuple[Path, LabelObject, Volume]:
    """Give one of rt-utils' structure sets with its two-slice image, too short for the reader, as a volume."""
    folder = shared_data("rtstruct_rtutils") / "mock_data"
    label = parse_file(folder / name, folder)
    assert isinstance(label, LabelObject)
    slices = sorted(
        (pydicom.dcmread(folder / f"ct_{n}.dcm") for n in (1, 2)), key=lambda one: one.ImagePositionPatient[2]
    )
    affine = np.diag([5.0, 0.488281, 0.488281, 1.0])[:, [0, 1, 2, 3]]
    affine[:3, :3] = affine[:3, :3][::-1]
    affine[:3, 3] = slices[0].ImagePositionPatient
    volume = Volume(
        np.zeros((2, 512, 512), dtype=np.float32),
        affine,
        modality="CT",
        patient_key="",
        study_instance_uid=slices[0].StudyInstanceUID,
        series_instance_uid=slices[0].SeriesInstanceUID,
        frame_of_reference_uid=slices[0].FrameOfReferenceUID,
        sop_instance_uids=tuple(one.SOPInstanceUID for one in slices),
    )
    return folder, label, volume


def test_a_valid_set_of_rt_utils_is_drawn_with_its_hole() -> None:
    folder, label, volume = rtutils("rt.dcm")
    array = np.zeros(volume.array.shape, dtype=np.uint8)
    read_object(folder, label, volume, {1: 1}, onto=array)
    area = 0.488281**2 * array.sum()
    assert array.sum(axis=(1, 2)).tolist().count(0) == 1
    assert area == pytest.approx(24 * 24 - 14 * 14, rel=0.1)


@pytest.mark.parametrize("name", ["invalid_reference_rt.dcm", "non_existent_reference_rt.dcm"])
def test_a_set_of_rt_utils_whose_images_are_not_here_is_refused(name: str) -> None:
    folder, label, volume = rtutils(name)
    array = np.zeros(volume.array.shape, dtype=np.uint8)
    with pytest.raises(LabelRefused, match="unknown_reference"):
        read_object(folder, label, volume, {number: number for number, _ in label.segments}, onto=array)


def test_a_set_that_lies_there_twice_counts_once(tmp_path: Path) -> None:
    series = write_series(tmp_path, size=SIZE)
    write_contours(tmp_path / "rs.dcm", series, {"GTV": [square(1, 2.5, 6.5)]})
    shutil.copy(tmp_path / "rs.dcm", tmp_path / "copy.dcm")
    assert drawn(tmp_path).sum() == 16
