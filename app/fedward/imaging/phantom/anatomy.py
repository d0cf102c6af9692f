"""The smooth anatomy: trunk, chest wall, lungs, heart and great vessels as depths below their surfaces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedward.imaging.phantom.grid import FloatArray, Grid, blend, coverage, refine, smooth_noise

#: Hounsfield units of unenhanced tissue at 120 kVp (soft tissue and fat as in any CT textbook).
AIR, LUNG, FAT, SKIN, MUSCLE, BLOOD = -1000.0, -860.0, -100.0, 10.0, 52.0, 45.0


@dataclass(frozen=True, eq=False)
class Anatomy:
    """One patient's surfaces; every field holds the depth (mm) of a voxel below a surface, negative outside.

    Attributes:
        body: Below the skin.
        cavity: Below the inside of the rib cage.
        muscle: Below the outside of the chest wall's muscles.
        lung: Below the pleura of either lung.
        organ: Below the surface of heart, aorta, caval vein, oesophagus, diaphragm and what lies under it.
        hila: Where the vessels of the right and the left lung enter, (z, y, x) mm.
        spine_y: The middle of the vertebral bodies, mm.
        sternum_y: The middle of the breastbone, mm.
    """

    body: FloatArray
    cavity: FloatArray
    muscle: FloatArray
    lung: FloatArray
    organ: FloatArray
    hila: tuple[tuple[float, float, float], tuple[float, float, float]]
    spine_y: float
    sternum_y: float


def draw_anatomy(grid: Grid, *, body_scale: float, rng: np.random.Generator) -> Anatomy:
    """Draw a patient's surfaces; ``body_scale`` 1 is a mean adult."""
    size = body_scale * rng.normal(1, 0.035)
    half_y, half_x = 86 * size * rng.normal(1, 0.04), 119 * size * rng.normal(1, 0.03)
    fat = float(np.clip(rng.normal(13, 4) * body_scale**3, 7, 24))
    coarse = grid.coarse
    cavity = _cavity(coarse, half_y, half_x)
    around = _angle(coarse)
    wall = 13 + 4 * np.sin(around) ** 2 + 5 * np.cos(2 * around - 0.6) ** 2 + 3 * np.cos(around) ** 2
    muscle = cavity + wall.astype(np.float32)
    body = muscle + np.float32(fat) * (1 - 0.35 * np.cos(around)).astype(np.float32)
    wobble = smooth_noise(coarse, 34, rng) * np.float32(1.3)
    organ = np.maximum(_mediastinum(coarse, half_y, half_x, rng), _diaphragm(coarse, half_x, rng)) + wobble
    between = _smooth_maximum(organ, _column(coarse, half_y), 6)
    lung = _smooth_minimum(cavity - 1.5 + 0.5 * wobble, -between, 7)
    hilum_z = float(rng.normal(6, 5))
    return Anatomy(
        body=refine(body, grid),
        cavity=refine(cavity, grid),
        muscle=refine(muscle, grid),
        lung=refine(lung, grid),
        organ=refine(organ, grid),
        hila=((hilum_z - 4, 6.0, -38 * size), (hilum_z + 5, 10.0, 36 * size)),
        spine_y=half_y - 7,
        sternum_y=-half_y - 7,
    )


def tissue(anatomy: Anatomy, grid: Grid, *, contrast_hu: float, rng: np.random.Generator) -> FloatArray:
    """Give the trunk in HU without bones, lung vessels and nodules."""
    width = grid.spacing_mm[1]
    image = np.full(grid.shape, AIR, np.float32)
    blend(image, coverage(anatomy.body, width), SKIN)
    blend(image, coverage(anatomy.body - np.float32(2.2), width), FAT)
    texture = smooth_noise(grid, 7, rng)
    # Fat between and inside the muscles: thin streaks where the texture is high.
    streaks = np.clip(texture - np.float32(1.1), 0, 1) * np.float32(-110)
    blend(image, coverage(anatomy.muscle, width), streaks + np.float32(MUSCLE))
    blend(image, coverage(anatomy.cavity - np.float32(1), width), FAT + 15)
    blend(image, coverage(anatomy.organ, width), BLOOD + contrast_hu)
    blend(image, coverage(anatomy.lung, width), _parenchyma(texture, grid, rng))
    return image


def _parenchyma(texture: FloatArray, grid: Grid, rng: np.random.Generator) -> FloatArray:
    """Lung: denser towards the back (0.35 HU a mm), uneven at two scales."""
    _, y, _ = grid.axes()
    lung = smooth_noise(grid, 22, rng)
    lung *= np.float32(14)
    lung += texture * np.float32(10)
    lung += np.float32(LUNG + rng.normal(0, 12)) + np.float32(0.35) * y
    return lung


