"""``report.json``: the whole report as one value, with a published schema (``report.schema.json``)."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from fedward.inference.doubt import Doubt
from fedward.inference.findings import Findings, Uid
from fedward.inference.heat import Explanation
from fedward.inference.likeness import Likeness
from fedward.inference.model import ModelFacts
from fedward.inference.own_record import Association

Outcome = Literal["findings", "no_findings", "refused"]
Spacing = Annotated[float, Field(gt=0)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Patient(_Part):
    """Whose images these are. A report stays in the hospital that wrote it.

    Attributes:
        id: (0010,0020), or the patient's part of a NIfTI file's name.
    """

    id: str


class Study(_Part):
    """The study; empty where the source says nothing.

    Attributes:
        instance_uid: (0020,000D).
        date: (0008,0020) as YYYY-MM-DD.
        description: (0008,1030).
        accession_number: (0008,0050).
    """

    instance_uid: str
    date: str = ""
    description: str = ""
    accession_number: str = ""


class Series(_Part):
    """The series that was read; empty or null where the source says nothing.

    Attributes:
        instance_uid: (0020,000E).
        source: Where it came from.
        modality: (0008,0060).
        number: (0020,0011).
        description: (0008,103E).
        manufacturer: As the source names it.
        model_name: The maker's model.
        shape: Voxels along (slice, row, column).
        spacing_mm: Along (slice, row, column).
        files: The number of files.
    """

    instance_uid: str
    source: Literal["DICOM", "NIfTI"]
    modality: str
    number: int | None = None
    description: str = ""
    manufacturer: str = ""
    model_name: str = ""
    shape: tuple[int, int, int] | None = None
    spacing_mm: tuple[Spacing, Spacing, Spacing] | None = None
    files: Annotated[int, Field(ge=0)] = 0


class SegmentationFile(_Part):
    """The DICOM SEG beside this report; segment k is lesion k.

    Attributes:
        file: Its name in the report's folder.
        series_instance_uid: Its own series.
        sop_instance_uid: Its own UID.
        segments: How many it holds; one, empty, where nothing was found.
    """

    file: Literal["segmentation.dcm"]
    series_instance_uid: Uid
    sop_instance_uid: Uid
    segments: Annotated[int, Field(ge=1)]


class Refusal(_Part):
    """Why a series was not read.

    Attributes:
        code: Stable, such as ``missing_slice``.
        sentence: What was expected and what was found.
    """

    code: str
    sentence: str


class Report(_Part):
    """Everything that one report says.

    Attributes:
        format: This document's format and version.
        software: The program that wrote it.
        notice: What the report must not be used for.
        created: When, with time zone.
        site: The hospital's name in the federation.
        outcome: ``findings``, ``no_findings`` or ``refused``.
        patient: Null for a refused series, whose files are not trusted to say.
        study: The study.
        series: The series.
        model: The model; null where a series was refused before any model was chosen.
        lesion_model: The segmentation whose lesions the model judged; null where it found its own or judged the image.
        privacy: What the model's training promises its patients, in words.
        association: Which measurements go with the model's class among this hospital's own labelled lesions; null where
            it has not looked, or has too few.
        display_window: How the pictures show intensities, in words; empty for a refused series.
        findings: What was found; null for a refused series.
        doubt: How much the model doubts each finding; null where nobody asked it.
        likeness: Whether the image is like those that the model was trained on; null where nobody asked.
        explanations: How each finding's coloured picture was made, and how much of it lies on the lesion.
        instance_numbers: The Instance Number (0020,0013) of each lesion's slice, in order; null where there is none.
        segmentation: The DICOM SEG; null where there is none.
        segmentation_note: Why there is none; else empty.
        refusal: Why the series was refused; else null.
    """

    format: Literal["fedward.report/1"] = "fedward.report/1"
    software: str
    notice: str
    created: AwareDatetime
    site: str
    outcome: Outcome
    patient: Patient | None
    study: Study
    series: Series
    model: ModelFacts | None
    lesion_model: ModelFacts | None = None
    privacy: str
    association: Association | None = None
    display_window: str = ""
    findings: Findings | None
    doubt: Doubt | None = None
    likeness: Likeness | None = None
    explanations: tuple[Explanation, ...] = ()
    instance_numbers: tuple[int | None, ...] = ()
    segmentation: SegmentationFile | None
    segmentation_note: str = ""
    refusal: Refusal | None = None

    @model_validator(mode="after")
    def _outcome_is_what_it_holds(self) -> Self:
        if self.refusal is not None:
            expected = "refused"
        else:
            expected = "findings" if self.findings and self.findings.has_findings else "no_findings"
        if self.outcome != expected or (self.refusal is None) != (self.findings is not None):
            raise ValueError(f"a report with outcome {self.outcome} holds what belongs to {expected}")
        if (self.segmentation is None) != bool(self.segmentation_note):
            raise ValueError("a report has a segmentation or says why not")
        return self
