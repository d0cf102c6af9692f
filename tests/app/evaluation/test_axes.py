from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fedward.evaluation.axes import axes_in_slice, in_plane_metric, longest_axes

MASKS = arrays.arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))).filter(np.any)


def affine(slice_mm: float = 1.0, row_mm: float = 1.0, column_mm: float = 1.0) -> np.ndarray:
    """An axial grid: columns run to the patient's left, rows to the back, slices to the head."""
    result = np.zeros((4, 4))
    result[2, 0], result[1, 1], result[0, 2], result[3, 3] = slice_mm, row_mm, column_mm, 1
    return result


def test_a_row_of_voxels_is_as_long_as_its_spacings() -> None:
    mask = np.zeros((5, 9), bool)
    mask[2, 1:8] = True
    axes = axes_in_slice(mask, in_plane_metric(affine(row_mm=0.5, column_mm=0.75)))
    assert axes.long_mm == pytest.approx(7 * 0.75)
    assert axes.short_mm == pytest.approx(0.5)
    assert sorted(axes.long_ends) == [pytest.approx((2.0, 0.5)), pytest.approx((2.0, 7.5))]


def test_one_voxel_is_one_spacing_wide_not_a_point() -> None:
    axes = axes_in_slice(np.ones((1, 1), bool), in_plane_metric(affine(row_mm=0.7, column_mm=0.7)))
    assert (axes.long_mm, axes.short_mm) == (pytest.approx(0.7), pytest.approx(0.7))


@pytest.mark.parametrize("angle", [0.0, 0.4, 1.1, 2.0])
def test_an_ellipse_has_its_two_diameters_however_it_lies(angle: float) -> None:
    rows, columns = np.mgrid[-40:41, -40:41] * 0.5
    along, across = columns * np.cos(angle) + rows * np.sin(angle), rows * np.cos(angle) - columns * np.sin(angle)
    mask = (along / 15) ** 2 + (across / 8) ** 2 <= 1
    axes = axes_in_slice(mask, in_plane_metric(affine(row_mm=0.5, column_mm=0.5)))
    assert axes.long_mm == pytest.approx(30, abs=0.5)
    assert axes.short_mm == pytest.approx(16, abs=0.5)


@settings(max_examples=80, deadline=None)
@given(MASKS, st.floats(0.3, 3), st.floats(0.3, 3))
def test_the_long_axis_is_the_farthest_pair_of_outline(mask: np.ndarray, row_mm: float, column_mm: float) -> None:
    axes = axes_in_slice(mask, in_plane_metric(affine(row_mm=row_mm, column_mm=column_mm)))
    middles = [(r + dr, c + dc) for r, c in np.argwhere(mask) for dr, dc in ((0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5))]
    points = np.array(middles) * [row_mm, column_mm]
    assert axes.long_mm == pytest.approx(np.linalg.norm(points[:, None] - points[None], axis=2).max())
    assert axes.short_mm <= axes.long_mm + 1e-9


@settings(max_examples=80, deadline=None)
@given(MASKS)
def test_the_ends_are_as_far_apart_as_the_axes_and_cross_at_a_right_angle(mask: np.ndarray) -> None:
    spacing = np.array([0.7, 1.3])
    axes = axes_in_slice(mask, in_plane_metric(affine(row_mm=0.7, column_mm=1.3)))
    long_line = np.subtract(*axes.long_ends) * spacing
    short_line = np.subtract(*axes.short_ends) * spacing
    assert np.linalg.norm(long_line) == pytest.approx(axes.long_mm)
    assert np.linalg.norm(short_line) == pytest.approx(axes.short_mm)
    assert long_line @ short_line == pytest.approx(0, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(MASKS)
def test_turning_the_slice_turns_only_the_ends(mask: np.ndarray) -> None:
    metric = in_plane_metric(affine())
    straight, turned = axes_in_slice(mask, metric), axes_in_slice(np.ascontiguousarray(np.rot90(mask)), metric)
    assert straight.long_mm == pytest.approx(turned.long_mm)


def test_an_oblique_plane_is_measured_in_its_own_millimetres() -> None:
    direction = np.array([[0.0, 0.6, 0.8], [0.0, 0.8, -0.6], [1.0, 0.0, 0.0]])
    tilted = np.eye(4)
    tilted[:3, :3] = direction @ np.diag([3.0, 0.5, 2.0])
    mask = np.zeros((4, 6), bool)
    mask[1, :] = True
    assert axes_in_slice(mask, in_plane_metric(tilted)).long_mm == pytest.approx(12.0)


def test_the_slice_with_the_longest_axis_is_chosen() -> None:
    mask = np.zeros((4, 8, 8), bool)
    mask[1, 2:4, 2:4] = mask[2, 2, 1:7] = mask[3, 2:4, 2:5] = True
    index, axes = longest_axes(mask, affine(slice_mm=5.0))
    assert index == 2
    assert axes.long_mm == pytest.approx(6.0)


def test_of_equal_long_axes_the_fuller_slice_is_chosen() -> None:
    mask = np.zeros((2, 8, 8), bool)
    mask[0, 2, 1:7] = mask[1, 2, 1:7] = mask[1, 3, 2:5] = True
    assert longest_axes(mask, affine())[0] == 1


def test_nothing_cannot_be_measured() -> None:
    with pytest.raises(ValueError, match="without voxels"):
        axes_in_slice(np.zeros((3, 3), bool), in_plane_metric(affine()))
    with pytest.raises(ValueError, match="without voxels"):
        longest_axes(np.zeros((2, 3, 3), bool), affine())
