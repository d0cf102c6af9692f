from __future__ import annotations

import base64
import re
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from fedward.dicom.volume import Volume
from fedward.inference.lesions import Inference, find_lesions
from fedward.randomness import Secret
from fedward.report.overlay import WIDTH, Crop, outline
from fedward.report.pictures import MAXIMUM_PICTURED, Picture, key_slices
from fedward.report.png import encode_png
from fedward.report.window import DisplayWindow
from fedward.settings.job import Segmentation

WINDOW = DisplayWindow(0, 255, "test")
TASK = Segmentation(kind="segmentation", classes=("nodule",), measure="lesion_dice", minimum_lesion_mm=2.0)


def seen(labels: np.ndarray, *, row_mm: float = 1.0, column_mm: float = 1.0) -> tuple[Inference, Volume]:
    affine = np.diag([0.0, row_mm, 0.0, 1.0])
    affine[2, 0], affine[0, 2] = 2.0, column_mm
    grey = np.random.default_rng(1).integers(0, 256, labels.shape).astype(np.float32)
    volume = Volume(grey, affine, "CT", "p", "1.2", "1.2.3")
    probability = np.ones(labels.shape, np.float16)
    return find_lesions(labels, probability, volume, task=TASK, randomness=Secret()), volume


def decoded(picture: Picture) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(base64.b64decode(picture.png))))


def filled(path: str, shape: tuple[int, int]) -> np.ndarray:
    """Fill an outline again: a voxel is inside when an odd number of upright edges lies to its left."""
    crossings = np.zeros((shape[0], shape[1] + 1), int)
    for x, y, end in re.findall(r"M([\d.]+) ([\d.]+)V([\d.]+)", path):
        unit = WIDTH / shape[1]
        crossings[round(float(y) / unit) : round(float(end) / unit), round(float(x) / unit)] += 1
    return crossings.cumsum(axis=1)[:, :-1] % 2 == 1


@settings(max_examples=50, deadline=None)
@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_a_png_gives_back_every_grey_value(grey: np.ndarray) -> None:
    assert np.array_equal(np.asarray(Image.open(BytesIO(encode_png(grey)))), grey)


@settings(max_examples=80, deadline=None)
@given(arrays.arrays(np.bool_, st.tuples(st.integers(2, 10), st.integers(2, 10))).filter(np.any))
def test_an_outline_encloses_exactly_its_voxels(mask: np.ndarray) -> None:
    crop = Crop(0, 0, *mask.shape, 1.0, 1.0)
    assert np.array_equal(filled(outline(1, mask, crop).path, mask.shape), mask)


def test_the_whole_slice_is_shown_with_every_lesion_in_it() -> None:
    labels = np.zeros((5, 40, 60), np.uint8)
    labels[2, 4:9, 50:57] = labels[2, 30:33, 5:8] = 1
    inference, volume = seen(labels)
    whole = key_slices(inference, volume, WINDOW)[0].whole
    assert np.array_equal(decoded(whole), volume.array[2])
    assert [item.number for item in whole.outlines] == [1, 2]
    assert np.array_equal(filled(whole.outlines[0].path, (40, 60)), inference.lesion_map[2] == 1)


def test_the_close_up_lies_where_the_frame_says() -> None:
    labels = np.zeros((3, 80, 100), np.uint8)
    labels[1, 2:12, 60:66] = 1
    inference, volume = seen(labels)
    shown = key_slices(inference, volume, WINDOW)[0]
    assert shown.whole.frame is not None
    assert shown.close_up is not None
    unit = WIDTH / 100
    top, left = round(shown.whole.frame.y / unit), round(shown.whole.frame.x / unit)
    rows, columns = round(shown.whole.frame.height / unit), round(shown.whole.frame.width / unit)
    assert np.array_equal(decoded(shown.close_up), volume.array[1, top : top + rows, left : left + columns])
    assert labels[1, top : top + rows, left : left + columns].sum() == labels.sum()


def test_unequal_pixels_are_shown_in_their_true_proportion() -> None:
    labels = np.zeros((3, 40, 80), np.uint8)
    labels[1, 10:20, 20:40] = 1
    picture = key_slices(*seen(labels, row_mm=3.0, column_mm=1.0), WINDOW)[0].whole
    assert picture.height == pytest.approx(WIDTH * (40 * 3.0) / 80)
    assert picture.bar == pytest.approx(WIDTH * picture.bar_mm / 80)


def test_the_callipers_are_as_long_as_the_axes() -> None:
    labels = np.zeros((3, 60, 60), np.uint8)
    labels[1, 20:26, 11:31] = 1
    inference, volume = seen(labels, row_mm=0.5, column_mm=0.5)
    shown = key_slices(inference, volume, WINDOW)[0]
    assert shown.close_up is not None
    unit_per_mm = shown.close_up.bar / shown.close_up.bar_mm
    lengths = [np.hypot(c.x2 - c.x1, c.y2 - c.y1) / unit_per_mm for c in shown.close_up.callipers]
    lesion = inference.findings.lesions[0]
    assert lengths == pytest.approx([lesion.long_axis_mm, lesion.short_axis_mm], abs=0.1)


def test_a_lesion_at_the_edge_gets_a_close_up_inside_the_slice() -> None:
    labels = np.zeros((1, 50, 50), np.uint8)
    labels[0, :4, 45:] = 1
    shown = key_slices(*seen(labels), WINDOW)[0]
    assert shown.close_up is not None
    assert decoded(shown.close_up).shape == (30, 30)


def test_nothing_found_shows_three_slices_through_the_series() -> None:
    inference, volume = seen(np.zeros((40, 8, 8), np.uint8))
    shown = key_slices(inference, volume, WINDOW)
    assert [item.slice_number for item in shown] == [10, 20, 30]
    assert all(item.close_up is None and item.whole.outlines == () for item in shown)
    single = key_slices(*seen(np.zeros((1, 8, 8), np.uint8)), WINDOW)
    assert [item.slice_number for item in single] == [1]


def test_of_many_lesions_the_largest_are_shown() -> None:
    labels = np.zeros((1, 100, 100), np.uint8)
    for k in range(20):
        labels[0, 5 * k, : 10 + k] = 1
    shown = key_slices(*seen(labels), WINDOW)
    assert [item.lesion.number for item in shown if item.lesion] == list(range(1, MAXIMUM_PICTURED + 1))
