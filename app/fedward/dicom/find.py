"""A folder of mixed files → image headers by series, labels, and the files that are broken."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from fedward.dicom.objects import BrokenFile, ImageHeader, LabelObject, NotDicom, OtherObject
from fedward.dicom.parse import parse_file
from fedward.dicom.values import derived_key, derived_uid
from fedward.errors import SourceError

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Found:
    """Everything below a data root, sorted by what it is.

    Attributes:
        series: Image headers by Series Instance UID.
        broken: Broken files by the series that they belong to as far as anybody can tell; under the empty UID the rest.
    """

    series: Mapping[str, tuple[ImageHeader, ...]]
    broken: Mapping[str, tuple[BrokenFile, ...]]
    labels: tuple[LabelObject, ...]
    others: tuple[OtherObject, ...]
    not_dicom: tuple[NotDicom, ...]


def find(root: Path, progress: Progress | None = None) -> Found:
    """Parse every file below ``root`` (a folder, or one file) in the order of their names.

    Raises:
        SourceError: ``missing_source``, ``unreadable_source``, or ``empty_source`` when nothing there is DICOM.
    """
    if not root.exists():
        raise SourceError("missing_source", f"there is no folder {root}")
    base = base_of(root)
    paths, unlisted = ([root], []) if root.is_file() else _files_below(root)
    parsed = []
    for number, path in enumerate(paths, start=1):
        parsed.append(parse_file(path, base))
        if progress:
            progress(number, len(paths))
    headers = _with_uids([one for one in parsed if isinstance(one, ImageHeader)])
    not_dicom = [one for one in parsed if isinstance(one, NotDicom)]
    damaged = _named_like_slices(not_dicom, headers)
    broken = [*unlisted, *damaged, *(one for one in parsed if isinstance(one, BrokenFile))]
    if len(not_dicom) == len(parsed) and not broken:
        raise SourceError("empty_source", f"no DICOM file among the {len(parsed)} files below {root}")
    series = _by_series(headers)
    return Found(
        series=series,
        broken=_series_of_broken(broken, series),
        labels=tuple(one for one in parsed if isinstance(one, LabelObject)),
        others=tuple(one for one in parsed if isinstance(one, OtherObject)),
        not_dicom=tuple(not_dicom),
    )


def base_of(root: Path) -> Path:
    """Give the folder that paths are relative to."""
    return root.parent if root.is_file() else root


def _files_below(root: Path) -> tuple[list[Path], list[BrokenFile]]:
    """Give every file, and every folder that cannot be listed: it costs what lies in it, not its neighbours."""
    unlisted: list[BrokenFile] = []

    def note(error: OSError) -> None:
        folder = Path(error.filename)
        if folder == root:
            raise SourceError("unreadable_source", f"{root} cannot be listed: {error.strerror}") from error
        relative = PurePosixPath(folder.relative_to(root).as_posix())
        unlisted.append(BrokenFile(relative, f"the folder cannot be listed: {(error.strerror or '').lower()}"))

    walked = os.walk(root, onerror=note)
    files = [Path(folder, name) for folder, _, names in walked for name in names]
    return sorted(path for path in files if path.is_file()), unlisted


def _with_uids(headers: list[ImageHeader]) -> list[ImageHeader]:
    """Give each header the UIDs and the patient key that its file leaves out.

    Images without a Series Instance UID that lie in one folder, study, frame of reference and modality are one
    series. A file without a patient's id belongs to a patient of its study's own.
    """
    nameless: dict[tuple[str, ...], list[ImageHeader]] = defaultdict(list)
    for header in headers:
        if not header.series_instance_uid:
            nameless[_neighbourhood(header)].append(header)
    uids = {
        key: derived_uid("series", *key[1:], min(one.sop_instance_uid or str(one.path) for one in group))
        for key, group in nameless.items()
    }
    return [_completed(header, uids) for header in headers]


def _neighbourhood(header: ImageHeader) -> tuple[str, ...]:
    folder = str(header.path.parent)
    return folder, header.study_instance_uid, header.frame_of_reference_uid, header.modality


def _completed(header: ImageHeader, uids: Mapping[tuple[str, ...], str]) -> ImageHeader:
    series = header.series_instance_uid or uids[_neighbourhood(header)]
    study = header.study_instance_uid or derived_uid("study", series)
    patient = header.patient_key or derived_key(study)
    return replace(header, series_instance_uid=series, study_instance_uid=study, patient_key=patient)


def _by_series(headers: Iterable[ImageHeader]) -> Mapping[str, tuple[ImageHeader, ...]]:
    groups: dict[str, list[ImageHeader]] = defaultdict(list)
    for header in headers:
        groups[header.series_instance_uid].append(header)
    return {uid: tuple(group) for uid, group in groups.items()}


def _named_like_slices(files: list[NotDicom], headers: list[ImageHeader]) -> list[BrokenFile]:
    """Give the files that are no DICOM although their name differs from an image's beside them in numbers alone."""
    patterns = {_name_pattern(header.path) for header in headers}
    return [
        BrokenFile(file.path, "it is named like its neighbours, but it is empty or no DICOM")
        for file in files
        if _name_pattern(file.path) in patterns
    ]


def _name_pattern(path: PurePosixPath) -> tuple[str, str]:
    return str(path.parent), re.sub(r"[0-9]+", "#", path.name)


def _series_of_broken(
    broken: Iterable[BrokenFile], series: Mapping[str, tuple[ImageHeader, ...]]
) -> Mapping[str, tuple[BrokenFile, ...]]:
    """Give, by series, the broken files that may be its slices: without them it would pass as a shorter series.

    Those are files that name the series, or that lie in a folder which holds this series alone. Under the empty UID
    stand the files that could be any series'.
    """
    in_folder: dict[PurePosixPath, set[str]] = defaultdict(set)
    for uid, headers in series.items():
        for header in headers:
            in_folder[header.path.parent].add(uid)
    found: dict[str, list[BrokenFile]] = defaultdict(list)
    for file in broken:
        beside = in_folder.get(file.path.parent, set())
        if file.series_instance_uid in series:
            found[file.series_instance_uid].append(file)
        else:
            found[next(iter(beside)) if len(beside) == 1 else ""].append(file)
    return {uid: tuple(files) for uid, files in found.items()}
