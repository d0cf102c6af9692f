"""NIfTI files: images and labels of a public set, masks beside a DICOM archive, and what ``data convert`` writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from fedward.errors import SourceError
from fedward.files import whole_file

Affine = NDArray[np.float64]


def read_nifti(path: Path) -> tuple[NDArray[np.generic], Affine]:
    """Read a NIfTI file: its array ``(slice, row, column)`` and the 4x4 affine from that index to LPS mm.

    Raises:
        SourceError: ``unreadable_source``: it is not a 3-D NIfTI file.
    """
    try:
        image = SimpleITK.ReadImage(str(path))
    except RuntimeError as error:
        raise SourceError("unreadable_source", f"{path.name} is not a readable NIfTI file") from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise SourceError("unreadable_source", f"{path.name}: expected three axes, found {image.GetDimension()}")
    return SimpleITK.GetArrayFromImage(image), affine_of(image)


def affine_of(image: SimpleITK.Image) -> Affine:
    """Give the affine from ``(slice, row, column)`` to LPS mm; SimpleITK itself counts ``(column, row, slice)``."""
    directions = np.array(image.GetDirection(), dtype=np.float64).reshape(3, 3) * np.array(image.GetSpacing())
    affine = np.eye(4)
    affine[:3, :3] = directions[:, ::-1]
    affine[:3, 3] = image.GetOrigin()
    return affine


def write_nifti(path: Path, array: NDArray[np.generic], affine: Affine) -> None:
    """Write an array ``(slice, row, column)`` with its place in the patient, whole or not at all.

    Raises:
        StoreError: the disk cannot take it.
    """
    image = SimpleITK.GetImageFromArray(array)
    steps = affine[:3, 2::-1]
    spacing = np.linalg.norm(steps, axis=0)
    image.SetSpacing([float(value) for value in spacing])
    image.SetDirection([float(value) for value in (steps / spacing).ravel()])
    image.SetOrigin([float(value) for value in affine[:3, 3]])
    with whole_file(path, mode=0o644) as temporary:
        try:
            SimpleITK.WriteImage(image, str(temporary))
        except RuntimeError as error:
            raise OSError(28, "the image could not be written whole") from error
