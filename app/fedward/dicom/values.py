"""Typed values out of a data set: None or empty where an attribute is absent, an error where it is nonsense."""

from __future__ import annotations

import hashlib
import math
import unicodedata

from pydicom.dataset import Dataset

_STUDY_KEY = "study|"


class WrongValue(ValueError):
    """An attribute that is present and says nothing usable."""


def text(dataset: Dataset, keyword: str) -> str:
    """Give an attribute as text without surrounding blanks; several values are joined by a backslash."""
    value = dataset.get(keyword)
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip(" \0")
    try:
        return "\\".join(str(item).strip(" \0") for item in value)
    except TypeError:
        return str(value).strip(" \0")


def texts(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """Give every value of an attribute as text."""
    joined = text(dataset, keyword)
    return tuple(joined.split("\\")) if joined else ()


def numbers(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """Give ``count`` finite numbers, or None where the attribute is absent or empty.

    Raises:
        WrongValue: another count, not a number, or not finite.
    """
    parts = texts(dataset, keyword)
    if not parts:
        return None
    try:
        values = tuple(float(part) for part in parts)
    except ValueError as error:
        raise WrongValue(f"{keyword} is not a number") from error
    if len(values) != count or not all(math.isfinite(value) for value in values):
        raise WrongValue(f"{keyword} should hold {count} finite numbers, it holds {list(values)}")
    return values


def number(dataset: Dataset, keyword: str) -> float | None:
    """Give one finite number, or None where the attribute is absent or empty.

    Raises:
        WrongValue: several values, not a number, or not finite.
    """
    values = numbers(dataset, keyword, 1)
    return values[0] if values else None


def integer(dataset: Dataset, keyword: str, default: int) -> int:
    """Give a whole number, or ``default`` where the attribute is absent or empty.

    Raises:
        WrongValue: not a whole number of 0 or more.
    """
    value = number(dataset, keyword)
    if value is None:
        return default
    if value != int(value) or value < 0:
        raise WrongValue(f"{keyword} should be a whole number, it is {value}")
    return int(value)


def patient_key(dataset: Dataset) -> str:
    """Give issuer (0010,0021) and id (0010,0020) of the patient, normalised so that one patient has one key.

    Unicode compatibility forms, letter case and blanks do not make another patient; leading zeros do. Empty where
    the data set has no patient id.
    """
    return key_of(text(dataset, "IssuerOfPatientID"), text(dataset, "PatientID"))


def key_of(issuer: str, patient_id: str) -> str:
    """Give the key of a patient by issuer and id as somebody writes them; empty without an id."""
    patient = _normalised(patient_id)
    return f"{_normalised(issuer)}|{patient}" if patient else ""


def derived_key(study_instance_uid: str) -> str:
    """Give the key of a patient without an id: one of the study's own, so that no two patients become one."""
    return _STUDY_KEY + study_instance_uid


def is_derived_key(key: str) -> bool:
    """Tell whether a patient's key stands for a missing id."""
    return key.startswith(_STUDY_KEY)


def derived_uid(*parts: str) -> str:
    """Give a UID below 2.25 (PS3.5 B.2) that the same parts always get, for what has none of its own."""
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def _normalised(words: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", words).split()).upper()
