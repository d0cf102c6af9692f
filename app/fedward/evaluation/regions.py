"""What of a prediction counts as found: connected, large enough, sure enough. Validation and reports ask the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedward.evaluation.axes import Axes, longest_axes
from fedward.evaluation.lesions import Box, Components, bounding_box, connected_components
from fedward.settings.job import Segmentation


@dataclass(frozen=True, eq=False)
class Region:
    """One finding in a predicted mask.

    Attributes:
        class_index: Into the task's classes.
        box: Where it lies in the volume.
        mask: Shape of ``box``.
        key_slice: Index in ``mask`` of the slice with the longest axis.
        axes: Measured there.
        mean_probability: Over the region's voxels, in [0, 1].
    """

    class_index: int
    box: Box
    mask: NDArray[np.bool_]
    key_slice: int
    axes: Axes
    mean_probability: float


def find_regions(
    labels: NDArray[np.uint8],
    probability: NDArray[np.floating],
    *,
    affine: NDArray[np.float64],
    task: Segmentation,
) -> Iterator[Region]:
    """Give every region that the task counts as found.

    Args:
        labels: Shape ``(slice, row, column)``; 0 background, k the k-th of the task's classes.
        probability: Same shape, the foreground's probability in [0, 1].
        affine: 4x4, voxel to patient mm.
        task: With ``lesion_dice`` every 26-connected component is a region, with ``dice`` a class is one structure;
            the smallest long axis and the smallest mean probability.
    """
    for class_index in range(len(task.classes)):
        mask = labels == class_index + 1
        components = _as_one(mask) if task.measure == "dice" else connected_components(mask)
        for index, box in enumerate(components.boxes):
            place = _shifted(box, components.box)
            region = components.labels[box] == index + 1
            mean_probability = float(probability[place][region].mean(dtype=np.float64))
            if mean_probability < task.minimum_probability or _size_bound_mm(box, affine) < task.minimum_lesion_mm:
                continue
            key_slice, axes = longest_axes(region, affine)
            if axes.long_mm >= task.minimum_lesion_mm:
                yield Region(class_index, place, region, key_slice, axes, mean_probability)


def found_labels(
    labels: NDArray[np.uint8],
    probability: NDArray[np.floating],
    *,
    affine: NDArray[np.float64],
    task: Segmentation,
) -> NDArray[np.uint8]:
    """Give the prediction with nothing in it but what counts as found; see :func:`find_regions`."""
    found = np.zeros_like(labels)
    for region in find_regions(labels, probability, affine=affine, task=task):
        found[region.box][region.mask] = region.class_index + 1
    return found


def _as_one(mask: NDArray[np.bool_]) -> Components:
    box = bounding_box(mask)
    return Components(mask[box].astype(np.int32), int(mask.any()), box)


def _size_bound_mm(box: Box, affine: NDArray[np.float64]) -> float:
    """Give a cheap upper bound on the long axis: a speck needs no calliper."""
    _, rows, columns = (side.stop - side.start for side in box)
    steps = affine[:3, 1:3]
    return float(rows * np.linalg.norm(steps[:, 0]) + columns * np.linalg.norm(steps[:, 1]))


def _shifted(box: Box, by: Box) -> Box:
    slices, rows, columns = (
        slice(side.start + other.start, side.stop + other.start) for side, other in zip(box, by, strict=True)
    )
    return slices, rows, columns
