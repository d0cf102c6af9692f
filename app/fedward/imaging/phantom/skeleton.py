"""Bones and couch: ribs, breastbone, shoulder blades, spine, and the table below the patient."""

from __future__ import annotations

from typing import Literal

import numpy as np

from fedward.imaging.phantom.anatomy import Anatomy
from fedward.imaging.phantom.grid import FloatArray, Grid, blend, coverage

CORTEX, MARROW, CARTILAGE, DISC, CANAL = 620.0, 180.0, 130.0, 85.0, 20.0

#: Distance between neighbouring ribs and between vertebrae along the patient, mm.
RIB_STEP, VERTEBRA_STEP = 27.0, 25.0


def add_bones(image: FloatArray, anatomy: Anatomy, grid: Grid, rng: np.random.Generator) -> None:
    """Draw the bones into ``image`` (HU), in place."""
    _ribs(image, anatomy, grid, phase=float(rng.uniform(0, RIB_STEP)))
    _sternum(image, anatomy, grid)
    _spine(image, anatomy, grid, phase=float(rng.uniform(0, VERTEBRA_STEP)))


def add_table(image: FloatArray, anatomy: Anatomy, grid: Grid, table: Literal["flat", "curved"]) -> None:
    """Draw the couch's shell (carbon fibre around foam) behind the patient's back, in place."""
    back = np.flatnonzero((anatomy.body > 0).any(axis=(0, 2)))
    _, y, x = grid.axes()
    top = float(y[0, back[-1], 0]) + 6
    curve = x * x / 900 if table == "curved" else 0 * x
    depth = y - (top - curve)
    outside = anatomy.body[0] < -1
    width = grid.spacing_mm[1]
    reach = 190.0 if table == "curved" else 205.0
    for start, stop, value in ((0.0, 3.0, -150.0), (3.0, 22.0, -930.0), (22.0, 25.0, -150.0)):
        inside = np.minimum(np.minimum(depth - start, stop - depth), reach - np.abs(x))
        blend(image, (coverage(inside.astype(np.float32), width) * outside), value)


def _ribs(image: FloatArray, anatomy: Anatomy, grid: Grid, *, phase: float) -> None:
    """Ribs: rods 12 mm high and 7 mm thick in the chest wall that descend from back to front."""
    shell = np.flatnonzero((anatomy.cavity < 0.5) & (anatomy.cavity > -10.5))
    z, y, x = grid.axes()
    around = np.abs(np.arctan2(x, -y)).astype(np.float32)[0]
    descent = np.float32(-48) * (1 + np.cos(around))
    plane = shell % around.size
    height = z.ravel()[shell // around.size] - descent.ravel()[plane] + np.float32(phase)
    height = (height + np.float32(RIB_STEP / 2)) % np.float32(RIB_STEP) - np.float32(RIB_STEP / 2)
    radial = anatomy.cavity.ravel()[shell] + np.float32(5)
    level = np.sqrt((radial / 3.6) ** 2 + (height / 6.2) ** 2)
    depth = (1 - level) * np.float32(3.8)
    bony = np.clip((around.ravel()[plane] - 0.55) / 0.25, 0, 1)
    inner = coverage(depth - np.float32(1.1), 1.5) * (MARROW - CORTEX) + np.float32(CORTEX)
    value = CARTILAGE + bony * (inner - CARTILAGE)
    flat = image.reshape(-1)
    flat[shell] += coverage(depth, grid.spacing_mm[1]) * (value - flat[shell])


def _sternum(image: FloatArray, anatomy: Anatomy, grid: Grid) -> None:
    middle = np.array([0.0, anatomy.sternum_y + 2, 0.0])
    reach = np.array([1e3, 12.0, 30.0])
    box = grid.box(middle - reach, middle + reach)
    if box is None:
        return
    z, y, x = grid.axes(box)
    level = np.sqrt(((y - middle[1]) / 6) ** 2 + (x / 19) ** 2) + 0 * z
    _bone(image[box], ((1 - level) * 6).astype(np.float32), grid)


def _spine(image: FloatArray, anatomy: Anatomy, grid: Grid, *, phase: float) -> None:
    """Vertebral bodies with discs, the canal, the arch and the spinous and transverse processes."""
    middle = np.array([0.0, anatomy.spine_y, 0.0])
    box = grid.box(middle - np.array([1e3, 20.0, 46.0]), middle + np.array([1e3, 62.0, 46.0]))
    if box is None:
        return
    z, y, x = grid.axes(box)
    y = y - np.float32(middle[1])
    part = image[box]
    level = (z + np.float32(phase)) % np.float32(VERTEBRA_STEP)
    body = (1 - np.sqrt((y / 14) ** 2 + (x / 17) ** 2)) * 14 + 0 * z
    disc = np.minimum(body, 2.5 - np.abs(level - VERTEBRA_STEP / 2))
    arch = 4 - np.abs(np.sqrt((y - 22) ** 2 + x * x) - 12) + 0 * z
    spinous = np.minimum(np.minimum(3.5 - np.abs(x), y - 30), 50 - y - 0.4 * level)
    transverse = np.minimum(4.5 - np.abs(level - 8), np.minimum(5 - np.abs(y - 22), 36 - np.abs(x)))
    canal = 9 - np.sqrt((y - 22) ** 2 + x * x) + 0 * z
    for depth in (body, arch, spinous + 0 * z, transverse):
        _bone(part, np.asarray(depth, dtype=np.float32), grid)
    blend(part, coverage(np.asarray(disc, dtype=np.float32), 1.5), DISC)
    blend(part, coverage(np.asarray(canal, dtype=np.float32), 1.5), CANAL)


def _bone(image: FloatArray, depth: FloatArray, grid: Grid) -> None:
    """Marrow inside a cortex 1.3 mm thick."""
    inner = coverage(depth - np.float32(1.3), 1.5) * np.float32(MARROW - CORTEX) + np.float32(CORTEX)
    blend(image, coverage(depth, grid.spacing_mm[1]), inner)
