"""Lesion by lesion: how well each true lesion was found, and what was found where nothing is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fedward.evaluation.axes import longest_axes

#: Voxels that share a face, an edge or a corner belong together.
NEIGHBOURS_26 = np.ones((3, 3, 3), dtype=bool)

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class LesionScores:
    """What one scan's prediction is worth.

    Attributes:
        dice: One value a true lesion of at least the smallest size, in [0, 1].
        false_positives: Predicted components that touch no true lesion of any size.
    """

    dice: tuple[float, ...]
    false_positives: int


@dataclass(frozen=True, eq=False)
class Components:
    """The connected components of a mask, labelled within its bounding box.

    Attributes:
        labels: Shape of ``box``; 0 background, k the k-th component.
        count: How many there are.
        box: Where ``labels`` lies in the mask.
    """

    labels: NDArray[np.int32]
    count: int
    box: Box

    @property
    def boxes(self) -> list[Box]:
        """Each component's bounding box within ``labels``, in order."""
        return list(ndimage.find_objects(self.labels)) if self.count else []

    @property
    def voxels(self) -> NDArray[np.int64]:
        """Each component's number of voxels, in order."""
        return np.bincount(self.labels.ravel(), minlength=self.count + 1)[1:]


def connected_components(mask: NDArray[np.bool_]) -> Components:
    """Label the 26-connected components of ``mask``, shape ``(slice, row, column)``."""
    box = bounding_box(mask)
    labels, count = ndimage.label(mask[box], structure=NEIGHBOURS_26, output=np.int32)
    return Components(labels, int(count), box)


def bounding_box(mask: NDArray[np.bool_]) -> Box:
    """Give the smallest box that holds every true voxel; an empty box where there is none."""
    slices = np.flatnonzero(mask.any(axis=(1, 2)))
    if slices.size == 0:
        return slice(0, 0), slice(0, 0), slice(0, 0)
    flat = mask[slices[0] : slices[-1] + 1].any(axis=0)
    rows, columns = np.flatnonzero(np.any(flat, axis=1)), np.flatnonzero(np.any(flat, axis=0))
    return _span(slices), _span(rows), _span(columns)


def score_lesions(
    predicted: NDArray[np.bool_ | np.uint8],
    truth: NDArray[np.bool_ | np.uint8],
    *,
    affine: NDArray[np.float64],
    minimum_lesion_mm: float,
) -> LesionScores:
    """Score one scan lesion by lesion.

    A true lesion is a 26-connected component whose long axis (the longest in any slice) is at least
    ``minimum_lesion_mm``. Its Dice is taken with the union of all predicted components that share a voxel with it, and
    is 0 when there is none. A predicted component that touches only a smaller true lesion is neither a hit nor a false
    positive.

    Args:
        predicted: Shape ``(slice, row, column)``; every value but 0 is lesion.
        truth: Same shape.
        affine: 4x4, voxel to patient mm.
        minimum_lesion_mm: 0 counts every lesion.

    Raises:
        ValueError: the shapes differ.
    """
    if predicted.shape != truth.shape:
        raise ValueError(f"prediction and truth must share one grid, got {predicted.shape} and {truth.shape}")
    found, true = connected_components(predicted != 0), connected_components(truth != 0)
    shared = shared_voxels(found, true)
    touching = shared > 0
    sizes = found.voxels
    dice = [
        2 * int(shared[index].sum()) / int(true_size + sizes[touching[index]].sum()) if touching[index].any() else 0.0
        for index, (box, true_size) in enumerate(zip(true.boxes, true.voxels, strict=True))
        if minimum_lesion_mm <= 0 or long_axis_mm(true, index, box, affine) >= minimum_lesion_mm
    ]
    return LesionScores(tuple(dice), int((~touching.any(axis=0)).sum()))


def score_lesions_by_class(
    predicted: NDArray[np.uint8],
    truth: NDArray[np.uint8],
    *,
    classes: int,
    affine: NDArray[np.float64],
    minimum_lesion_mm: float,
) -> tuple[LesionScores, ...]:
    """Score one scan lesion by lesion, each class by itself: the k-th (from 1) is where a value is k.

    Raises:
        ValueError: the shapes differ.
    """
    return tuple(
        score_lesions(predicted == k, truth == k, affine=affine, minimum_lesion_mm=minimum_lesion_mm)
        for k in range(1, classes + 1)
    )


def shared_voxels(found: Components, true: Components) -> NDArray[np.int64]:
    """Count the voxels that each pair shares, shape ``(true lesion, predicted component)``."""
    box = tuple(
        slice(max(a.start, b.start), max(a.start, b.start, min(a.stop, b.stop)))
        for a, b in zip(found.box, true.box, strict=True)
    )
    ours = found.labels[_within(box, found.box)]
    theirs = true.labels[_within(box, true.box)]
    both = (ours > 0) & (theirs > 0)
    pairs = (theirs[both].astype(np.int64) - 1) * found.count + (ours[both] - 1)
    return np.bincount(pairs, minlength=true.count * found.count).reshape(true.count, found.count)


def _within(box: tuple[slice, ...], outer: Box) -> tuple[slice, ...]:
    return tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(box, outer, strict=True))


def long_axis_mm(components: Components, index: int, box: Box, affine: NDArray[np.float64]) -> float:
    """Give the long axis of the component at ``index``, whose box within the labels is ``box``."""
    return longest_axes(components.labels[box] == index + 1, affine)[1].long_mm


def _span(indices: NDArray[np.int64]) -> slice:
    return slice(int(indices[0]), int(indices[-1]) + 1)
