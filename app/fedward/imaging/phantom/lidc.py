"""Real nodules for the phantom: contours and malignancy ratings of the LIDC-IDRI readers, without any pixels.

The folder holds ``scans.csv`` (who was scanned on whose scanner), ``readings.csv`` (one row a reader and nodule, with
the ratings) and ``lidc_xml.tar.xz`` (the readers' contours).
"""

from __future__ import annotations

import csv
import tarfile
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
from scipy import ndimage

from fedward.errors import SourceError
from fedward.imaging.phantom.grid import BoolArray
from fedward.imaging.phantom.plan import LARGEST_MM, SMALLEST_MM
from fedward.imaging.phantom.real_shape import RealShape

#: Between pixels, mm: the annotations do not say it; this is the usual one of the collection's scanners.
PIXEL_MM = 0.7

#: Two readers' marks nearer than this, or than half the nodule's width, are of one nodule, mm.
_NEAR_MM = 5.0

#: Fewer readers, or a mean malignancy this near to 3 of 5 ("indeterminate"), say too little.
_MIN_READERS, _DOUBT = 2, 0.5

#: A nodule on fewer slices has no form that could be drawn.
_MIN_CONTOURS = 3

_FILES = ("scans.csv", "readings.csv", "lidc_xml.tar.xz")
_NAMESPACE = "{http://www.nih.gov}"


@dataclass(frozen=True, eq=False)
class RealNodule:
    """One nodule of a real patient.

    Attributes:
        patient: The collection's own number of the patient: no nodule of one may stand in two hospitals.
        maker: Of the scanner, (0008,0070).
        shape: As the reader with the median volume outlined it.
        malignancy: The readers' mean rating, 1 (highly unlikely) to 5 (highly suspicious).
        texture: The readers' mean rating, 1 (ground glass) to 5 (solid).
    """

    patient: str
    maker: str
    shape: RealShape
    malignancy: float
    texture: float

    @property
    def is_malignant(self) -> bool:
        """Whether the readers think it more likely malignant than not."""
        return self.malignancy > 3


@dataclass(frozen=True)
class _Reading:
    """One reader's mark of one nodule: a row of ``readings.csv``; places in mm."""

    xml: str
    session: str
    nodule_id: str
    place: tuple[float, float, float]
    width_mm: float
    size: float
    malignancy: float
    texture: float


def read_real_nodules(folder: Path) -> tuple[RealNodule, ...]:
    """Read the nodules of 6.4 to 18 mm that at least two readers agree about, in the order of their patients.

    A patient's scans count only where one scanner's maker took all of them, and then the first.

    Raises:
        SourceError: ``missing_source``, or ``unreadable_source``: a file is not what it should be.
    """
    missing = [name for name in _FILES if not (folder / name).is_file()]
    if missing:
        raise SourceError("missing_source", f"{folder} has no {', '.join(missing)}")
    try:
        scans = _scans(folder / "scans.csv")
        groups = _groups(folder / "readings.csv", scans)
        chosen = {_median(group): group for group in groups}
        outlines = dict(_outlines(folder / "lidc_xml.tar.xz", chosen))
    except (OSError, ValueError, KeyError, csv.Error, tarfile.TarError, ElementTree.ParseError, EOFError) as error:
        raise SourceError(
            "unreadable_source", f"{folder}: not the LIDC annotations ({type(error).__name__})"
        ) from error
    found = []
    for reading, group in chosen.items():
        shape = outlines.get(reading)
        if shape is None or not SMALLEST_MM <= shape.diameter_mm <= LARGEST_MM:
            continue
        patient, maker = scans[reading.xml]
        rating = fmean(one.malignancy for one in group)
        found.append(RealNodule(patient, maker, shape, rating, fmean(one.texture for one in group)))
    return tuple(sorted(found, key=lambda nodule: (nodule.patient, nodule.shape.diameter_mm)))


def _scans(path: Path) -> Mapping[str, tuple[str, str]]:
    """Give patient and maker by the name of the scan's XML file."""
    of_patient: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for row in _rows(path):
        of_patient[row["patient_id"]].append((row["xml"], row["manufacturer"]))
    return {
        scans[0][0]: (patient, scans[0][1])
        for patient, scans in of_patient.items()
        if len({maker for _, maker in scans}) == 1
    }


def _groups(path: Path, scans: Mapping[str, object]) -> Iterator[tuple[_Reading, ...]]:
    """Give the readings of each nodule, where enough readers say clearly enough what it is."""
    of_scan: dict[str, list[_Reading]] = defaultdict(list)
    for row in _rows(path):
        if row["kind"] == "ge3mm" and row["xml"] in scans and row["malignancy"] and row["texture"]:
            of_scan[row["xml"]].append(_reading(row))
    for readings in of_scan.values():
        for group in _same_nodule(readings):
            rating = fmean(one.malignancy for one in group)
            if len({one.session for one in group}) >= _MIN_READERS and abs(rating - 3) >= _DOUBT:
                yield group


