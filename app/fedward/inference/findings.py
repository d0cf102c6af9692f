"""What a model found in one series: frozen values, in millimetres and in the patient."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

#: A place in the patient: LPS (left, posterior, superior), mm.
PatientPoint = tuple[float, float, float]
Millimetres = Annotated[float, Field(ge=0)]
Uid = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)*$", max_length=64)]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Lesion(_Value):
    """One connected region, measured.

    Attributes:
        number: From 1, by falling long axis; the segment number in the DICOM SEG.
        class_name: What the model calls it.
        tracking_uid: Names this lesion for ever, in every document about it.
        volume_mm3: Whole mm³.
        long_axis_mm: The longest in any slice, to 0.1 mm, through the middles of the outline's voxel edges.
        short_axis_mm: At a right angle to it in the same slice, to 0.1 mm.
        mean_diameter_mm: The mean of both axes, to 0.1 mm.
        centre_mm: The centre of its voxels in the patient, to 0.1 mm.
        slice_number: The slice of the two axes, from 1, in the volume's order.
        first_slice: The lowest slice number that it reaches.
        last_slice: The highest.
        sop_instance_uid: The image of ``slice_number``; None for a NIfTI source.
        mean_probability: The model's foreground probability, averaged over its voxels, in [0, 1].
        long_axis_ends_mm: In the patient.
        short_axis_ends_mm: In the patient.
    """

    number: Annotated[int, Field(ge=1)]
    class_name: str
    tracking_uid: Uid
    volume_mm3: Annotated[int, Field(ge=0)]
    long_axis_mm: Millimetres
    short_axis_mm: Millimetres
    mean_diameter_mm: Millimetres
    centre_mm: PatientPoint
    slice_number: Annotated[int, Field(ge=1)]
    first_slice: Annotated[int, Field(ge=1)]
    last_slice: Annotated[int, Field(ge=1)]
    sop_instance_uid: Uid | None
    mean_probability: Annotated[float, Field(ge=0, le=1)]
    long_axis_ends_mm: tuple[PatientPoint, PatientPoint]
    short_axis_ends_mm: tuple[PatientPoint, PatientPoint]


class Findings(_Value):
    """All that a model found in one series; nothing found is a finding too.

    Attributes:
        study_instance_uid: The study.
        series_instance_uid: The series.
        kind: ``lesions`` (every connected region by itself) or ``structures`` (every class as a whole).
        minimum_lesion_mm: Regions with a shorter long axis are not reported.
        minimum_probability: Regions with a lower mean probability are not reported.
        lesions: By number.
        left_out: Regions beyond the largest ones that are listed: a model that finds so many does not fit the image.
    """

    study_instance_uid: str
    series_instance_uid: str
    kind: Literal["lesions", "structures"]
    minimum_lesion_mm: Millimetres
    minimum_probability: Annotated[float, Field(ge=0, le=1)]
    lesions: tuple[Lesion, ...]
    left_out: Annotated[int, Field(ge=0)] = 0
