"""One phantom patient: anatomy, vessels and nodules put together and scanned."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from fedward.imaging.phantom import anatomy as surfaces
from fedward.imaging.phantom import nodules as lesions
from fedward.imaging.phantom import skeleton
from fedward.imaging.phantom import vessels as trees
from fedward.imaging.phantom.grid import BoolArray, FloatArray, Grid
from fedward.imaging.phantom.nodules import Nodule
from fedward.imaging.phantom.plan import PatientPlan
from fedward.imaging.phantom.scanner import scan
from fedward.imaging.phantom.vessels import Vessels
from fedward.randomness import Seeded
from fedward.settings.phantom import PhantomHospital


@dataclass(frozen=True, eq=False)
class Patient:
    """A scanned patient with all that is true about it.

    Attributes:
        plan: What was asked for.
        grid: The scan's grid.
        image: HU, shape ``grid.shape``, axes (towards the head, towards the back, towards the patient's left).
        lung: Inside either lung, vessels and nodules included.
        nodules: In the order they were placed.
        vessels: Both lungs' trees.
    """

    plan: PatientPlan
    grid: Grid
    image: FloatArray
    lung: BoolArray
    nodules: tuple[Nodule, ...]
    vessels: Vessels

    @property
    def truth(self) -> BoolArray:
        """The voxels of all nodules, on the grid."""
        return self.truth_of(self.nodules)

    def truth_of(self, nodules: Iterable[Nodule]) -> BoolArray:
        """The voxels of some of the nodules, on the grid."""
        mask = np.zeros(self.grid.shape, bool)
        for nodule in nodules:
            mask[nodule.box] |= nodule.mask
        return mask


def draw_patient(plan: PatientPlan, profile: PhantomHospital, randomness: Seeded) -> Patient:
    """Draw and scan one patient; the same seed gives the same voxels."""

    def rng(part: str) -> np.random.Generator:
        return randomness.generator("patient", plan.patient_id, part)

    protocol = profile.protocol
    spacing = (protocol.slice_increment_mm, protocol.pixel_spacing_mm, protocol.pixel_spacing_mm)
    grid = Grid((protocol.slices, protocol.matrix, protocol.matrix), spacing)
    anatomy = surfaces.draw_anatomy(grid, body_scale=profile.body_scale, rng=rng("anatomy"))
    vessels = trees.grow_vessels(anatomy, grid, rng("vessels"))
    nodules = lesions.place_nodules(plan.nodules, anatomy, vessels, grid, rng("nodules"))
    image = surfaces.tissue(anatomy, grid, contrast_hu=profile.protocol.contrast_hu, rng=rng("tissue"))
    skeleton.add_bones(image, anatomy, grid, rng("bones"))
    skeleton.add_table(image, anatomy, grid, profile.scanner.table)
    blood = surfaces.BLOOD + protocol.contrast_hu
    trees.add_airways(image, vessels, anatomy, grid, wall_hu=surfaces.MUSCLE - 30)
    density = rng("density")
    lesions.add_ground_glass(image, nodules, density)
    trees.add_vessels(image, vessels, grid, blood)
    lesions.add_solid(image, nodules, density)
    return Patient(
        plan=plan,
        grid=grid,
        image=scan(image, grid, protocol, rng("scanner")),
        lung=anatomy.lung > 0,
        nodules=nodules,
        vessels=vessels,
    )
