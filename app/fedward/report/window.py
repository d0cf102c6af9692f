"""How bright a picture shows an intensity, stated in words."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedward.dicom.volume import Volume
from fedward.report.codes import LUNG_NODULE_CLASSES
from fedward.settings.job import Input, Window

#: What radiologists read lungs with.
_LUNG_CENTRE, _LUNG_WIDTH = -600, 1500

#: Enough voxels to know percentiles by.
_SAMPLED_VOXELS = 500_000


@dataclass(frozen=True)
class DisplayWindow:
    """Intensities from ``low`` (black) to ``high`` (white), with ``sentence`` to say so."""

    low: float
    high: float
    sentence: str

    def grey(self, pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Turn intensities into grey values, same shape."""
        share = np.clip((pixels - self.low) / (self.high - self.low), 0.0, 1.0)
        return np.asarray(np.rint(share * 255), dtype=np.uint8)


def choose_window(volume: Volume, settings: Input, classes: Collection[str]) -> DisplayWindow:
    """Choose the lung window for lung nodules on CT, else the model's own, else what spans the series."""
    unit = " HU" if volume.modality == "CT" else ""
    if volume.modality == "CT" and LUNG_NODULE_CLASSES.intersection(classes):
        return _around(_LUNG_CENTRE, _LUNG_WIDTH, "Lung window", unit)
    if isinstance(settings.intensity, Window):
        low, high = settings.intensity.low, settings.intensity.high
        return _around((low + high) / 2, high - low, "The model's own window", unit)
    return _spanning(volume, unit)


def _around(centre: float, width: float, name: str, unit: str) -> DisplayWindow:
    sentence = f"{name}: centre {_number(centre)}{unit}, width {_number(width)}{unit}"
    return DisplayWindow(centre - width / 2, centre + width / 2, sentence)


def _spanning(volume: Volume, unit: str) -> DisplayWindow:
    step = max(1, round((volume.array.size / _SAMPLED_VOXELS) ** (1 / 3)))
    low, high = (float(value) for value in np.percentile(volume.array[::step, ::step, ::step], [1, 99]))
    if high <= low:
        high = low + 1.0
    sentence = f"From the 1st to the 99th percentile of this series: {_number(low)} to {_number(high)}{unit}"
    return DisplayWindow(low, high, sentence)


def _number(value: float) -> str:
    return f"{value:.4g}".replace("-", "−")
