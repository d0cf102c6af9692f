"""From a folder of mixed files to series with verdicts, and from an accepted series to a volume."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fedward.dicom.consistency import refuse_inconsistent
from fedward.dicom.find import Progress, base_of, find
from fedward.dicom.geometry import Grid, grid_of
from fedward.dicom.makers import maker
from fedward.dicom.objects import BrokenFile, ImageHeader, LabelObject, OtherObject
from fedward.dicom.stored_pixels import stored_values
from fedward.dicom.volume import Verdict, Volume
from fedward.errors import SeriesRefused

ACCEPTED = "accepted"


@dataclass(frozen=True, eq=False)
class ScannedSeries:
    """One image series as its headers describe it.

    Attributes:
        root: The data root.
        headers: One a file.
        verdict: After every check that headers allow; pixels may still refuse it.
        grid: Its place in the patient, None where refused.
    """

    root: Path
    headers: tuple[ImageHeader, ...]
    verdict: Verdict
    grid: Grid | None

    @property
    def ordered(self) -> tuple[ImageHeader, ...]:
        """The headers in slice order; in the files' order where the series is refused."""
        return tuple(self.headers[index] for index in self.grid.order) if self.grid else self.headers

    def read(self) -> Volume:
        """Decode the pixels, slice by slice into one array.

        Raises:
            SeriesRefused: the series was refused, or its pixels do not decode.
        """
        if self.grid is None:
            raise SeriesRefused(self.verdict.code, self.verdict.sentence)
        first, ordered = self.headers[0], self.ordered
        array = np.empty(self.grid.shape, dtype=np.float32)
        for number, header in enumerate(ordered):
            array[number] = _values(self.root, header, self.grid)
        return Volume(
            array=array,
            affine=self.grid.affine.copy(),
            modality=first.modality,
            patient_key=first.patient_key,
            study_instance_uid=first.study_instance_uid,
            series_instance_uid=first.series_instance_uid,
            frame_of_reference_uid=first.frame_of_reference_uid,
            sop_instance_uids=tuple(header.sop_instance_uid for header in ordered),
            files=tuple(self.root / header.path for header in ordered),
            manufacturer=first.manufacturer,
            model_name=first.model_name,
        )


@dataclass(frozen=True, eq=False)
class Scan:
    """Everything below a data root.

    Attributes:
        root: The data root.
        series: Image series, by first file.
        labels: SEG and RTSTRUCT objects.
        others: DICOM objects that are neither.
        broken: Files that claim to be DICOM, cannot be read, and belong to no series that is known.
        ignored: How many files make no claim to be DICOM.
    """

    root: Path
    series: tuple[ScannedSeries, ...]
    labels: tuple[LabelObject, ...]
    others: tuple[OtherObject, ...]
    broken: tuple[BrokenFile, ...]
    ignored: int

    @property
    def broken_verdicts(self) -> tuple[Verdict, ...]:
        """One refusal for each broken file."""
        return tuple(
            Verdict(
                accepted=False,
                code="unreadable",
                sentence=f"{file.path}: {file.reason}",
                series_instance_uid=file.series_instance_uid,
                file_count=1,
                files=(str(file.path),),
            )
            for file in self.broken
        )


def scan(root: Path, *, progress: Progress | None = None) -> Scan:
    """Read the header of every file below ``root`` and judge each series by them; no pixel is decoded.

    Raises:
        SourceError: ``missing_source``, ``unreadable_source``, or ``empty_source`` when nothing there is DICOM.
    """
    found = find(root, progress)
    series = [_judge(base_of(root), headers, found.broken.get(uid, ())) for uid, headers in found.series.items()]
    return Scan(
        root=base_of(root),
        series=tuple(sorted(series, key=lambda one: one.verdict.files)),
        labels=found.labels,
        others=found.others,
        broken=found.broken.get("", ()),
        ignored=len(found.not_dicom),
    )


def check(root: Path, *, progress: Progress | None = None) -> list[Verdict]:
    """Judge every series below ``root``, pixels included, and every file that cannot be read at all.

    Raises:
        SourceError: as :func:`scan`.
    """
    scanned = scan(root)
    verdicts = []
    for number, series in enumerate(scanned.series, start=1):
        verdicts.append(_decoded(series))
        if progress:
            progress(number, len(scanned.series))
    return [*verdicts, *scanned.broken_verdicts]


def as_record(verdict: Verdict) -> dict[str, Any]:
    """Give a verdict as ``fedward data check --json`` writes it."""
    return {
        "verdict": "accepted" if verdict.accepted else "refused",
        "code": verdict.code,
        "sentence": verdict.sentence,
        "modality": verdict.modality,
        "maker": verdict.manufacturer,
        "model": verdict.model_name,
        "shape": list(verdict.shape) if verdict.shape else None,
        "spacing_mm": list(verdict.spacing_mm) if verdict.spacing_mm else None,
        "series_instance_uid": verdict.series_instance_uid,
        "study_instance_uid": verdict.study_instance_uid,
        "files": verdict.file_count,
    }


def _judge(root: Path, headers: tuple[ImageHeader, ...], broken: tuple[BrokenFile, ...]) -> ScannedSeries:
    first = headers[0]
    paths = sorted([str(header.path) for header in headers] + [str(file.path) for file in broken])
    verdict = Verdict(
        accepted=True,
        code=ACCEPTED,
        sentence="",
        series_instance_uid=first.series_instance_uid,
        study_instance_uid=first.study_instance_uid,
        modality=first.modality,
        manufacturer=maker(first.manufacturer),
        model_name=first.model_name,
        file_count=len(paths),
        files=tuple(paths),
    )
    try:
        if broken:
            raise SeriesRefused("unreadable", f"{broken[0].path}: {broken[0].reason}")
        refuse_inconsistent(headers)
        grid = grid_of(headers)
    except SeriesRefused as error:
        return ScannedSeries(
            root, headers, replace(verdict, accepted=False, code=error.code, sentence=error.detail), None
        )
    return ScannedSeries(root, headers, replace(verdict, shape=grid.shape, spacing_mm=grid.spacing_mm), grid)


def _decoded(series: ScannedSeries) -> Verdict:
    """Judge a series by its pixels too; they are let go of slice by slice."""
    if series.grid is None:
        return series.verdict
    try:
        for header in series.headers:
            _values(series.root, header, series.grid)
    except SeriesRefused as error:
        return replace(series.verdict, accepted=False, code=error.code, sentence=error.detail)
    return series.verdict


def _values(root: Path, header: ImageHeader, grid: Grid) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Decode one slice and rescale it, shape ``(row, column)`` (PS3.3 C.11.1)."""
    try:
        stored = stored_values(root / header.path, header.transfer_syntax_uid)
    except SeriesRefused as error:
        raise SeriesRefused(error.code, f"{header.path}: {error.detail}") from error
    if stored.shape != grid.shape[1:]:
        raise SeriesRefused("unreadable", f"{header.path}: its pixels decode to {stored.shape}, not {grid.shape[1:]}")
    slope = 1.0 if header.slope is None else header.slope
    intercept = 0.0 if header.intercept is None else header.intercept
    return stored.astype(np.float64) * slope + intercept
