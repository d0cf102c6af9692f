"""What the scanner does to the patient: slice profile, point spread, noise with the kernel's grain."""

from __future__ import annotations

import numpy as np
from scipy import fft, ndimage

from fedward.imaging.phantom.grid import FloatArray, Grid
from fedward.settings.phantom import Protocol

#: Full width at half maximum of a Gaussian over its standard deviation.
FWHM = 2.355


def scan(image: FloatArray, grid: Grid, protocol: Protocol, rng: np.random.Generator) -> FloatArray:
    """Give the reconstruction, in HU, of a patient (HU on the grid)."""
    blurred = _slice_profile(image, protocol)
    for axis in (1, 2):
        sigma = protocol.resolution_mm / FWHM / grid.spacing_mm[axis]
        blurred = ndimage.gaussian_filter1d(blurred, sigma, axis=axis, truncate=3)
    if protocol.noise_hu > 0:
        blurred += _noise(grid, protocol, rng)
    return blurred


def _slice_profile(image: FloatArray, protocol: Protocol) -> FloatArray:
    """Average over the part of the neighbours that a slice thicker than the increment overlaps."""
    overlap = (protocol.slice_thickness_mm / protocol.slice_increment_mm - 1) / 2
    if overlap <= 0:
        return image
    weights = np.array([overlap, 1, overlap]) / (1 + 2 * overlap)
    return np.asarray(ndimage.convolve1d(image, weights, axis=0, mode="nearest"))


def _noise(grid: Grid, protocol: Protocol, rng: np.random.Generator) -> FloatArray:
    """Noise of filtered back-projection: its power rises with frequency and falls with the kernel's roll-off.

    Power spectrum ``f * exp(-(f/f0)^2)`` (Riederer, Pelc & Chesler 1978); strongest in the middle of the patient.
    """
    white = rng.standard_normal(grid.shape, dtype=np.float32)
    rows, columns = (
        np.fft.fftfreq(grid.shape[1], grid.spacing_mm[1]),
        np.fft.rfftfreq(grid.shape[2], grid.spacing_mm[2]),
    )
    frequency = np.hypot(rows[:, None], columns[None, :])
    roll_off = 0.14 + 0.26 * protocol.sharpness
    gain = np.sqrt(frequency + 0.01) * np.exp(-0.5 * (frequency / roll_off) ** 2)
    weight = np.full(gain.shape, 2.0)
    weight[:, 0] = 1
    weight[:, -1] = 1 if grid.shape[2] % 2 == 0 else 2
    gain /= np.sqrt((gain**2 * weight).sum() / (grid.shape[1] * grid.shape[2]))
    spectrum = fft.rfft2(white, axes=(1, 2))
    spectrum *= gain.astype(np.float32)
    grain = fft.irfft2(spectrum, s=grid.shape[1:], axes=(1, 2)).astype(np.float32, copy=False)
    _, y, x = grid.axes()
    depth = np.float32(0.72) + np.float32(0.4) * np.exp(-(x * x + y * y) / np.float32(2 * 75.0**2))
    grain *= depth * np.float32(protocol.noise_hu)
    return np.asarray(grain)
