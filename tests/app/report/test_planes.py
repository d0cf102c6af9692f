from __future__ import annotations

import numpy as np
import pytest

from fedward.dicom.volume import Volume
from fedward.report.planes import Plane, side_of


def volume(affine: list[list[float]], shape: tuple[int, int, int] = (4, 6, 8)) -> Volume:
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    return Volume(array, np.array(affine, dtype=np.float64), "CT", "p", "1.2", "1.2.3")


AXIAL = [[0, 0, 0.7, -10], [0, 0.8, 0, -20], [2, 0, 0, 30], [0, 0, 0, 1]]
AXIAL_AS_NIFTI = [[0, 0, -0.7, 10], [0, -0.8, 0, 20], [2, 0, 0, 30], [0, 0, 0, 1]]
SAGITTAL = [[2, 0, 0, 0], [0, 0, 0.7, 0], [0, -0.8, 0, 0], [0, 0, 0, 1]]
CORONAL = [[0, 0, 0.7, 0], [2, 0, 0, 0], [0, -0.8, 0, 0], [0, 0, 0, 1]]
CORONAL_UPSIDE_DOWN = [[0, 0, 0.7, 0], [2, 0, 0, 0], [0, 0.8, 0, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize(
    ("affine", "sides"),
    [
        (AXIAL, ("R", "L", "A", "P")),
        (AXIAL_AS_NIFTI, ("R", "L", "A", "P")),
        (SAGITTAL, ("A", "P", "H", "F")),
        (CORONAL, ("R", "L", "H", "F")),
        (CORONAL_UPSIDE_DOWN, ("R", "L", "H", "F")),
    ],
)
def test_every_series_hangs_as_radiologists_hang_it(affine: list[list[float]], sides: tuple[str, ...]) -> None:
    assert Plane.of(volume(affine)).sides == sides


@pytest.mark.parametrize("affine", [AXIAL, AXIAL_AS_NIFTI, SAGITTAL, CORONAL_UPSIDE_DOWN])
def test_a_place_in_the_patient_is_shown_where_its_voxel_is_shown(affine: list[list[float]]) -> None:
    image = volume(affine)
    plane = Plane.of(image)
    x, y, z = (image.affine @ [2, 1, 5, 1])[:3]
    row, column = plane.place((x, y, z))
    assert plane.shown(image.array[2])[round(row), round(column)] == image.array[2, 1, 5]
    assert (row, column) == (pytest.approx(round(row)), pytest.approx(round(column)))


def test_only_what_hangs_wrong_is_turned() -> None:
    image = volume(AXIAL)
    assert np.array_equal(Plane.of(image).shown(image.array[0]), image.array[0])
    turned = volume(AXIAL_AS_NIFTI)
    assert np.array_equal(Plane.of(turned).shown(turned.array[0]), turned.array[0][::-1, ::-1])


@pytest.mark.parametrize(
    ("direction", "name"),
    [((1, 0, 0), "L"), ((0, 0, -2), "F"), ((0, 1, 1), "PH"), ((-0.9, -0.4, 0), "RA"), ((1, 0.3, 0.1), "L")],
)
def test_a_tilted_side_has_two_letters_the_nearer_first(direction: tuple[float, ...], name: str) -> None:
    assert side_of(np.array(direction, float)) == name
