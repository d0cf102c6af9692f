"""From a labelled volume to lesions: connected, measured, numbered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fedward.dicom.volume import Volume
from fedward.evaluation.axes import SlicePoint
from fedward.evaluation.regions import Region, find_regions
from fedward.inference.findings import Findings, Lesion, PatientPoint
from fedward.randomness import Secret
from fedward.settings.job import Segmentation

#: More regions than a person reads, or than one byte numbers: the largest are listed, the others are counted.
MAXIMUM_LESIONS = 100


@dataclass(frozen=True, eq=False)
class Inference:
    """What was found, and where.

    Attributes:
        findings: The measured lesions.
        lesion_map: Shape ``(slice, row, column)`` of the volume, uint8, read-only: 0 background, k lesion number k.
    """

    findings: Findings
    lesion_map: NDArray[np.uint8]


def find_lesions(
    labels: NDArray[np.uint8],
    probability: NDArray[np.floating],
    volume: Volume,
    *,
    task: Segmentation,
    randomness: Secret,
) -> Inference:
    """Find and measure every region that the task counts as found.

    Args:
        labels: Shape of the volume; 0 background, k the k-th of the task's classes.
        probability: Same shape, the foreground's probability in [0, 1].
        volume: The image.
        task: See :func:`fedward.evaluation.regions.find_regions`.
        randomness: Draws the tracking UIDs.

    Raises:
        ValueError: the shapes differ.
    """
    if not labels.shape == probability.shape == volume.array.shape:
        raise ValueError(f"labels and probability must lie on the volume's grid, got {labels.shape}")
    regions = sorted(
        find_regions(labels, probability, affine=volume.affine, task=task),
        key=lambda region: (-region.axes.long_mm, -region.mask.sum()),
    )
    listed = regions[:MAXIMUM_LESIONS]
    lesion_map = np.zeros(labels.shape, dtype=np.uint8)
    for number, region in enumerate(listed, start=1):
        lesion_map[region.box][region.mask] = number
    lesion_map.setflags(write=False)
    findings = Findings(
        study_instance_uid=volume.study_instance_uid,
        series_instance_uid=volume.series_instance_uid,
        task="segmentation",
        kind="structures" if task.measure == "dice" else "lesions",
        minimum_lesion_mm=task.minimum_lesion_mm,
        minimum_probability=task.minimum_probability,
        lesions=tuple(
            _lesion(number, region, volume, task=task, tracking_uid=new_uid(randomness))
            for number, region in enumerate(listed, start=1)
        ),
        left_out=len(regions) - len(listed),
    )
    return Inference(findings, lesion_map)


def lesion_cores(lesion_map: NDArray[np.uint8], affine: NDArray[np.float64]) -> tuple[PatientPoint, ...]:
    """Give, for each lesion in order, the place of its own voxel that lies nearest to its centre, LPS mm.

    The centre itself may lie outside: that of a crescent does.
    """
    cores = []
    for number, box in enumerate(ndimage.find_objects(lesion_map), start=1):
        voxels = np.argwhere(lesion_map[box] == number) + [side.start for side in box]
        places = voxels @ affine[:3, :3].T + affine[:3, 3]
        nearest = int(np.square(places - places.mean(axis=0)).sum(axis=1).argmin())
        x, y, z = (float(value) for value in places[nearest])
        cores.append((x, y, z))
    return tuple(cores)


def new_uid(randomness: Secret) -> str:
    """Give a new DICOM UID below 2.25 (PS3.5 B.2), from 128 random bits."""
    return f"2.25.{int(randomness.token(), 16)}"


def _lesion(
    number: int,
    region: Region,
    volume: Volume,
    *,
    task: Segmentation,
    tracking_uid: str,
) -> Lesion:
    origin = np.array([side.start for side in region.box])
    voxels = np.argwhere(region.mask)
    slices = voxels[:, 0] + origin[0]
    key_slice = int(region.key_slice + origin[0])
    axes = region.axes

    def ends_mm(ends: tuple[SlicePoint, SlicePoint]) -> tuple[PatientPoint, PatientPoint]:
        first, second = (
            _in_patient((key_slice, row + origin[1], column + origin[2]), volume.affine, digits=2)
            for row, column in ends
        )
        return first, second

    return Lesion(
        number=number,
        class_name=task.classes[region.class_index],
        tracking_uid=tracking_uid,
        volume_mm3=round(len(voxels) * volume.voxel_volume_mm3),
        long_axis_mm=round(axes.long_mm, 1),
        short_axis_mm=round(axes.short_mm, 1),
        mean_diameter_mm=round((axes.long_mm + axes.short_mm) / 2, 1),
        centre_mm=_in_patient(voxels.mean(axis=0) + origin, volume.affine, digits=1),
        slice_number=key_slice + 1,
        first_slice=int(slices.min()) + 1,
        last_slice=int(slices.max()) + 1,
        sop_instance_uid=volume.sop_instance_uids[key_slice] if volume.sop_instance_uids else None,
        mean_probability=round(region.mean_probability, 3),
        long_axis_ends_mm=ends_mm(axes.long_ends),
        short_axis_ends_mm=ends_mm(axes.short_ends),
    )


def _in_patient(
    index: NDArray[np.float64] | tuple[float, float, float], affine: NDArray[np.float64], *, digits: int
) -> PatientPoint:
    x, y, z = affine[:3, :3] @ np.asarray(index) + affine[:3, 3]
    return round(float(x), digits), round(float(y), digits), round(float(z), digits)
