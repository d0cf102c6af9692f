"""What every kind of data source gives: series that can be read, with their labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fedward.dicom.volume import Label, Verdict, Volume
from fedward.errors import SourceError


@dataclass(frozen=True, eq=False)
class StudyCase:
    """One accepted series, not yet decoded, and its label if it has one.

    Attributes:
        patient_key: Issuer and normalised id.
        verdict: What the reader decided by the headers.
        has_label: Whether a label of one of the site's classes refers to it.
        files: All files that image and label are read from.
        read: Decodes the image; raises SeriesRefused.
        read_label: Gives the label of the asked classes on the volume's grid, None where it has none of them; raises
            LabelRefused.
        image_class: The class that the site's table gives the whole image; empty where it gives none.
    """

    patient_key: str
    verdict: Verdict
    has_label: bool
    files: tuple[Path, ...]
    read: Callable[[], Volume]
    read_label: Callable[[tuple[str, ...], Volume], Label | None]
    image_class: str = ""

    @property
    def series_instance_uid(self) -> str:
        """The series."""
        return self.verdict.series_instance_uid

    @property
    def study_instance_uid(self) -> str:
        """Its study."""
        return self.verdict.study_instance_uid

    @property
    def modality(self) -> str:
        """CT, MR or PT."""
        return self.verdict.modality


@dataclass(frozen=True, eq=False)
class Source:
    """What a source holds.

    Attributes:
        cases: The accepted series.
        refused: Series that the reader refused, and files that are broken beyond telling their series.
        unmatched: Labels that refer to no series of the source.
    """

    cases: tuple[StudyCase, ...]
    refused: tuple[Verdict, ...] = ()
    unmatched: tuple[Verdict, ...] = ()

    def studies(self) -> tuple[StudyCase, ...]:
        """Give the accepted series."""
        return self.cases


def existing_folder(path: Path) -> Path:
    """Give ``path`` back.

    Raises:
        SourceError: ``missing_source``: it is not a folder.
    """
    if not path.is_dir():
        raise SourceError("missing_source", f"there is no folder {path}")
    return path
