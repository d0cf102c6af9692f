"""From a patient's grid to the network's and back.

The network sees every patient on one *model grid*: axes towards superior, posterior and left (the layout of an axial
CT), the job's spacing, the job's intensity scale. An oblique series keeps its own directions; its axes are only
permuted and flipped towards the canonical ones. This module holds the one conversion from DICOM's LPS to MONAI's RAS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms.spatial.array import SpatialResample
from numpy.typing import NDArray
from scipy import ndimage

from fedward.dicom.volume import Label, Volume
from fedward.settings.job import Input, Window

Shape = tuple[int, int, int]

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

#: The model grid's axes as unit vectors in RAS, one a column: superior, posterior, left.
_CANONICAL = np.array([[0.0, 0.0, -1.0], [0.0, -1.0, 0.0], [1.0, 0.0, 0.0]])

#: Below this foreground probability nothing is brought back: it can neither win nor be seen.
NEGLIGIBLE_PROBABILITY = 0.01

#: Voxels of the source grid that are resampled at a time: bounds memory to some 100 MB a class.
_CHUNK_VOXELS = 8_000_000


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular grid in the patient.

    Attributes:
        shape: Voxels along each axis.
        affine: 4x4, voxel index to patient RAS in mm.
    """

    shape: Shape
    affine: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ModelImage:
    """An image as the network sees it.

    Attributes:
        array: Axes (superior, posterior, left), float32, scaled as the job says.
        affine: 4x4, voxel index to patient RAS in mm.
    """

    array: NDArray[np.float32]
    affine: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a network says about every voxel of the source grid.

    Attributes:
        labels: Shape ``(slice, row, column)``, uint8: 0 background, k the k-th class.
        probability: Same shape, float16: of being any class at all.
    """

    labels: NDArray[np.uint8]
    probability: NDArray[np.float16]


def source_grid(shape: Shape, affine_lps: NDArray[np.float64]) -> Grid:
    """Give a volume's own grid with its affine turned from LPS to RAS."""
    return Grid(shape, _LPS_TO_RAS @ affine_lps)


def model_grid(source: Grid, spacing_mm: tuple[float, float, float]) -> Grid:
    """Give the model grid over the same field of view, with the same centre.

    Args:
        source: The patient's own grid.
        spacing_mm: Along (superior, posterior, left).
    """
    axes, signs = _canonical_axes(source.affine)
    old_spacing = np.linalg.norm(source.affine[:3, :3], axis=0)[list(axes)]
    extent = np.array(source.shape)[list(axes)] * old_spacing
    shape = np.maximum(1, np.round(extent / spacing_mm)).astype(int)
    affine = np.eye(4)
    affine[:3, :3] = source.affine[:3, list(axes)] / old_spacing * signs * spacing_mm
    centre = source.affine[:3, :3] @ ((np.array(source.shape) - 1) / 2) + source.affine[:3, 3]
    affine[:3, 3] = centre - affine[:3, :3] @ ((shape - 1) / 2)
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


def to_model_grid(volume: Volume, settings: Input) -> ModelImage:
    """Bring a volume onto the model grid, smoothed where the grid is coarser, and scale its intensities."""
    source = source_grid(_shape(volume.array), volume.affine)
    target = model_grid(source, settings.spacing_mm)
    smooth = _smoothed(scale_intensity(volume.array, settings), source, target)
    array = _resample(torch.from_numpy(smooth)[None], source, target)[0].numpy()
    return ModelImage(array, target.affine)


def label_to_model_grid(label: Label, volume: Volume, settings: Input) -> NDArray[np.uint8]:
    """Bring a label onto the model grid of its volume.

    Each class's mask is interpolated and the largest share wins where it reaches a half: nearest-neighbour sampling
    would shift a border by up to half a voxel, and smoothing first would shrink small lesions.
    """
    source = source_grid(_shape(volume.array), volume.affine)
    target = model_grid(source, settings.spacing_mm)
    winner = np.zeros(target.shape, dtype=np.uint8)
    best = np.full(target.shape, 0.5, dtype=np.float32)
    for index in range(1, len(label.classes) + 1):
        mask = (label.array == index).astype(np.float32)
        if mask.any():
            share = _resample(torch.from_numpy(mask)[None], source, target)[0].numpy()
            won = share >= best
            winner[won], best[won] = index, share[won]
    return winner


def to_source_grid(
    probabilities: NDArray[np.float32],
    model_affine: NDArray[np.float64],
    source: Grid,
    *,
    check: Callable[[], None] = lambda: None,
) -> Prediction:
    """Bring a network's probabilities back onto the patient's own grid and decide there.

    Probabilities are interpolated, not labels, so that the border is as fine as the source. Only the box with more
    than negligible probability is resampled, in chunks of slices.

    Args:
        probabilities: Shape ``(class, superior, posterior, left)``, float32, without background.
        model_affine: 4x4, model voxel to RAS mm.
        source: From :func:`source_grid`.
        check: Called before each chunk; raises to abort.
    """
    labels = np.zeros(source.shape, dtype=np.uint8)
    probability = np.zeros(source.shape, dtype=np.float16)
    image = torch.from_numpy(probabilities)
    inside = Grid(_shape(probabilities[0]), model_affine)
    for box in _chunks(_box_of_interest(probabilities, model_affine, source)):
        check()
        values = _resample(image, inside, _sub_grid(source, box)).numpy()
        foreground = values.sum(axis=0)
        chosen = values.argmax(axis=0).astype(np.uint8) + 1
        labels[box] = np.where(values.max(axis=0) > 1 - foreground, chosen, 0)
        probability[box] = foreground
    return Prediction(labels, probability)


