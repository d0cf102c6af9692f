"""A slice as it is shown: turned the way that radiologists hang it, with the patient's sides named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fedward.dicom.volume import Volume
from fedward.evaluation.axes import SlicePoint
from fedward.inference.findings import PatientPoint

T = TypeVar("T", bound=np.generic)

#: Letters of the patient's axes (LPS), (towards plus, towards minus).
_LETTERS = (("L", "R"), ("P", "A"), ("H", "F"))

#: A direction that is tilted further than this (its sine) is named by two letters.
_TILT = 0.35

#: What points right, and what points down, on a light box: the patient's left or back; the back or the feet.
_HANGS_RIGHT = np.array([1.0, 1.0, 1.0])
_HANGS_DOWN = np.array([1.0, 1.0, -1.0])


@dataclass(frozen=True, eq=False)
class Plane:
    """How every slice of a volume is shown.

    Attributes:
        affine: 4x4, voxel ``(slice, row, column)`` to patient LPS mm.
        shape: ``(row, column)``.
        row_mm: Height of a pixel.
        column_mm: Width of a pixel.
        flip_rows: Whether the first row is shown at the bottom.
        flip_columns: Whether the first column is shown on the right.
    """

    affine: NDArray[np.float64]
    shape: tuple[int, int]
    row_mm: float
    column_mm: float
    flip_rows: bool
    flip_columns: bool

    @classmethod
    def of(cls, volume: Volume) -> Plane:
        """Decide how the slices of ``volume`` hang."""
        _, row_mm, column_mm = volume.spacing_mm
        _, rows, columns = volume.array.shape
        return cls(
            affine=volume.affine,
            shape=(rows, columns),
            row_mm=row_mm,
            column_mm=column_mm,
            flip_rows=_points_against(volume.affine[:3, 1], _HANGS_DOWN),
            flip_columns=_points_against(volume.affine[:3, 2], _HANGS_RIGHT),
        )

    def shown(self, pixels: NDArray[T]) -> NDArray[T]:
        """Turn a slice, shape ``(row, column)``, as it hangs."""
        rows = slice(None, None, -1 if self.flip_rows else 1)
        columns = slice(None, None, -1 if self.flip_columns else 1)
        return pixels[rows, columns]

    def place(self, point: PatientPoint) -> SlicePoint:
        """Give the shown ``(row, column)`` of a place in the patient; whole numbers are pixel centres."""
        _, row, column, _ = np.linalg.solve(self.affine, [*point, 1.0])
        rows, columns = self.shape
        return (
            float(rows - 1 - row if self.flip_rows else row),
            float(columns - 1 - column if self.flip_columns else column),
        )

    @property
    def sides(self) -> tuple[str, str, str, str]:
        """Name the patient's sides at the picture's left, right, top and bottom."""
        right = self.affine[:3, 2] * (-1 if self.flip_columns else 1)
        down = self.affine[:3, 1] * (-1 if self.flip_rows else 1)
        return side_of(-right), side_of(right), side_of(-down), side_of(down)


def side_of(direction: NDArray[np.float64]) -> str:
    """Name the side of the patient that a direction (LPS) points to; a tilted one by two letters.

    Example:
        >>> side_of(np.array([-1.0, 0.0, 0.0])), side_of(np.array([0.0, 0.7, 0.7]))
        ('R', 'PH')
    """
    unit = direction / np.linalg.norm(direction)
    order = np.argsort(-np.abs(unit), kind="stable")
    named = [axis for axis in order[:2] if abs(unit[axis]) > _TILT]
    return "".join(_LETTERS[axis][int(unit[axis] < 0)] for axis in named)


def _points_against(direction: NDArray[np.float64], hangs: NDArray[np.float64]) -> bool:
    axis = int(np.abs(direction).argmax())
    return bool(direction[axis] * hangs[axis] < 0)
