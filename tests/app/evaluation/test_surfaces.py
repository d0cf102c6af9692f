from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from scipy import ndimage

from fedward.evaluation.surfaces import hausdorff_95_mm

SPACING = st.tuples(*[st.sampled_from([0.7, 1.0, 2.5])] * 3)


def blob(seed: int, shape: tuple[int, int, int] = (9, 11, 10)) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=shape)
    return np.asarray(ndimage.gaussian_filter(noise, 1.5) > 0.1)


def test_two_voxels_are_as_far_apart_as_they_lie() -> None:
    first, second = np.zeros((5, 5, 5), bool), np.zeros((5, 5, 5), bool)
    first[0, 0, 0] = second[3, 0, 4] = True
    assert hausdorff_95_mm(first, second, spacing_mm=(2.0, 1.0, 0.5)) == pytest.approx(np.hypot(6.0, 2.0))


def test_the_same_mask_is_no_distance_away() -> None:
    assert hausdorff_95_mm(blob(0), blob(0), spacing_mm=(1.0, 1.0, 1.0)) == 0.0


# MONAI's own call of its own function with an argument that it has given up.
@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), SPACING)
def test_the_distance_is_monais(seed: int, spacing_mm: tuple[float, float, float]) -> None:
    ours, theirs = blob(seed), blob(seed + 1)
    if not (ours.any() and theirs.any()):
        return
    pair = [torch.from_numpy(mask)[None, None].float() for mask in (ours, theirs)]
    expected = compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=list(spacing_mm))
    assert hausdorff_95_mm(ours, theirs, spacing_mm=spacing_mm) == pytest.approx(float(expected), rel=1e-4)


def test_one_stray_voxel_among_many_is_forgiven() -> None:
    cube = np.zeros((24, 24, 24), bool)
    cube[2:14, 2:14, 2:14] = True
    stray = cube.copy()
    stray[22, 22, 22] = True
    assert hausdorff_95_mm(stray, cube, spacing_mm=(1.0, 1.0, 1.0)) == 0.0


def test_an_empty_mask_has_no_outline() -> None:
    empty, full = np.zeros((3, 3, 3), bool), np.ones((3, 3, 3), bool)
    for pair in ((empty, full), (full, empty), (empty, empty)):
        assert hausdorff_95_mm(*pair, spacing_mm=(1.0, 1.0, 1.0)) is None


def test_grids_must_be_the_same() -> None:
    with pytest.raises(ValueError, match="one grid"):
        hausdorff_95_mm(np.ones((1, 1, 1), bool), np.ones((1, 1, 2), bool), spacing_mm=(1.0, 1.0, 1.0))
