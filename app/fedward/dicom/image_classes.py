"""A hospital's table of whole images' classes: who has the finding, said of the scan and drawn nowhere.

A CSV file in UTF-8 with the header ``image,class`` and one row an image: the name by which its source knows it (a NIfTI
file's without the suffix, a DICOM series' instance UID) and a class as the jobs name it.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from fedward.dicom.volume import Verdict
from fedward.errors import SourceError
from fedward.files import whole_file

_HEADER = ["image", "class"]
_CLASS = re.compile(r"[a-z0-9_-]{1,64}")


def read_image_classes(path: Path | None) -> Mapping[str, str]:
    """Read the table at ``path``: the class of each image that it names; nothing where there is no path.

    Raises:
        SourceError: ``missing_source``, or ``unreadable_source``: it is not such a table, or it names an image twice.
            The detail gives the first faulty row's number and never its words: an image's name may be a patient's.
    """
    if path is None:
        return {}
    if not path.is_file():
        raise SourceError("missing_source", f"there is no table {path}")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SourceError(
            "unreadable_source", f"{path} is not a CSV table in UTF-8 ({type(error).__name__})"
        ) from error
    if not rows or rows[0] != _HEADER:
        raise SourceError("unreadable_source", f"{path}: the first row must be {','.join(_HEADER)}")
    classes: dict[str, str] = {}
    for number, row in enumerate(rows[1:], start=2):
        if fault := _fault(row, classes):
            raise SourceError("unreadable_source", f"{path}, row {number}: {fault}")
        classes[row[0]] = row[1]
    return classes


def rows_without_image(path: Path | None, classes: Mapping[str, str], images: Collection[str]) -> tuple[Verdict, ...]:
    """Give one verdict, with the number of rows alone, where a table names images that the source lacks."""
    count = len(set(classes) - set(images))
    if path is None or not count:
        return ()
    sentence = f"{path.name}: {count} of {len(classes)} rows name an image that is not in the source"
    return (Verdict(accepted=False, code="unknown_reference", sentence=sentence, series_instance_uid=""),)


def forget_rows(path: Path | None, is_forgotten: Callable[[str], bool]) -> None:
    """Write the table without the rows of the images that ``is_forgotten`` names.

    Raises:
        SourceError: as :func:`read_image_classes`.
        StoreError: the table cannot be written.
    """
    classes = read_image_classes(path)
    kept = {image: name for image, name in classes.items() if not is_forgotten(image)}
    if path is None or kept == classes:
        return
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([_HEADER, *kept.items()])


def _fault(row: list[str], seen: Mapping[str, str]) -> str:
    if len(row) != len(_HEADER):
        return f"expected {len(_HEADER)} values, found {len(row)}"
    image, name = row
    if not image or image != image.strip():
        return "the image's name is empty or begins or ends with a space"
    if not _CLASS.fullmatch(name):
        return "a class is 1 to 64 of a-z, 0-9, _ and -"
    return "the image has a row already" if image in seen else ""
