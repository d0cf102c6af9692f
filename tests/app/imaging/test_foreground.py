from __future__ import annotations

import numpy as np
import pytest

from fedward.imaging.foreground import find_foreground


def two_classes() -> np.ndarray:
    label = np.zeros((8, 9, 10), dtype=np.uint8)
    label[0:4, 0:4, 0:4] = 1  # 64 voxels
    label[6, 7, 8] = 1  # one voxel
    label[7, 8, 9] = 2  # touches the one above by a corner, but is another class
    return label


def test_components_are_separate_by_class_and_place() -> None:
    found = find_foreground(two_classes())
    assert found.classes.tolist() == [1, 1, 2]
    assert np.diff(found.starts).tolist() == [64, 1, 1]
    assert found.voxels[-2:].tolist() == [[6, 7, 8], [7, 8, 9]]


def test_a_small_component_is_drawn_as_often_as_a_large_one() -> None:
    found = find_foreground(two_classes())
    generator = np.random.default_rng(0)
    drawn = [found.draw(generator) for _ in range(2000)]
    # A class first (1/2 each), then a component: 1/4, 1/4, 1/2.
    assert drawn.count((7, 8, 9)) / 2000 == pytest.approx(0.5, abs=0.04)
    assert drawn.count((6, 7, 8)) / 2000 == pytest.approx(0.25, abs=0.04)


def test_an_empty_label_has_nothing_to_draw() -> None:
    found = find_foreground(np.zeros((3, 3, 3), dtype=np.uint8))
    assert found.count == 0
    with pytest.raises(ValueError, match="no voxel to draw"):
        found.draw(np.random.default_rng(0))