def _rows(path: Path) -> Iterator[Mapping[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def _reading(row: Mapping[str, str]) -> _Reading:
    return _Reading(
        xml=row["xml"],
        session=row["reader_session"],
        nodule_id=row["nodule_id"],
        place=(
            (float(row["z_min"]) + float(row["z_max"])) / 2,
            float(row["cy"]) * PIXEL_MM,
            float(row["cx"]) * PIXEL_MM,
        ),
        width_mm=(float(row["x_max"]) - float(row["x_min"])) * PIXEL_MM,
        size=float(row["area_px_sum"]),
        malignancy=float(row["malignancy"]),
        texture=float(row["texture"]),
    )


def _same_nodule(readings: Sequence[_Reading]) -> Iterator[tuple[_Reading, ...]]:
    """Put readings together that lie where one of another reader does; each belongs to one nodule."""
    left = sorted(readings, key=lambda one: -one.size)
    while left:
        first = left.pop(0)
        near = max(_NEAR_MM, first.width_mm / 2)
        group = [first]
        for other in list(left):
            is_new = other.session not in {one.session for one in group}
            if is_new and float(np.linalg.norm(np.subtract(first.place, other.place))) <= near:
                group.append(other)
                left.remove(other)
        yield tuple(group)


def _median(group: Sequence[_Reading]) -> _Reading:
    return sorted(group, key=lambda one: one.size)[len(group) // 2]


def _outlines(archive: Path, wanted: Iterable[_Reading]) -> Iterator[tuple[_Reading, RealShape]]:
    """Give the form of each wanted reading that has one; the archive is read once, in its own order."""
    of_xml: dict[str, list[_Reading]] = defaultdict(list)
    for reading in wanted:
        of_xml[reading.xml].append(reading)
    with tarfile.open(archive, "r|xz") as files:
        for member in files:
            readings = of_xml.get(member.name.removeprefix("./"))
            stored = files.extractfile(member) if readings else None
            if stored is None or readings is None:
                continue
            sessions = ElementTree.fromstring(stored.read()).findall(f"{_NAMESPACE}readingSession")
            for reading in readings:
                shape = _shape(sessions[int(reading.session)], reading.nodule_id)
                if shape is not None:
                    yield reading, shape


def _shape(session: ElementTree.Element, nodule_id: str) -> RealShape | None:
    """Give the form of one reader's nodule; None where too few slices, or slices at uneven steps, show it."""
    for nodule in session.findall(f"{_NAMESPACE}unblindedReadNodule"):
        if nodule.findtext(f"{_NAMESPACE}noduleID", "").strip() == nodule_id:
            contours = [_contour(region) for region in nodule.findall(f"{_NAMESPACE}roi")]
            return _stacked(contours)
    return None


_Contour = tuple[float, bool, np.ndarray]


def _contour(region: ElementTree.Element) -> _Contour:
    """Give a contour's height in mm, whether it bounds the nodule (not a hole), and its pixels (row, column)."""
    pixels = [
        (int(edge.findtext(f"{_NAMESPACE}yCoord", "")), int(edge.findtext(f"{_NAMESPACE}xCoord", "")))
        for edge in region.findall(f"{_NAMESPACE}edgeMap")
    ]
    includes = region.findtext(f"{_NAMESPACE}inclusion", "").strip().upper() == "TRUE"
    return float(region.findtext(f"{_NAMESPACE}imageZposition", "")), includes, np.array(pixels)


def _stacked(contours: Sequence[_Contour]) -> RealShape | None:
    heights = sorted({height for height, *_ in contours})
    steps = np.diff(heights)
    if len(heights) < _MIN_CONTOURS or steps.max() > 1.5 * steps.min():
        return None
    corners = np.concatenate([pixels for *_, pixels in contours])
    low, size = corners.min(axis=0) - 1, np.ptp(corners, axis=0) + 3
    mask = np.zeros((len(heights), *size), dtype=bool)
    for height, includes, pixels in sorted(contours, key=lambda contour: not contour[1]):
        inside = _inside(pixels - low, tuple(size))
        # Slices run from the head to the feet in the file's order or the other way; upwards here.
        index = heights.index(height)
        mask[index] = mask[index] | inside if includes else mask[index] & ~inside
    pieces, count = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    if count != 1:
        return None
    return RealShape.of(pieces > 0, (float(np.median(steps)), PIXEL_MM, PIXEL_MM))


def _inside(pixels: np.ndarray, size: tuple[int, ...]) -> BoolArray:
    """Fill a contour: it runs on the first pixels outside of the nodule, so its own pixels are none of it."""
    line = np.zeros(size, dtype=bool)
    line[tuple(pixels.T)] = True
    return np.asarray(ndimage.binary_fill_holes(line) & ~line)
