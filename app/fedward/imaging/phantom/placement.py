"""Where a nodule may lie: touching a vessel, against the pleura, or on its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedward.imaging.phantom.anatomy import Anatomy
from fedward.imaging.phantom.grid import Grid
from fedward.imaging.phantom.plan import NodulePlan
from fedward.imaging.phantom.vessels import Points, Vessels

#: How many places are tried for each nodule, and how many of the best are given.
TRIALS, SHORTLIST = 500, 60

#: Free space between two nodules, mm.
GAP_MM = 9.0


def rank_places(
    plan: NodulePlan,
    anatomy: Anatomy,
    vessels: Vessels,
    grid: Grid,
    *,
    taken: Sequence[tuple[Points, float]],
    rng: np.random.Generator,
) -> Points:
    """Give centres for a nodule, shape (n, 3) as (z, y, x) mm, those first that break the fewest rules by the least.

    Args:
        plan: What the nodule is to be like.
        anatomy: The patient's surfaces.
        vessels: The lungs' trees.
        grid: The patient's grid.
        taken: Centre and radius (mm) of the nodules that are there already.
        rng: Draws the candidates.
    """
    radius = plan.diameter_mm / 2
    candidates = _candidates(plan, anatomy, vessels, grid, rng)
    index = grid.index_of(candidates)
    depth = anatomy.lung[index].astype(np.float64)
    fault = np.maximum(0, np.abs(candidates[:, 0]) + radius + 7 - grid.half_mm[0]) * 20
    fault += np.maximum(0, candidates[:, 0] * (1 if plan.lower else -1)) * 0.5
    for centre, other in taken:
        distance = np.linalg.norm(candidates - centre, axis=1)
        fault += np.maximum(0, 1.3 * (radius + other) + GAP_MM - distance) * 20
    if plan.place == "juxta_pleural":
        fault += np.abs(depth - 0.72 * radius) + np.maximum(0, anatomy.cavity[index] - radius - 5)
        return np.asarray(candidates[np.argsort(fault, kind="stable")[:SHORTLIST]])
    fault += np.maximum(0, 1.1 * radius + 1 - depth) * 4
    fault += np.maximum(0, anatomy.organ[index] + radius + 8)
    best = np.argsort(fault, kind="stable")[:SHORTLIST]
    # A nodule lies beside its vessel, not astride a whole bundle; an isolated one has free space around it.
    clear = 0.4 * radius if plan.place == "juxta_vascular" else 1.1 * radius + 1
    fault[best] += np.maximum(0, clear - vessels.distance_mm(candidates[best]))
    return np.asarray(candidates[best[np.argsort(fault[best], kind="stable")]])


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
