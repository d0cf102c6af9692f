"""What an image says of its patient and scanner, in the groups by which a model's results are compared."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError

from fedward.dicom.quiet import quiet_pydicom
from fedward.dicom.studies import StudyCase

UNKNOWN = "unknown"

_AGE = re.compile(r"(\d{3})([DWMY])")

#: Upper ends of the bands of age (years) and slice distance (mm), and what lies above the last.
_AGES = ((40, "under 40"), (60, "40 to 59"), (75, "60 to 74"))
_OLDEST = "75 and older"
_THICKNESSES = ((1.5, "up to 1.5 mm"), (3.0, "above 1.5 to 3 mm"))
_THICKEST = "above 3 mm"


@dataclass(frozen=True)
class GroupFacts:
    """The groups that one series belongs to; each is ``unknown`` where nothing is said."""

    sex: str = UNKNOWN
    age: str = UNKNOWN
    maker: str = UNKNOWN
    slices: str = UNKNOWN


def group_facts(study: StudyCase) -> GroupFacts:
    """Read the groups of a series from the headers of its first file; of a NIfTI file its geometry alone is known."""
    verdict = study.verdict
    sex, age = _of_patient(study.files[0]) if study.files else (UNKNOWN, UNKNOWN)
    distance = verdict.spacing_mm[0] if verdict.spacing_mm else None
    return GroupFacts(sex, age, verdict.manufacturer or UNKNOWN, slice_band(distance))


def age_band(age: str) -> str:
    """Give the band of a Patient's Age (0010,1010).

    Example:
        >>> age_band("063Y"), age_band("011M"), age_band("")
        ('60 to 74', 'under 40', 'unknown')
    """
    found = _AGE.fullmatch(age)
    if found is None:
        return UNKNOWN
    years = int(found[1]) if found[2] == "Y" else 0
    return next((name for end, name in _AGES if years < end), _OLDEST)


def slice_band(distance_mm: float | None) -> str:
    """Give the band of the distance of two slices."""
    if distance_mm is None:
        return UNKNOWN
    return next((name for end, name in _THICKNESSES if distance_mm <= end + 1e-6), _THICKEST)


def _of_patient(path: Path) -> tuple[str, str]:
    try:
        with quiet_pydicom():
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["PatientSex", "PatientAge"])
    except (InvalidDicomError, OSError):
        return UNKNOWN, UNKNOWN
    sex = {"M": "male", "F": "female", "O": "other"}.get(str(header.get("PatientSex", "")), UNKNOWN)
    return sex, age_band(str(header.get("PatientAge", "") or ""))
