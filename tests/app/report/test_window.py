from __future__ import annotations

import numpy as np
import pytest

from fedward.dicom.volume import Volume
from fedward.report.window import choose_window
from fedward.settings.job import Input, Window, ZScore


def volume(array: np.ndarray, modality: str) -> Volume:
    return Volume(array.astype(np.float32), np.eye(4), modality, "p", "1.2", "1.2.3")


SOFT_TISSUE = Input(modality="CT", spacing_mm=(1, 1, 1), intensity=Window(kind="window", low=-160, high=240))
MR = Input(modality="MR", spacing_mm=(1, 1, 1), intensity=ZScore(kind="zscore"))


def test_lung_nodules_on_ct_are_shown_in_the_lung_window() -> None:
    window = choose_window(volume(np.zeros((2, 2, 2)), "CT"), SOFT_TISSUE, ("nodule",))
    assert (window.low, window.high) == (-1350, 150)
    assert window.sentence == "Lung window: centre −600 HU, width 1500 HU"


def test_another_class_on_ct_is_shown_in_the_models_window() -> None:
    window = choose_window(volume(np.zeros((2, 2, 2)), "CT"), SOFT_TISSUE, ("liver_tumour",))
    assert (window.low, window.high) == (-160, 240)
    assert window.sentence == "The model's own window: centre 40 HU, width 400 HU"


def test_mr_is_shown_by_the_percentiles_of_the_series() -> None:
    array = np.arange(1001.0).repeat(8).reshape(77, 8, 13)
    window = choose_window(volume(array, "MR"), MR, ("hippocampus",))
    assert (window.low, window.high) == (pytest.approx(10, abs=1), pytest.approx(990, abs=1))
    assert window.sentence == "From the 1st to the 99th percentile of this series: 10 to 990"


def test_a_large_series_is_sampled_and_gives_nearly_the_same() -> None:
    array = np.random.default_rng(2).normal(500, 100, (120, 128, 128))
    window = choose_window(volume(array, "MR"), MR, ("hippocampus",))
    assert window.low == pytest.approx(np.percentile(array, 1), abs=2)


def test_a_uniform_series_is_shown_without_a_division_by_zero() -> None:
    window = choose_window(volume(np.full((3, 4, 4), 7.0), "MR"), MR, ("hippocampus",))
    assert window.grey(np.full((2, 2), 7.0, np.float32)).tolist() == [[0, 0], [0, 0]]


def test_black_and_white_are_the_ends_of_the_window() -> None:
    window = choose_window(volume(np.zeros((2, 2, 2)), "CT"), SOFT_TISSUE, ("liver",))
    assert window.grey(np.array([-1000, -160, 40, 240, 3000], np.float32)).tolist() == [0, 0, 128, 255, 255]
