"""The lungs' vessels: trees that branch from the hila into the whole lung, and the bronchi beside them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedward.imaging.phantom.anatomy import AIR, Anatomy
from fedward.imaging.phantom.grid import FloatArray, Grid, blend

Points = NDArray[np.float64]

#: The widest vessel, mm.
LARGEST_DIAMETER_MM = 8.0

#: Murray's law: the parent's radius to this power is the sum over the children's (Murray 1926).
MURRAY = 3.0

#: Where a tree leaves its hilum, (z, y, x) mm from the middle: the veins below and in front of the arteries.
ARTERY_ROOT, VEIN_ROOT = np.array([7.0, 3.0, 0.0]), np.array([-12.0, -5.0, 0.0])

#: Branch ends (targets) of each of the two trees of a lung.
TARGETS = 84

#: Straight pieces that a curved branch is drawn with.
PIECES = 3


@dataclass(frozen=True, eq=False)
class Vessels:
    """Every branch of every tree as a chain of straight tapering pieces.

    Attributes:
        start: Shape (piece, 3), (z, y, x) mm.
        end: Likewise.
        start_radius: Shape (piece,), mm.
        end_radius: Likewise.
        branch: Shape (piece,): the branch that a piece belongs to.
        parent: Shape (branch,): the branch that a branch leaves, -1 at a hilum.
        arterial: Shape (piece,): part of an artery, which a bronchus goes with.
    """

    start: Points
    end: Points
    start_radius: NDArray[np.float64]
    end_radius: NDArray[np.float64]
    branch: NDArray[np.intp]
    parent: NDArray[np.intp]
    arterial: NDArray[np.bool_]

    def distance_mm(self, points: Points) -> NDArray[np.float64]:
        """Give the distance from points, shape (n, 3) mm, to the nearest vessel's wall (negative inside)."""
        axis = self.end - self.start
        offset = points[:, None] - self.start
        along = np.clip((offset * axis).sum(-1) / np.maximum((axis * axis).sum(-1), 1e-6), 0, 1)
        gap = np.linalg.norm(offset - along[..., None] * axis, axis=-1)
        radius = self.start_radius + along * (self.end_radius - self.start_radius)
        return np.asarray((gap - radius).min(axis=1))


@dataclass(frozen=True, eq=False)
class _Bud:
    """A branch about to grow: where from, which way, into which targets, out of which branch."""

    position: Points
    direction: Points
    targets: Points
    parent: int


def grow_vessels(anatomy: Anatomy, grid: Grid, rng: np.random.Generator) -> Vessels:
    """Grow an artery and a vein tree in each lung; each branch divides the targets that it still has to reach."""
    branches: list[tuple[Points, NDArray[np.float64]]] = []
    parents: list[int] = []
    arterial: list[bool] = []
    for side, hilum in zip((-1, 1), anatomy.hila, strict=True):
        space = _lung_points(anatomy, grid, side)
        for is_artery in (True, False):
            targets = space[rng.choice(len(space), TARGETS, replace=False)]
            root = np.array(hilum) + (ARTERY_ROOT if is_artery else VEIN_ROOT) + rng.normal(0, 3, 3)
            radius = LARGEST_DIAMETER_MM / 2 * rng.uniform(0.85, 1)
            buds = [_Bud(root, np.array([0.0, 0.0, float(side)]), targets, -1)]
            while buds:
                _grow(buds, branches, parents, scale=radius / TARGETS ** (1 / MURRAY), rng=rng)
            arterial += [is_artery] * (len(branches) - len(arterial))
    chains = [branch[0] for branch in branches]
    radii = [branch[1] for branch in branches]
    return Vessels(
        start=np.concatenate([chain[:-1] for chain in chains]),
        end=np.concatenate([chain[1:] for chain in chains]),
        start_radius=np.concatenate([radius[:-1] for radius in radii]),
        end_radius=np.concatenate([radius[1:] for radius in radii]),
        branch=np.repeat(np.arange(len(branches)), PIECES),
        parent=np.array(parents),
        arterial=np.repeat(arterial, PIECES),
    )


def add_vessels(image: FloatArray, vessels: Vessels, grid: Grid, hu: float) -> None:
    """Draw the vessels into ``image`` (HU), in place."""
    share = np.zeros(grid.shape, np.float32)
    for start, end, *radii in zip(vessels.start, vessels.end, vessels.start_radius, vessels.end_radius, strict=True):
        draw_tube(share, grid, (start, end), (radii[0], radii[1]))
    blend(image, share, hu)


def add_airways(image: FloatArray, vessels: Vessels, anatomy: Anatomy, grid: Grid, wall_hu: float) -> None:
    """Draw windpipe, main bronchi and a bronchus along every wide artery, each with its wall, in place."""
    fork = np.array([max(hilum[0] for hilum in anatomy.hila) + 16, 6.0, 0.0])
    top = np.array([grid.half_mm[0] + 20, 2.0, 0.0])
    tubes = [((top, fork), (8.5, 8.5))]
    tubes += [((fork, np.array(hilum) + np.array([0.0, 6.0, 0.0])), (6.5, 5.0)) for hilum in anatomy.hila]
    for piece in np.flatnonzero(vessels.arterial & (vessels.end_radius > 1.6)):
        radii = vessels.start_radius[piece] * 0.85, vessels.end_radius[piece] * 0.85
        ends = vessels.start[piece], vessels.end[piece]
        beside = np.array([0.3, 0.85, 0.3])
        shifted = [end + beside * (radius / 0.85 + radius + 0.4) for end, radius in zip(ends, radii, strict=True)]
        tubes.append(((shifted[0], shifted[1]), (float(radii[0]), float(radii[1]))))
    wall, lumen = np.zeros(grid.shape, np.float32), np.zeros(grid.shape, np.float32)
    for tube, outer in tubes:
        draw_tube(wall, grid, tube, outer)
        draw_tube(lumen, grid, tube, (0.85 * outer[0] - 0.35, 0.85 * outer[1] - 0.35))
    blend(image, wall, wall_hu)
    blend(image, lumen, AIR)


