"""A folder as the LIDC-IDRI annotations are kept, with nodules whose volumes are known."""

from __future__ import annotations

import csv
import io
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

SLICE_MM = 2.5

READING_COLUMNS = [
    "series_uid",
    "patient_id",
    "reader_session",
    "nodule_id",
    "kind",
    "z_min",
    "z_max",
    "x_min",
    "x_max",
    "y_min",
    "y_max",
    "cx",
    "cy",
    "area_px_sum",
    "texture",
    "malignancy",
    "xml",
]


@dataclass(frozen=True)
class Mark:
    """What one reader says of one nodule: a disc on some slices around a pixel, with a hole where asked."""

    reader: int
    row: int = 100
    column: int = 120
    slice: int = 10
    radius_px: int = 7
    slices: int = 5
    hole_px: int = 0
    malignancy: int = 5
    texture: int = 5

    @property
    def heights(self) -> list[float]:
        return [(self.slice + number) * SLICE_MM for number in range(self.slices)]

    def inside(self, radius: int) -> np.ndarray:
        rows, columns = np.ogrid[:256, :256]
        return np.hypot(rows - self.row, columns - self.column) <= radius

    @property
    def voxels(self) -> int:
        hole = int(self.inside(self.hole_px).sum()) if self.hole_px else 0
        return self.slices * (int(self.inside(self.radius_px).sum()) - hole)


@dataclass(frozen=True)
class Scan:
    patient: str
    maker: str
    marks: Sequence[Mark]
    name: str = ""

    @property
    def xml(self) -> str:
        return f"tcia-lidc-xml/{self.name or self.patient}.xml"


def write_lidc(folder: Path, scans: Sequence[Scan]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    _write_table(
        folder / "scans.csv",
        ["series_uid", "patient_id", "manufacturer", "xml"],
        [[scan.xml, scan.patient, scan.maker, scan.xml] for scan in scans],
    )
    rows = [_reading(scan, number, mark) for scan in scans for number, mark in enumerate(scan.marks)]
    _write_table(folder / "readings.csv", READING_COLUMNS, rows)
    with tarfile.open(folder / "lidc_xml.tar.xz", "w:xz") as archive:
        for scan in scans:
            data = _document(scan).encode()
            member = tarfile.TarInfo(scan.xml)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return folder


def _write_table(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def _reading(scan: Scan, number: int, mark: Mark) -> list[object]:
    reach = mark.radius_px + 1
    return [
        scan.xml, scan.patient, mark.reader, f"n{number}", "ge3mm", mark.heights[0], mark.heights[-1],
        mark.column - reach, mark.column + reach, mark.row - reach, mark.row + reach, mark.column, mark.row,
        mark.voxels, mark.texture, mark.malignancy, scan.xml,
    ]  # fmt: skip


def _document(scan: Scan) -> str:
    sessions = []
    for reader in range(1 + max(mark.reader for mark in scan.marks)):
        nodules = [_nodule(f"n{n}", mark) for n, mark in enumerate(scan.marks) if mark.reader == reader]
        sessions.append(f"<readingSession>{''.join(nodules)}</readingSession>")
    return f'<LidcReadMessage xmlns="http://www.nih.gov">{"".join(sessions)}</LidcReadMessage>'


def _nodule(name: str, mark: Mark) -> str:
    regions = []
    for height in mark.heights:
        regions.append(_region(height, "TRUE", mark.inside(mark.radius_px)))
        if mark.hole_px:
            regions.append(_region(height, "FALSE", mark.inside(mark.hole_px)))
    return f"<unblindedReadNodule><noduleID>{name}</noduleID>{''.join(regions)}</unblindedReadNodule>"


def _region(height: float, inclusion: str, inside: np.ndarray) -> str:
    """The contour runs on the first pixels outside."""
    rows, columns = np.nonzero(ndimage.binary_dilation(inside) & ~inside)
    edges = "".join(
        f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for y, x in zip(rows, columns, strict=True)
    )
    return f"<roi><imageZposition>{height}</imageZposition><inclusion>{inclusion}</inclusion>{edges}</roi>"
