"""Nodules in their place: touching a vessel, against the pleura or on their own, with their exact truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedward.imaging.phantom.anatomy import Anatomy
from fedward.imaging.phantom.grid import BoolArray, Box, FloatArray, Grid, coverage
from fedward.imaging.phantom.nodule_shapes import Shape, draw_shape, voxelise
from fedward.imaging.phantom.plan import NodulePlan
from fedward.imaging.phantom.vessels import Points, Vessels

#: How many places are tried for each nodule; the best one is taken.
TRIALS = 500

#: Free space between two nodules, mm.
GAP_MM = 9.0

#: The long axis never exceeds this, mm.
LONGEST_MM = 20.0


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
        centre = _find_place(plan, anatomy, vessels, grid, placed=placed, rng=rng)
        placed.append(_fit(plan, centre, anatomy, grid, rng))
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


def _fit(plan: NodulePlan, centre: Points, anatomy: Anatomy, grid: Grid, rng: np.random.Generator) -> Nodule:
    """Voxelise a nodule and scale it until its truth has the planned volume and is nowhere too long."""
    shape = draw_shape(plan.margin, rng)
    radius = plan.diameter_mm / 2
    nodule = _nodule(plan, shape, centre, radius, anatomy, grid)
    for _ in range(6):
        wanted = plan.diameter_mm / max(nodule.diameter_mm, 1.0)
        allowed = (LONGEST_MM - 0.3) / max(nodule.long_axis_mm, 1.0)
        if abs(wanted - 1) < 0.03 and allowed >= 1:
            break
        radius *= min(wanted, allowed, 1.3)
        nodule = _nodule(plan, shape, centre, radius, anatomy, grid)
        if allowed < wanted and allowed > 0.98:
            break
    return nodule


def _nodule(plan: NodulePlan, shape: Shape, centre: Points, radius: float, anatomy: Anatomy, grid: Grid) -> Nodule:
    box, share = voxelise(shape, grid, centre, radius)
    share *= coverage(anatomy.lung[box], grid.spacing_mm[1])
    core = np.zeros_like(share)
    if plan.density == "part_solid":
        inner, core_share = voxelise(shape, grid, centre + 0.2 * radius * shape.turn[0], 0.5 * radius)
        whole = np.zeros(grid.shape, np.float32)
        whole[inner] = core_share
        core = np.minimum(whole[box], share)
    return Nodule(plan=plan, centre=centre, box=box, share=share, core=core, spacing_mm=grid.spacing_mm)


def _find_place(
    plan: NodulePlan,
    anatomy: Anatomy,
    vessels: Vessels,
    grid: Grid,
    *,
    placed: list[Nodule],
    rng: np.random.Generator,
) -> Points:
    """Give the candidate that breaks the fewest rules by the fewest millimetres."""
    radius = plan.diameter_mm / 2
    candidates = _candidates(plan, anatomy, vessels, grid, rng)
    index = grid.index_of(candidates)
    depth = anatomy.lung[index].astype(np.float64)
    fault = np.maximum(0, np.abs(candidates[:, 0]) + radius + 7 - grid.half_mm[0]) * 20
    fault += np.maximum(0, candidates[:, 0] * (1 if plan.lower else -1)) * 0.5
    for other in placed:
        distance = np.linalg.norm(candidates - other.centre, axis=1)
        fault += np.maximum(0, radius * 1.3 + other.plan.diameter_mm * 0.65 + GAP_MM - distance) * 20
    if plan.place == "juxta_pleural":
        fault += np.abs(depth - 0.72 * radius) + np.maximum(0, anatomy.cavity[index] - radius - 5)
        return np.asarray(candidates[np.argmin(fault)])
    fault += np.maximum(0, 1.1 * radius + 1 - depth) * 4
    fault += np.maximum(0, anatomy.organ[index] + radius + 8)
    best = np.argsort(fault, kind="stable")[:60]
    # A nodule lies beside its vessel, not astride a whole bundle; an isolated one has free space around it.
    clear = 0.4 * radius if plan.place == "juxta_vascular" else 1.1 * radius + 1
    fault[best] += np.maximum(0, clear - vessels.distance_mm(candidates[best]))
    return np.asarray(candidates[best[np.argmin(fault[best])]])


def _candidates(plan: NodulePlan, anatomy: Anatomy, vessels: Vessels, grid: Grid, rng: np.random.Generator) -> Points:
    radius = plan.diameter_mm / 2
    if plan.place == "juxta_vascular":
        wide = np.flatnonzero((vessels.end_radius > 0.7 + 0.3 * radius) & (vessels.start_radius < 0.68 * radius))
        piece = rng.choice(wide, TRIALS)
        along = rng.random((TRIALS, 1))
        point = vessels.start[piece] * (1 - along) + vessels.end[piece] * along
        axis = vessels.end[piece] - vessels.start[piece]
        across = np.cross(axis, rng.normal(size=(TRIALS, 3)))
        across /= np.linalg.norm(across, axis=1, keepdims=True).clip(1e-6)
        return np.asarray(point + across * (0.6 * radius + 0.6 * vessels.end_radius[piece])[:, None])
    inside = np.flatnonzero(anatomy.lung > 1.5)
    z, y, x = np.unravel_index(rng.choice(inside, TRIALS), grid.shape)
    lines = [axis.ravel() for axis in grid.axes()]
    return np.column_stack([lines[0][z], lines[1][y], lines[2][x]]).astype(np.float64)


def _compass() -> Points:
    """About 200 directions evenly over the half sphere (Fibonacci lattice)."""
    index = np.arange(200) + 0.5
    height = 1 - index / 200
    turn = np.pi * (1 + 5**0.5) * index
    ring = np.sqrt(1 - height**2)
    return np.column_stack([height, ring * np.cos(turn), ring * np.sin(turn)])


_COMPASS = _compass()
