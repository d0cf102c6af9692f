"""Key slices as values that the page's template draws: a grey image with outlines and callipers over it.

The image travels as a PNG inside the page; what is drawn over it stays vectors, sharp on screen and in print. All
lengths in a :class:`Picture` are in its own units, :data:`fedward.report.overlay.WIDTH` to the picture's width.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedward.dicom.volume import Volume
from fedward.inference.findings import Lesion
from fedward.inference.heat import Explanation, Heat
from fedward.inference.lesions import Inference
from fedward.report.heat_colours import coloured
from fedward.report.overlay import Crop, Line, Outline, Rectangle, callipers, outline, rectangle
from fedward.report.planes import Plane
from fedward.report.png import encode_png
from fedward.report.window import DisplayWindow

#: A page with more lesions shows the largest ones.
MAXIMUM_PICTURED = 12

#: A close-up is this many long axes wide, and at least this many millimetres.
_CLOSE_UP_AXES, _CLOSE_UP_MM = 3.0, 30.0

#: Lengths of scale bars, mm.
_BARS_MM = (1, 2, 5, 10, 20, 50, 100)


@dataclass(frozen=True)
class Picture:
    """One picture.

    Attributes:
        png: Base64 of the grey image.
        height: In units; its width is :data:`fedward.report.overlay.WIDTH`.
        outlines: Every lesion that the picture shows.
        callipers: Long and short axis of the lesion that the picture is about.
        frame: The place of the close-up, None in the close-up itself.
        sides: The patient's sides at left, right, top and bottom.
        bar: The length of the scale bar in units.
        bar_mm: Its length in the patient.
        heat: Base64 of a coloured map over the grey image, empty where there is none.
    """

    png: str
    height: float
    outlines: tuple[Outline, ...]
    callipers: tuple[Line, ...]
    frame: Rectangle | None
    sides: tuple[str, str, str, str]
    bar: float
    bar_mm: int
    heat: str = ""


@dataclass(frozen=True)
class KeySlice:
    """A slice that the page shows: whole, of a lesion also close up, and once more with where the answer comes from."""

    slice_number: int
    lesion: Lesion | None
    whole: Picture
    close_up: Picture | None
    heat: Picture | None = None
    explanation: Explanation | None = None


@dataclass(frozen=True, eq=False)
class _Scene:
    inference: Inference
    volume: Volume
    plane: Plane
    window: DisplayWindow
    heats: Mapping[int | None, Heat]


def key_slices(
    inference: Inference, volume: Volume, window: DisplayWindow, heats: Sequence[Heat] = ()
) -> tuple[KeySlice, ...]:
    """Show the slice of each of the largest lesions; without one, three slices through the series.

    Of an image that is judged as a whole, the slice with the strongest place of its map comes first.
    """
    lesions = inference.findings.lesions[:MAXIMUM_PICTURED]
    by_number = {heat.explanation.number: heat for heat in heats}
    scene = _Scene(inference, volume, Plane.of(volume), window, by_number)
    if not lesions and None in by_number:
        heat = by_number[None]
        whole, coloured_one = (_picture(scene, heat.slice_number, heat=one) for one in (None, heat))
        return (KeySlice(heat.slice_number, None, whole, None, coloured_one, heat.explanation),)
    if not lesions:
        count = volume.array.shape[0]
        numbers = sorted({max(1, math.ceil(count * share)) for share in (0.25, 0.5, 0.75)})
        return tuple(KeySlice(number, None, _picture(scene, number), None) for number in numbers)
    return tuple(_of_lesion(scene, lesion) for lesion in lesions)


def _of_lesion(scene: _Scene, lesion: Lesion) -> KeySlice:
    crop = _around(lesion, scene.plane)
    whole = _picture(scene, lesion.slice_number, frame=crop)
    close_up = _picture(scene, lesion.slice_number, crop=crop, lesion=lesion)
    heat = scene.heats.get(lesion.number)
    if heat is None:
        return KeySlice(lesion.slice_number, lesion, whole, close_up)
    shown = _picture(scene, lesion.slice_number, crop=crop, heat=heat)
    return KeySlice(lesion.slice_number, lesion, whole, close_up, shown, heat.explanation)


def _picture(
    scene: _Scene,
    slice_number: int,
    *,
    crop: Crop | None = None,
    frame: Crop | None = None,
    lesion: Lesion | None = None,
    heat: Heat | None = None,
) -> Picture:
    plane = scene.plane
    rows, columns = plane.shape
    crop = crop or Crop(0, 0, rows, columns, plane.row_mm, plane.column_mm)
    part = (slice(crop.top, crop.top + crop.rows), slice(crop.left, crop.left + crop.columns))
    pixels = plane.shown(scene.volume.array[slice_number - 1])[part]
    numbers = plane.shown(scene.inference.lesion_map[slice_number - 1])[part]
    bar_mm = _bar_mm(crop.columns * crop.column_mm)
    return Picture(
        png=_base64(encode_png(scene.window.grey(pixels))),
        height=round(crop.rows * crop.row_mm * crop.unit_per_mm, 1),
        outlines=tuple(outline(int(k), numbers == k, crop) for k in np.unique(numbers) if k),
        callipers=callipers(lesion, plane, crop) if lesion else (),
        frame=rectangle(frame, crop) if frame else None,
        sides=plane.sides,
        bar=round(bar_mm * crop.unit_per_mm, 1),
        bar_mm=bar_mm,
        heat=_base64(encode_png(coloured(plane.shown(heat.values)[part]))) if heat else "",
    )


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _around(lesion: Lesion, plane: Plane) -> Crop:
    """Give a square around the lesion's axes, moved inside the slice."""
    points = [plane.place(point) for point in lesion.long_axis_ends_mm]
    side_mm = max(_CLOSE_UP_MM, _CLOSE_UP_AXES * lesion.long_axis_mm)
    spans = []
    for axis, spacing_mm in enumerate((plane.row_mm, plane.column_mm)):
        size = min(plane.shape[axis], max(2, round(side_mm / spacing_mm)))
        centre = (points[0][axis] + points[1][axis]) / 2
        start = min(max(0, round(centre - (size - 1) / 2)), plane.shape[axis] - size)
        spans.append((start, size))
    (top, rows), (left, columns) = spans
    return Crop(top, left, rows, columns, plane.row_mm, plane.column_mm)


def _bar_mm(width_mm: float) -> int:
    """Choose the longest round length that takes at most a third of the picture."""
    return max((bar for bar in _BARS_MM if bar <= width_mm / 3), default=_BARS_MM[0])
