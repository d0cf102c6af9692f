"""Where a voxel lies in the patient: every orientation, any order of files, and two other readers' opinion."""

from __future__ import annotations

import tempfile
from pathlib import Path

import highdicom
import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_series import AXIAL, CORONAL, SAGITTAL, Directions, Place, Written, write_series
from fedward.dicom.reader import scan
from fedward.dicom.volume import Volume

OBLIQUE = ((0.95416660, -0.20807570, 0.21510610), (0.27858860, 0.88012800, -0.38439970))
FEET_FIRST_PRONE = ((1.0, 0.0, 0.0), (0.0, -1.0, 0.0))
ORIENTATIONS = {
    "axial": AXIAL,
    "sagittal": SAGITTAL,
    "coronal": CORONAL,
    "oblique": OBLIQUE,
    "feet first, prone": FEET_FIRST_PRONE,
}


def read(folder: Path) -> Volume:
    (series,) = scan(folder).series
    assert series.verdict.accepted, series.verdict
    return series.read()


def assert_is(volume: Volume, written: Written, *, places: float = 1e-4) -> None:
    np.testing.assert_array_equal(volume.array, written.stored.astype(np.float32) - 24)
    np.testing.assert_allclose(volume.affine, written.place.affine, atol=places)


@pytest.mark.parametrize("directions", ORIENTATIONS.values(), ids=ORIENTATIONS)
def test_every_orientation_puts_every_voxel_where_the_file_says(tmp_path: Path, directions: Directions) -> None:
    written = write_series(tmp_path, place=Place(directions=directions))
    volume = read(tmp_path)
    assert_is(volume, written)
    assert volume.spacing_mm == pytest.approx((2.5, 0.8, 0.7))


@pytest.mark.parametrize("directions", ORIENTATIONS.values(), ids=ORIENTATIONS)
def test_the_order_of_names_and_of_instance_numbers_does_not_matter(tmp_path: Path, directions: Directions) -> None:
    shuffled = np.random.default_rng(3).permutation(5)

    def renumber(number: int, dataset: object) -> None:
        dataset.InstanceNumber = int(shuffled[-number]) + 1  # type: ignore[attr-defined]

    written = write_series(
        tmp_path, place=Place(directions=directions), name=lambda number: f"{shuffled[number]}", edit=renumber
    )
    volume = read(tmp_path)
    assert_is(volume, written)
    assert volume.files == written.paths


@pytest.mark.parametrize("directions", ORIENTATIONS.values(), ids=ORIENTATIONS)
def test_highdicom_and_simpleitk_see_the_same_volume(tmp_path: Path, directions: Directions) -> None:
    written = write_series(tmp_path, place=Place(directions=directions))
    volume = read(tmp_path)
    theirs = highdicom.get_volume_from_series(written.datasets, apply_presentation_lut=False)
    ours = highdicom.VolumeGeometry(volume.affine, volume.array.shape, coordinate_system="PATIENT")
    np.testing.assert_array_equal(theirs.match_geometry(ours).array, volume.array)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    image = reader.Execute()
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), volume.array)
    for index in [(0, 0, 0), (4, 5, 8), (2, 0, 8)]:
        place = image.TransformIndexToPhysicalPoint(index[::-1])
        np.testing.assert_allclose((volume.affine @ [*index, 1])[:3], place, atol=1e-3)


@given(
    angles=st.tuples(*[st.floats(-np.pi, np.pi)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 8.0)] * 3),
    origin=st.tuples(*[st.floats(-900.0, 900.0)] * 3),
    order=st.permutations(range(4)),
)
@settings(max_examples=25, deadline=None)
def test_any_rotation_spacing_origin_and_order_is_read_back(
    angles: tuple[float, float, float],
    spacing: tuple[float, float, float],
    origin: tuple[float, float, float],
    order: list[int],
) -> None:
    a, b, c = angles
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    about_y = np.array([[np.cos(c), 0, np.sin(c)], [0, 1, 0], [-np.sin(c), 0, np.cos(c)]])
    rotation = np.round(about_z @ about_x @ about_y, 9)
    place = Place(origin, (rotation[:, 0].tolist(), rotation[:, 1].tolist()), spacing)
    with tempfile.TemporaryDirectory() as folder:
        written = write_series(Path(folder), count=4, size=(2, 3), place=place, name=lambda number: f"{order[number]}")
        assert_is(read(Path(folder)), written, places=1e-5)


def test_rows_and_columns_keep_their_own_spacing(tmp_path: Path) -> None:
    write_series(tmp_path, size=(4, 7), place=Place(spacing_mm=(3.0, 6.4, 4.0)))
    volume = read(tmp_path)
    assert volume.array.shape == (5, 4, 7)
    assert volume.spacing_mm == pytest.approx((3.0, 6.4, 4.0))
    np.testing.assert_allclose(volume.affine[:3, 1], [0, 6.4, 0])
    np.testing.assert_allclose(volume.affine[:3, 2], [4.0, 0, 0])


def test_positions_that_are_rounded_in_the_file_are_still_regular(tmp_path: Path) -> None:
    def round_off(number: int, dataset: object) -> None:
        position = dataset.ImagePositionPatient  # type: ignore[attr-defined]
        position[2] = round(float(position[2]) + (0.004 if number % 2 else -0.004), 3)

    write_series(tmp_path, edit=round_off, place=Place(spacing_mm=(0.625, 0.5, 0.5)))
    assert read(tmp_path).spacing_mm[0] == pytest.approx(0.625, abs=0.003)


def test_three_slices_are_the_least_of_a_volume(tmp_path: Path) -> None:
    write_series(tmp_path / "three", count=3)
    assert read(tmp_path / "three").array.shape[0] == 3
    write_series(tmp_path / "two", count=2)
    (series,) = scan(tmp_path / "two").series
    assert series.verdict.code == "not_a_volume"
    assert "2 slices" in series.verdict.sentence
