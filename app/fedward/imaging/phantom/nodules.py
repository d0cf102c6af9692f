"""Nodules in their place: touching a vessel, against the pleura or on their own, with their exact truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from fedward.imaging.phantom.anatomy import Anatomy
from fedward.imaging.phantom.grid import BoolArray, Box, FloatArray, Grid, coverage
from fedward.imaging.phantom.nodule_shapes import Shape, draw_shape, voxelise
from fedward.imaging.phantom.placement import rank_places
from fedward.imaging.phantom.plan import NodulePlan
from fedward.imaging.phantom.real_shape import RealShape
from fedward.imaging.phantom.vessels import Points, Vessels

#: The long axis never exceeds this, mm.
LONGEST_MM = 20.0

#: How many of the best places are tried, and the relative error of the diameter that is good enough.
ATTEMPTS, TOLERANCE = 12, 0.08


@dataclass(frozen=True, eq=False)
class Nodule:
    """One nodule on the patient's grid.

    Attributes:
        plan: What was asked for.
        centre: (z, y, x) mm.
        box: Where it lies on the grid.
        share: Part of each voxel of the box inside the nodule and the lung.
        core: Part of each voxel inside the solid core of a part-solid nodule.
        spacing_mm: The grid's.
    """

    plan: NodulePlan
    centre: Points
    box: Box
    share: FloatArray
    core: FloatArray
    spacing_mm: tuple[float, float, float]

    @property
    def mask(self) -> BoolArray:
        """The truth: voxels of the box at least half inside the nodule."""
        return self.share >= 0.5

    @property
    def diameter_mm(self) -> float:
        """The diameter of the sphere with the volume of the truth, mm."""
        volume = float(self.mask.sum()) * float(np.prod(self.spacing_mm))
        return float((6 * volume / np.pi) ** (1 / 3))

    @property
    def long_axis_mm(self) -> float:
        """The largest distance between two of the truth's voxels plus one voxel's width, mm."""
        points = np.argwhere(self.mask) * np.array(self.spacing_mm)
        if len(points) == 0:
            return 0.0
        extents = points @ _COMPASS.T
        return float((extents.max(0) - extents.min(0)).max() + min(self.spacing_mm))


def place_nodules(
    plans: tuple[NodulePlan, ...], anatomy: Anatomy, vessels: Vessels, grid: Grid, rng: np.random.Generator
) -> tuple[Nodule, ...]:
    """Put a patient's nodules where their plans want them, the largest first, none near another."""
    placed: list[Nodule] = []
    for plan in sorted(plans, key=lambda plan: -plan.diameter_mm):
        taken = [(nodule.centre, nodule.plan.diameter_mm / 2) for nodule in placed]
        places = rank_places(plan, anatomy, vessels, grid, taken=taken, rng=rng)
        placed.append(_best_fit(plan, places, anatomy, grid, rng))
    return tuple(placed)


def add_ground_glass(image: FloatArray, nodules: tuple[Nodule, ...], rng: np.random.Generator) -> None:
    """Draw the hazy part of the subsolid nodules (-650 to -350 HU), in place; vessels come on top of it."""
    for nodule in nodules:
        if nodule.plan.density == "solid":
            continue
        haze = rng.uniform(-600, -380) + rng.normal(0, 18, nodule.share.shape).astype(np.float32)
        part = image[nodule.box]
        part += nodule.share * (np.clip(haze, -650, -350).astype(np.float32) - part)


def add_solid(image: FloatArray, nodules: tuple[Nodule, ...], rng: np.random.Generator) -> None:
    """Draw the solid nodules and the cores of part-solid ones (30 to 60 HU, as the vessels), in place."""
    for nodule in nodules:
        share = {"solid": nodule.share, "part_solid": nodule.core, "ground_glass": None}[nodule.plan.density]
        if share is not None:
            part = image[nodule.box]
            part += share * (np.float32(np.clip(rng.normal(36, 7), 30, 60)) - part)


def _best_fit(plan: NodulePlan, places: Points, anatomy: Anatomy, grid: Grid, rng: np.random.Generator) -> Nodule:
    """Give the first nodule, in the order of the places, that comes out as planned; else the nearest to it."""
    tried: list[Nodule] = []
    for centre in places[:ATTEMPTS]:
        tried.append(_fit(plan, plan.shape or draw_shape(plan.margin, rng), centre, anatomy, grid))
        if _misfit(tried[-1]) < TOLERANCE:
            break
    return min(tried, key=_misfit)


def _misfit(nodule: Nodule) -> float:
    """How far the truth is from the plan: relative error of its diameter; 1 more when too long or in pieces."""
    error = abs(nodule.diameter_mm / nodule.plan.diameter_mm - 1)
    pieces = ndimage.label(nodule.mask, structure=np.ones((3, 3, 3)))[1]
    return float(error + (nodule.long_axis_mm > LONGEST_MM) + (pieces != 1))


def _fit(plan: NodulePlan, shape: Shape | RealShape, centre: Points, anatomy: Anatomy, grid: Grid) -> Nodule:
    """Voxelise a nodule and scale it towards the planned volume, but not beyond the longest axis."""
    radius = plan.diameter_mm / 2
    nodule = _nodule(plan, shape, centre, radius, anatomy, grid)
    for _ in range(6):
        wanted = plan.diameter_mm / max(nodule.diameter_mm, 1.0)
        allowed = (LONGEST_MM - 0.3) / max(nodule.long_axis_mm, 1.0)
        if abs(min(wanted, allowed) - 1) < 0.02:
            break
        radius *= min(wanted, allowed, 1.25)
        nodule = _nodule(plan, shape, centre, radius, anatomy, grid)
    return nodule


def _nodule(
    plan: NodulePlan, shape: Shape | RealShape, centre: Points, radius: float, anatomy: Anatomy, grid: Grid
) -> Nodule:
    box, share = _voxelise(shape, grid, centre, radius)
    share *= coverage(anatomy.lung[box], grid.spacing_mm[1])
    core = np.zeros_like(share)
    if plan.density == "part_solid":
        inner, core_share = _voxelise(shape, grid, centre + 0.2 * radius * shape.turn[0], 0.5 * radius)
        whole = np.zeros(grid.shape, np.float32)
        whole[inner] = core_share
        core = np.minimum(whole[box], share)
    return Nodule(plan=plan, centre=centre, box=box, share=share, core=core, spacing_mm=grid.spacing_mm)


def _voxelise(shape: Shape | RealShape, grid: Grid, centre: Points, radius: float) -> tuple[Box, FloatArray]:
    if isinstance(shape, RealShape):
        return shape.voxelise(grid, centre, radius)
    return voxelise(shape, grid, centre, radius)


def _compass() -> Points:
    """About 200 directions evenly over the half sphere (Fibonacci lattice)."""
    index = np.arange(200) + 0.5
    height = 1 - index / 200
    turn = np.pi * (1 + 5**0.5) * index
    ring = np.sqrt(1 - height**2)
    return np.column_stack([height, ring * np.cos(turn), ring * np.sin(turn)])


_COMPASS = _compass()