def draw_tube(share: FloatArray, grid: Grid, ends: tuple[Points, Points], radii: tuple[float, float]) -> None:
    """Raise ``share`` to the part of each voxel inside a tapering tube with round ends, in place."""
    spacing = np.array(grid.spacing_mm)
    reach = max(radii) + spacing
    box = grid.box(np.minimum(*ends) - reach, np.maximum(*ends) + reach)
    if box is None:
        return
    z, y, x = (axis - np.float32(c) for axis, c in zip(grid.axes(box), ends[0], strict=True))
    axis = (ends[1] - ends[0]).astype(np.float32)
    along = np.clip((z * axis[0] + y * axis[1] + x * axis[2]) / max(float(axis @ axis), 1e-6), 0, 1)
    z, y, x = z - along * axis[0], y - along * axis[1], x - along * axis[2]
    squares = z * z, y * y, x * x
    distance2 = squares[0] + squares[1] + squares[2] + np.float32(1e-3)
    # A voxel's width as seen from the tube's axis: what a thick slice blurs depends on the direction.
    width2 = sum(square * np.float32(s * s) for square, s in zip(squares, spacing, strict=True)) / distance2
    width2 = np.maximum(width2, np.float32(spacing.min() ** 2))
    radius = np.float32(radii[0]) + along * np.float32(radii[1] - radii[0])
    inside = np.clip((radius - np.sqrt(distance2)) / np.sqrt(width2) + np.float32(0.5), 0, 1)
    inside *= np.minimum(np.pi * radius * radius / width2, 1)
    np.maximum(share[box], inside, out=share[box])


def _lung_points(anatomy: Anatomy, grid: Grid, side: int) -> Points:
    """Points of one lung (side -1 right, 1 left) at least 3.5 mm below the pleura, shape (n, 3) mm."""
    step = tuple(max(1, round(4 / s)) for s in grid.spacing_mm)
    field = anatomy.lung[:: step[0], :: step[1], :: step[2]]
    z, y, x = (axis.ravel()[::s] for axis, s in zip(grid.axes(), step, strict=True))
    inside = np.argwhere((field > 3.5) & (side * x > 0)[None, None, :])
    return np.column_stack([z[inside[:, 0]], y[inside[:, 1]], x[inside[:, 2]]]).astype(np.float64)


def _grow(
    buds: list[_Bud],
    branches: list[tuple[Points, NDArray[np.float64]]],
    parents: list[int],
    *,
    scale: float,
    rng: np.random.Generator,
) -> None:
    """Turn the last bud into a branch, and its targets into up to two new buds."""
    bud = buds.pop()
    count = len(bud.targets)
    aim = bud.targets.mean(axis=0) - bud.position
    way = aim if count == 1 else aim * rng.uniform(0.36, 0.5)
    end = bud.position + way
    chain = _bend(bud.position, end, bud.direction, rng)
    radius = scale * count ** (1 / MURRAY)
    branches.append((chain, np.linspace(1, 0.88 if count > 1 else 0.5, PIECES + 1) * radius))
    parents.append(bud.parent)
    if count > 1:
        direction = _unit(chain[-1] - chain[-2])
        for part in _divide(bud.targets, end, direction, rng):
            buds.append(_Bud(end, direction, part, len(branches) - 1))


def _bend(start: Points, end: Points, direction: Points, rng: np.random.Generator) -> Points:
    """A quadratic curve that leaves along ``direction`` and bends to ``end``, shape (PIECES + 1, 3)."""
    length = float(np.linalg.norm(end - start))
    middle = (start + end) / 2 + 0.22 * length * (direction - _unit(end - start)) + rng.normal(0, 0.05 * length, 3)
    t = np.linspace(0, 1, PIECES + 1)[:, None]
    return np.asarray((1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t**2 * end)


def _divide(targets: Points, position: Points, direction: Points, rng: np.random.Generator) -> list[Points]:
    """Split targets in two by a plane through the branch along their widest spread."""
    across = targets - position
    across = across - np.outer(across @ direction, direction)
    centred = across - across.mean(axis=0)
    order = np.argsort(centred @ np.linalg.eigh(centred.T @ centred)[1][:, -1], kind="stable")
    # Unequal parts make trunks with side branches, as in lungs; equal ones make a bush.
    share = rng.uniform(0.15, 0.45)
    cut = int(np.clip(round(len(targets) * (share if rng.random() < 0.5 else 1 - share)), 1, len(targets) - 1))
    return [targets[order[:cut]], targets[order[cut:]]]


def _unit(vector: Points) -> Points:
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-6))
