"""NIfTI files: images and labels of a public set, masks beside a DICOM archive, and what ``data convert`` writes."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from fedward.errors import SeriesRefused
from fedward.files import whole_file

Affine = NDArray[np.float64]
#: A NIfTI-1 header with its (empty) extension, as SimpleITK writes it.
_HEADER_BYTES = 352


@dataclass(frozen=True)
class NiftiShape:
    """What a NIfTI header says: ``(slice, row, column)`` of its shape and of its spacing in mm."""

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]


def read_shape(path: Path) -> NiftiShape:
    """Read a NIfTI file's header alone.

    Raises:
        SeriesRefused: ``unreadable`` or ``not_a_volume``.
    """
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise SeriesRefused("unreadable", f"{path.name} is not a readable NIfTI file") from error
    _refuse_other_than_3d(path, reader.GetDimension(), reader.GetNumberOfComponents())
    columns, rows, slices = reader.GetSize()
    spacing = reader.GetSpacing()
    return NiftiShape((slices, rows, columns), (spacing[2], spacing[1], spacing[0]))


def read_nifti(path: Path) -> tuple[NDArray[np.generic], Affine]:
    """Read a NIfTI file: its array ``(slice, row, column)`` and the 4x4 affine from that index to LPS mm.

    Values that are not finite (a background of NaN) become 0.

    Raises:
        SeriesRefused: ``unreadable`` or ``not_a_volume``.
    """
    try:
        image = SimpleITK.ReadImage(str(path))
    except RuntimeError as error:
        raise SeriesRefused("unreadable", f"{path.name} is not a readable NIfTI file") from error
    _refuse_other_than_3d(path, image.GetDimension(), image.GetNumberOfComponentsPerPixel())
    return SimpleITK.GetArrayFromImage(image), affine_of(image)


def _refuse_other_than_3d(path: Path, dimensions: int, components: int) -> None:
    if dimensions != 3 or components != 1:
        found = f"{dimensions} axes with {components} value(s) a voxel"
        raise SeriesRefused("not_a_volume", f"{path.name}: expected three axes and one value a voxel, found {found}")


def affine_of(image: SimpleITK.Image) -> Affine:
    """Give the affine from ``(slice, row, column)`` to LPS mm; SimpleITK itself counts ``(column, row, slice)``."""
    directions = np.array(image.GetDirection(), dtype=np.float64).reshape(3, 3) * np.array(image.GetSpacing())
    affine = np.eye(4)
    affine[:3, :3] = directions[:, ::-1]
    affine[:3, 3] = image.GetOrigin()
    return affine


def write_nifti(path: Path, array: NDArray[np.generic], affine: Affine) -> None:
    """Write an array ``(slice, row, column)`` with its place in the patient to a ``.nii.gz``, whole or not at all.

    Raises:
        StoreError: the disk cannot take it.
    """
    image = SimpleITK.GetImageFromArray(array)
    steps = affine[:3, 2::-1]
    spacing = np.linalg.norm(steps, axis=0)
    image.SetSpacing([float(value) for value in spacing])
    image.SetDirection([float(value) for value in (steps / spacing).ravel()])
    image.SetOrigin([float(value) for value in affine[:3, 3]])
    with whole_file(path) as temporary:
        try:
            SimpleITK.WriteImage(image, str(temporary))
        except RuntimeError as error:
            raise OSError(errno.EIO, "the image could not be written") from error
        if _unpacked_size(temporary) != (_HEADER_BYTES + array.nbytes) % 2**32:
            raise OSError(errno.ENOSPC, "the disk is full, or the size of files is limited")


def _unpacked_size(path: Path) -> int:
    """Give what the end of a gzip file says of its content (RFC 1952, ISIZE); SimpleITK hides a write that fails."""
    if path.stat().st_size < 4:
        return -1
    with path.open("rb") as file:
        file.seek(-4, os.SEEK_END)
        return int.from_bytes(file.read(4), "little")