def _cavity(grid: Grid, half_y: float, half_x: float) -> FloatArray:
    """The inside of the rib cage: a superellipse that narrows towards the neck and towards the front."""
    z, y, x = grid.axes()
    narrowing = 1 - 0.17 * np.clip((z - 5) / 60, 0, 1.2) ** 2
    front = 1 - 0.2 * np.clip(-y / half_y, 0, 1) ** 2
    exponent = 2.4
    level = (np.abs(x) / (half_x * narrowing * front)) ** exponent + (np.abs(y) / half_y) ** exponent
    return _ray_depth(level, exponent, np.sqrt(x * x + y * y))


def _mediastinum(grid: Grid, half_y: float, half_x: float, rng: np.random.Generator) -> FloatArray:
    """The organs between the lungs: heart, great vessels, oesophagus and the roots of the lungs."""
    heart_z = -38 + rng.normal(0, 5)
    left = _ellipsoid(grid, (heart_z, -0.34 * half_y, 22), (50, 42, 0.44 * half_x * rng.normal(1, 0.06)))
    right = _ellipsoid(grid, (heart_z - 2, -0.24 * half_y, -14), (46, 37, 33))
    organs = _smooth_maximum(left, right, 8)
    for others in (
        _tube(grid, 0.5 * half_y, 21 + 2 * rng.normal(), 11.5),
        _tube(grid, -0.26 * half_y, -10, 15),
        _tube(grid, -0.14 * half_y, -27, 9),
        _tube(grid, 0.46 * half_y, 3, 6),
        _ellipsoid(grid, (4, 6, -35), (20, 14, 12)),
        _ellipsoid(grid, (10, 10, 33), (18, 14, 11)),
    ):
        organs = np.maximum(organs, others)
    return organs


def _column(grid: Grid, half_y: float) -> FloatArray:
    """The fat between the lungs: narrow in front, wide around the great vessels, and the spine's bulge behind."""
    z, y, x = grid.axes()
    offset = y - np.float32(half_y - 2)
    level = (offset / np.float32(27)) ** 2 + (x / np.float32(25)) ** 2 + 0 * z
    spine = _ray_depth(level, 2, np.sqrt(offset**2 + x * x) + 0 * z)
    place = np.clip((y + half_y) / (2 * half_y), 0, 1)
    width = 9 + 26 * np.clip(np.sin(np.pi * np.clip(place * 1.12, 0, 1)), 0, 1) ** 1.5
    return _smooth_maximum(spine, (width - np.abs(x) + 0 * z).astype(np.float32), 8)


def _diaphragm(grid: Grid, half_x: float, rng: np.random.Generator) -> FloatArray:
    """The two domes that rise into the lungs from below; the right one stands higher."""
    bottom = -grid.half_mm[0] - 22 + rng.normal(0, 6)
    right = _ellipsoid(grid, (bottom, 4, -0.5 * half_x), (44, 66, 60))
    left = _ellipsoid(grid, (bottom - 8, 4, 0.52 * half_x), (42, 60, 54))
    return np.maximum(right, left)


def _angle(grid: Grid) -> FloatArray:
    """The angle around the trunk: 0 at the front, pi at the back, positive on the patient's left."""
    z, y, x = grid.axes()
    return np.asarray(np.arctan2(x, -y) + 0 * z, dtype=np.float32)


def _ellipsoid(grid: Grid, centre: tuple[float, float, float], half: tuple[float, float, float]) -> FloatArray:
    z, y, x = (axis - np.float32(c) for axis, c in zip(grid.axes(), centre, strict=True))
    level = (z / np.float32(half[0])) ** 2 + (y / np.float32(half[1])) ** 2 + (x / np.float32(half[2])) ** 2
    return _ray_depth(level, 2, np.sqrt(z * z + y * y + x * x))


def _tube(grid: Grid, y_mm: float, x_mm: float, radius_mm: float) -> FloatArray:
    z, y, x = grid.axes()
    return np.asarray(radius_mm - np.sqrt((y - y_mm) ** 2 + (x - x_mm) ** 2) + 0 * z, dtype=np.float32)


def _ray_depth(level: FloatArray, exponent: float, distance: FloatArray) -> FloatArray:
    """Turn an implicit surface ``level = 1`` into a depth along the ray from its centre at ``distance`` mm."""
    radius = np.maximum(level, 1e-4) ** (1 / exponent)
    return np.asarray(np.maximum(distance, 0.5) * (1 / radius - 1), dtype=np.float32)


def _smooth_minimum(a: FloatArray, b: FloatArray, width: float) -> FloatArray:
    """The smaller of two depths with the edge between them rounded over ``width`` mm."""
    overlap = np.maximum(width - np.abs(a - b), 0) / width
    return np.asarray(np.minimum(a, b) - overlap * overlap * (width / 4), dtype=np.float32)


def _smooth_maximum(a: FloatArray, b: FloatArray, width: float) -> FloatArray:
    return -_smooth_minimum(-a, -b, width)
