"""What an image is like, apart from what it shows: its spacing and its intensities, counted in fixed bins.

The bins are constants of the program, never computed from patients: a model's passport says which of them its training
images filled, and a hospital sees whether its own image lies there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedward.dicom.volume import Volume
from fedward.settings.job import Input, ZScore

Unit = Literal["mm", "HU", "stored", "deviations"]

#: Enough voxels to know percentiles by.
_SAMPLED_VOXELS = 500_000

#: On CT what lies below is the padding around the scanner's field of view.
_PADDING_HU = -1024.0

#: Inner edges of the bins, between the values that scanners are usually set to.
_SLICE_MM = (0.45, 0.56, 0.68, 0.9, 1.1, 1.4, 1.75, 2.25, 2.75, 3.5, 4.5, 5.5, 7.0, 9.0)
_PIXEL_MM = (0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95, 1.1, 1.3, 1.6, 2.1, 3.1, 4.1)
_HU = (-950.0, -850.0, -700.0, -550.0, -400.0, -250.0, -150.0, -75.0, 0.0, 75.0, 150.0, 300.0, 600.0, 1200.0)
_STORED = (0.0, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0, 30_000.0)
_DEVIATIONS = (-2.0, -1.4, -1.0, -0.7, -0.45, -0.2, 0.0, 0.2, 0.45, 0.7, 1.0, 1.4, 2.0, 3.0)

_PERCENTILES = {"dark_intensity": 5, "middle_intensity": 50, "bright_intensity": 95}


@dataclass(frozen=True)
class Trait:
    """One number about an image.

    Attributes:
        name: ``slice_spacing``, ``pixel_spacing`` or an intensity: the 5th, 50th or 95th percentile of the voxels.
        unit: ``mm``, ``HU``, ``stored`` units, or ``deviations`` of the image's own, from its own mean.
        edges: Between the bins, rising; the first bin and the last one are open.
    """

    name: str
    unit: Unit
    edges: tuple[float, ...]

    @property
    def bins(self) -> int:
        """How many bins there are."""
        return len(self.edges) + 1

    @property
    def keys(self) -> tuple[str, ...]:
        """The names under which the bins' counts travel."""
        return tuple(f"trained_{self.name}_{place:02}" for place in range(self.bins))


def traits_of(settings: Input) -> tuple[Trait, ...]:
    """Give the traits that matter for what a network sees: a z-score takes units and scale away."""
    unit: Unit
    if isinstance(settings.intensity, ZScore):
        unit, edges = "deviations", _DEVIATIONS
    elif settings.modality == "CT":
        unit, edges = "HU", _HU
    else:
        unit, edges = "stored", _STORED
    spacings = (Trait("slice_spacing", "mm", _SLICE_MM), Trait("pixel_spacing", "mm", _PIXEL_MM))
    return (*spacings, *(Trait(name, unit, edges) for name in _PERCENTILES))


def trait_keys(settings: Input) -> tuple[str, ...]:
    """Give the names of all bins in the order in which :func:`patient_share` counts them."""
    return tuple(key for trait in traits_of(settings) for key in trait.keys)


def measure_traits(volume: Volume, settings: Input) -> NDArray[np.float64]:
    """Measure one image, shape ``(trait,)`` in the order of :func:`traits_of`."""
    step = max(1, round((volume.array.size / _SAMPLED_VOXELS) ** (1 / 3)))
    voxels = volume.array[::step, ::step, ::step].astype(np.float64)
    if volume.modality == "CT":
        voxels = voxels.clip(_PADDING_HU)
    if isinstance(settings.intensity, ZScore):
        voxels = (voxels - voxels.mean()) / (voxels.std() or 1.0)
    slice_mm, row_mm, column_mm = volume.spacing_mm
    return np.array([slice_mm, np.sqrt(row_mm * column_mm), *np.percentile(voxels, list(_PERCENTILES.values()))])


def patient_share(images: Sequence[NDArray[np.float64]], settings: Input) -> NDArray[np.float64]:
    """Count one patient's images, each trait's bins together 1: the Euclidean norm is at most the root of the traits.

    Args:
        images: At least one, each measured by :func:`measure_traits`.
        settings: The job's.

    Returns:
        Shape ``(key,)`` in the order of :func:`trait_keys`.
    """
    parts = []
    for place, trait in enumerate(traits_of(settings)):
        chosen = np.searchsorted(trait.edges, [image[place] for image in images], side="right")
        parts.append(np.bincount(chosen, minlength=trait.bins) / len(images))
    return np.concatenate(parts)
