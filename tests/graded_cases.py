"""A hospital whose balls come in two grades, small dull ones and large bright ones, and a DICOM series of both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from pydicom.dataset import FileDataset

from dicom_series import Place, Written, write_series
from fedward.randomness import Seeded

#: Of a ball of each class: radius in mm and HU.
GRADES = {"benign": (5.0, -250.0), "malignant": (8.0, 150.0)}
SHAPE, SPACING_MM = (20, 20, 20), 2.0


def ball(centre: NDArray[np.float64], radius_mm: float, shape: tuple[int, int, int] = SHAPE) -> NDArray[np.bool_]:
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    return np.asarray(np.linalg.norm((index - centre) * SPACING_MM, axis=-1) <= radius_mm)


def write_graded_archive(folder: Path, *, patients: int) -> None:
    """Write NIfTI blocks of noise with one ball each, its grade by turns; the label's value is the grade."""
    generator = Seeded(7).generator("graded")
    for patient in range(patients):
        grade = patient % 2
        radius_mm, value = list(GRADES.values())[grade]
        inside = ball(generator.uniform(6, 14, 3), radius_mm)
        image = np.where(inside, value, -700) + generator.normal(0, 30, SHAPE)
        for kind, array in (("images", image.astype(np.float32)), ("labels", inside.astype(np.uint8) * (grade + 1))):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            picture = SimpleITK.GetImageFromArray(array)
            picture.SetSpacing((SPACING_MM,) * 3)
            SimpleITK.WriteImage(picture, str(folder / kind / f"graded{patient:02d}.nii.gz"))


def write_graded_series(
    folder: Path, centres: dict[str, tuple[float, float, float]]
) -> tuple[Written, NDArray[np.uint8]]:
    """Write one DICOM series with a ball of each named grade; give it and the grade of every voxel, counted from 1."""
    shape = (24, 40, 40)
    truth = np.zeros(shape, np.uint8)
    image = np.random.default_rng(3).normal(-700, 30, shape)
    for number, (grade, (radius_mm, value)) in enumerate(GRADES.items(), start=1):
        if grade in centres:
            inside = ball(np.array(centres[grade]), radius_mm, shape)
            image[inside] += value + 700
            truth[inside] = number

    def draw(number: int, slice_: FileDataset) -> None:
        slice_.PixelData = np.rint(image[number] + 24).astype("<i2").tobytes()

    place = Place(spacing_mm=(SPACING_MM,) * 3)
    return write_series(folder, count=shape[0], size=shape[1:], place=place, edit=draw), truth
