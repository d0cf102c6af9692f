"""The patch of the model's grid around each finding: what a second look at it needs, however large the volume is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedward.dicom.volume import Volume
from fedward.imaging.centred import Voxel, cut_around
from fedward.imaging.grid import ModelImage, voxel_at
from fedward.inference.lesions import Inference, lesion_cores

#: From RAS to LPS.
_TURN = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Around:
    """One finding's patch.

    Attributes:
        number: The lesion's; None for an image that is judged as a whole.
        class_name: What it is an outline of; empty for a whole image.
        patch: What the network sees, axes (superior, posterior, left), float32; zero outside of the image.
        mask: Same shape: the finding's voxels, at least one; none for a whole image.
        affine: 4x4, patch voxel to LPS mm.
    """

    number: int | None
    class_name: str
    patch: NDArray[np.float32]
    mask: NDArray[np.bool_]
    affine: NDArray[np.float64]


def around_findings(
    inference: Inference, volume: Volume, image: ModelImage, window: tuple[int, int, int], *, most: int
) -> Iterator[Around]:
    """Give the patch around each of the ``most`` largest lesions, or around the middle of a wholly judged image.

    Of a lesion that is larger than the window its centre is seen.

    Args:
        inference: What was found.
        volume: In what.
        image: The same on the model's grid.
        window: Voxels along each axis.
        most: So many lesions have a patch; the largest come first.
    """
    if not inference.findings.lesions and inference.findings.assessment is not None:
        first, second, third = (size // 2 for size in image.array.shape)
        patch, affine = _cut(image, (first, second, third), window)
        yield Around(None, "", patch, np.zeros(window, dtype=np.bool_), affine)
    lesions = inference.findings.lesions[:most]
    for lesion, core in zip(lesions, lesion_cores(inference.lesion_map, volume.affine), strict=False):
        patch, affine = _cut(image, voxel_at(core, image), window)
        numbers = _sampled(inference.lesion_map, from_to(affine, volume.affine), window)
        mask = numbers == lesion.number
        if not mask.any():
            # Smaller than the model's voxels: the one in the middle holds it.
            mask[tuple(size // 2 for size in window)] = True
        yield Around(lesion.number, lesion.class_name, patch, mask, affine)


def _cut(
    image: ModelImage, centre: Voxel, window: tuple[int, int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    affine = _TURN @ image.affine
    start = np.array([middle - size // 2 for middle, size in zip(centre, window, strict=True)])
    affine[:3, 3] += affine[:3, :3] @ start
    return cut_around(image.array, centre, window), affine


def from_to(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the 4x4 matrix from voxels of one grid to those of another."""
    return np.asarray(np.linalg.solve(second, first), dtype=np.float64)


def _sampled(
    numbers: NDArray[np.uint8], to_source: NDArray[np.float64], window: tuple[int, int, int]
) -> NDArray[np.uint8]:
    """Give the nearest voxel of ``numbers`` at each voxel of a patch; 0 outside."""
    places = np.indices(window, dtype=np.float32).reshape(3, -1)
    found = np.rint(to_source[:3, :3] @ places + to_source[:3, 3:]).astype(np.int64)
    inside = ((found >= 0) & (found < np.array(numbers.shape)[:, None])).all(axis=0)
    sampled = np.zeros(found.shape[1], dtype=np.uint8)
    sampled[inside] = numbers[tuple(found[:, inside])]
    return sampled.reshape(window)
