"""What is drawn over a grey slice: outlines, callipers and frames, in the picture's own units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedward.inference.findings import Lesion, PatientPoint
from fedward.report.codes import colour_of
from fedward.report.planes import Plane

#: The width of every picture in its own units.
WIDTH = 1000.0


@dataclass(frozen=True)
class Crop:
    """A part of the shown slice, in pixels, and how it fills a picture."""

    top: int
    left: int
    rows: int
    columns: int
    row_mm: float
    column_mm: float

    @property
    def unit_per_mm(self) -> float:
        """How many picture units a millimetre takes."""
        return WIDTH / (self.columns * self.column_mm)

    def x(self, column: float) -> float:
        """Give the place of a column's left edge; add 0.5 for its centre."""
        return round((column - self.left) * self.column_mm * self.unit_per_mm, 1)

    def y(self, row: float) -> float:
        """Give the place of a row's upper edge; add 0.5 for its centre."""
        return round((row - self.top) * self.row_mm * self.unit_per_mm, 1)


@dataclass(frozen=True)
class Outline:
    """The border of lesion ``number`` as an SVG path, with its colour and the place of its number."""

    number: int
    path: str
    colour: str
    label_x: float
    label_y: float


@dataclass(frozen=True)
class Line:
    """One calliper."""

    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True)
class Rectangle:
    """Where the close-up lies."""

    x: float
    y: float
    width: float
    height: float


def outline(number: int, mask: NDArray[np.bool_], crop: Crop) -> Outline:
    """Outline lesion ``number``, whose voxels in the crop are ``mask``: at least one."""
    rows = np.flatnonzero(mask.any(axis=1))
    columns = np.flatnonzero(np.any(mask, axis=0))
    return Outline(
        number=number,
        path=_path(mask, crop),
        colour="#{:02x}{:02x}{:02x}".format(*colour_of(number)),
        label_x=crop.x(crop.left + int(columns[-1]) + 1),
        label_y=crop.y(crop.top + int(rows[0])),
    )


def _path(mask: NDArray[np.bool_], crop: Crop) -> str:
    """Draw the voxels' own edges between inside and outside: nothing is smoothed."""
    padded = np.pad(mask, 1)
    across = padded[:-1, 1:-1] != padded[1:, 1:-1]
    down = padded[1:-1, :-1] != padded[1:-1, 1:]
    parts = [
        f"M{crop.x(crop.left + start)} {crop.y(crop.top + row)}H{crop.x(crop.left + stop)}"
        for row, start, stop in _runs(across)
    ]
    parts += [
        f"M{crop.x(crop.left + column)} {crop.y(crop.top + start)}V{crop.y(crop.top + stop)}"
        for column, start, stop in _runs(down.T)
    ]
    return "".join(parts)


def _runs(edges: NDArray[np.bool_]) -> list[tuple[int, int, int]]:
    """Give every unbroken run of true values as (line, start, stop)."""
    steps = np.diff(np.pad(edges.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    starts, stops = np.argwhere(steps == 1), np.argwhere(steps == -1)
    return [(int(line), int(start), int(stop[1])) for (line, start), stop in zip(starts, stops, strict=True)]


def callipers(lesion: Lesion, plane: Plane, crop: Crop) -> tuple[Line, ...]:
    """Draw the lesion's long and short axis."""
    return tuple(_line(ends, plane, crop) for ends in (lesion.long_axis_ends_mm, lesion.short_axis_ends_mm))


def _line(ends: tuple[PatientPoint, PatientPoint], plane: Plane, crop: Crop) -> Line:
    (row1, column1), (row2, column2) = (plane.place(end) for end in ends)
    return Line(crop.x(column1 + 0.5), crop.y(row1 + 0.5), crop.x(column2 + 0.5), crop.y(row2 + 0.5))


def rectangle(frame: Crop, crop: Crop) -> Rectangle:
    """Draw where ``frame`` lies in ``crop``."""
    x, y = crop.x(frame.left), crop.y(frame.top)
    return Rectangle(x, y, crop.x(frame.left + frame.columns) - x, crop.y(frame.top + frame.rows) - y)