def voxel_at(point_mm: Sequence[float], image: ModelImage) -> Shape:
    """Give the voxel of the model grid nearest to a place in the patient (LPS, mm), at most at its edge."""
    ras = _LPS_TO_RAS @ [*point_mm, 1.0]
    index = np.rint(np.linalg.solve(image.affine, ras)[:3])
    first, second, third = (int(value) for value in np.clip(index, 0, np.array(image.array.shape) - 1))
    return first, second, third


def scale_intensity(array: NDArray[np.float32], settings: Input) -> NDArray[np.float32]:
    """Scale intensities as the job says: a window to [0, 1], or the volume's own mean 0 and deviation 1.

    A constant volume becomes zero under the z-score.
    """
    intensity = settings.intensity
    if isinstance(intensity, Window):
        return (np.clip(array, intensity.low, intensity.high) - intensity.low) / (intensity.high - intensity.low)
    mean, deviation = float(array.mean(dtype=np.float64)), float(array.std(dtype=np.float64))
    return ((array - mean) / (deviation or 1.0)).astype(np.float32)


def _canonical_axes(affine: NDArray[np.float64]) -> tuple[tuple[int, ...], NDArray[np.float64]]:
    """Find which source axis runs closest to each canonical one, and in which sense (+1 or -1)."""
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosines = _CANONICAL.T @ directions
    axes = max(permutations(range(3)), key=lambda order: float(np.abs(cosines[[0, 1, 2], list(order)]).sum()))
    return axes, np.where(cosines[[0, 1, 2], list(axes)] < 0, -1.0, 1.0)


def _smoothed(array: NDArray[np.float32], source: Grid, target: Grid) -> NDArray[np.float32]:
    """Smooth along the axes on which the target is coarser, so that noise does not alias.

    Source: Cardoso et al., Scale factor point spread function matching, MICCAI 2015: the variance of the difference
    between two Gaussians whose full widths at half maximum are the spacings.
    """
    axes, _ = _canonical_axes(source.affine)
    ratio = np.ones(3)
    ratio[list(axes)] = np.linalg.norm(target.affine[:3, :3], axis=0)
    ratio /= np.linalg.norm(source.affine[:3, :3], axis=0)
    for axis, factor in enumerate(ratio):
        if factor > 1.05:
            sigma = np.sqrt((factor**2 - 1) / (8 * np.log(2)))
            array = ndimage.gaussian_filter1d(array, sigma, axis=axis, mode="nearest", truncate=3)
    return np.ascontiguousarray(array)


def _resample(image: torch.Tensor, source: Grid, target: Grid) -> torch.Tensor:
    """Interpolate ``image``, shape ``(channel, *source.shape)``, on ``target``; beyond its edge the edge goes on."""
    # align_corners=True: border padding then starts at the outer voxels' centres, on both sides alike.
    resample = SpatialResample(mode="bilinear", padding_mode="border", align_corners=True, dtype=np.float32)
    placed = MetaTensor(image, affine=torch.from_numpy(source.affine))
    moved = resample(placed, dst_affine=torch.from_numpy(target.affine), spatial_size=target.shape)
    return moved.as_tensor() if isinstance(moved, MetaTensor) else moved


def _box_of_interest(
    probabilities: NDArray[np.float32], model_affine: NDArray[np.float64], source: Grid
) -> tuple[slice, slice, slice]:
    """Give the box of source voxels that can have more than a negligible foreground probability."""
    marked = probabilities.sum(axis=0) >= NEGLIGIBLE_PROBABILITY
    if not marked.any():
        return slice(0, 0), slice(0, 0), slice(0, 0)
    spans = [np.flatnonzero(marked.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    corners = np.array([[span[0] - 1, span[-1] + 1] for span in spans], dtype=np.float64)
    points = np.array([[corners[0][i], corners[1][j], corners[2][k], 1.0] for i, j, k in np.ndindex(2, 2, 2)])
    voxels = (np.linalg.inv(source.affine) @ model_affine @ points.T)[:3]
    low = np.clip(np.floor(voxels.min(axis=1)), 0, source.shape).astype(int)
    high = np.clip(np.ceil(voxels.max(axis=1)) + 1, 0, source.shape).astype(int)
    return slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])


def _chunks(box: tuple[slice, slice, slice]) -> Iterator[tuple[slice, slice, slice]]:
    rows, columns = box[1], box[2]
    step = max(1, _CHUNK_VOXELS // max(1, (rows.stop - rows.start) * (columns.stop - columns.start)))
    for start in range(box[0].start, box[0].stop, step):
        yield slice(start, min(start + step, box[0].stop)), rows, columns


def _sub_grid(grid: Grid, box: tuple[slice, slice, slice]) -> Grid:
    start = np.array([part.start for part in box], dtype=np.float64)
    affine = grid.affine.copy()
    affine[:3, 3] += grid.affine[:3, :3] @ start
    return Grid((box[0].stop - box[0].start, box[1].stop - box[1].start, box[2].stop - box[2].start), affine)


def _shape(array: NDArray[np.float32]) -> Shape:
    return int(array.shape[0]), int(array.shape[1]), int(array.shape[2])
