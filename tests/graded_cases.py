"""A hospital whose balls come in two grades, small dull ones and large bright ones, and a DICOM series of both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK
import torch
from numpy.typing import NDArray
from pydicom.dataset import FileDataset

from dicom_series import Place, Written, write_series
from fedward.inference.model import LoadedModel
from fedward.models.multitask_densenet3d import MultiTaskAnswer
from fedward.randomness import Seeded
from fedward.settings.job import Input, Window
from fedward.settings.tasks import AnyTask, MultiTask, Segmentation
from model_cases import facts_of

#: Of a ball of each class: radius in mm and HU.
GRADES = {"benign": (5.0, -250.0), "malignant": (8.0, 150.0)}
SHAPE, SPACING_MM = (20, 20, 20), 2.0


def ball(centre: NDArray[np.float64], radius_mm: float, shape: tuple[int, int, int] = SHAPE) -> NDArray[np.bool_]:
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    return np.asarray(np.linalg.norm((index - centre) * SPACING_MM, axis=-1) <= radius_mm)


def write_graded_archive(folder: Path, *, patients: int, mislabelled: frozenset[int] = frozenset()) -> None:
    """Write NIfTI blocks of noise with one ball each, its grade by turns; the label's value is the grade.

    Of the patients ``mislabelled`` the label says the other grade.
    """
    generator = Seeded(7).generator("graded")
    for patient in range(patients):
        grade = patient % 2
        radius_mm, height = list(GRADES.values())[grade]
        inside = ball(generator.uniform(6, 14, 3), radius_mm)
        image = np.where(inside, height, -700) + generator.normal(0, 30, SHAPE)
        label = 2 - grade if patient in mislabelled else 1 + grade
        for kind, array in (("images", image.astype(np.float32)), ("labels", inside.astype(np.uint8) * label)):
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


class BrightIsMalignant(torch.nn.Module):
    """Marks what is bright as a lesion, and is far too sure that a bright middle of the window is malignant."""

    def forward(self, windows: torch.Tensor) -> MultiTaskAnswer:
        first, second, third = (size // 2 for size in windows.shape[2:])
        middle = windows[:, 0, first, second, third]
        voxels = torch.cat([torch.zeros_like(windows), 40 * (windows - 0.4), torch.full_like(windows, -9.0)], dim=1)
        return MultiTaskAnswer(voxels, 60 * (middle - 0.7), 10 * middle, torch.zeros(3))


class BrightMiddle(torch.nn.Module):
    """A classifier that is too sure of its window's middle."""

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        logit = BrightIsMalignant()(windows).malignancy
        return torch.stack([torch.zeros_like(logit), logit], dim=1)


class BrightBall(torch.nn.Module):
    """A classifier of whole images that is too sure of their brightest voxels."""

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        logit = 60 * (windows.flatten(1).quantile(0.999, dim=1) - 0.7)
        return torch.stack([torch.zeros_like(logit), logit], dim=1)


class Bright(torch.nn.Module):
    """A segmentation of what is bright."""

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        return BrightIsMalignant()(windows).segmentation[:, :2]


def grading_model(network: torch.nn.Module, task: AnyTask | None = None, *, name: str = "grades") -> LoadedModel:
    """Give a model that needs no training; HU -1000 to 400 are 0 to 1, so a dull ball has 0.54, a bright one 0.82."""
    return LoadedModel(
        facts=facts_of(name, model_sha256=("ab" if name == "grades" else "cd") * 32, signature_verified=True),
        network=network,
        input=Input(modality="CT", spacing_mm=(2, 2, 2), intensity=Window(kind="window", low=-1000, high=400)),
        task=task or MultiTask(kind="multitask", classes=tuple(GRADES), minimum_lesion_mm=4.0),
        patch_size=(16, 16, 16),
    )


def bright_detector() -> LoadedModel:
    """Give a detector of bright balls."""
    task = Segmentation(kind="segmentation", classes=("nodule",), measure="lesion_dice", minimum_lesion_mm=4.0)
    return grading_model(Bright(), task, name="detector")
