"""What a model found in one series: frozen values, in millimetres and in the patient."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

#: A place in the patient: LPS (left, posterior, superior), mm.
PatientPoint = tuple[float, float, float]
Millimetres = Annotated[float, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
Uid = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)*$", max_length=64)]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ClassProbability(_Value):
    """How likely a class is, to 0.001."""

    class_name: str
    probability: Probability


class Assessment(_Value):
    """What a model says of one lesion, or of one whole image.

    Attributes:
        probabilities: Of each class, in the model's order; they sum to 1 but for their rounding.
        positive: The class that the operating point is about.
        operating_point: From this probability of ``positive`` on it is called so.
        called: The class that it is called: ``positive``, or else the likeliest of the others.
        calibrated_on: Lesions of this hospital on which the probabilities were calibrated; None where they are the
            network's own.
        diameter_mm: As the model estimates it, to 0.1 mm; None where it does not.
    """

    probabilities: Annotated[tuple[ClassProbability, ...], Field(min_length=2)]
    positive: str
    operating_point: Annotated[float, Field(gt=0, lt=1)]
    called: str
    calibrated_on: Annotated[int, Field(ge=1)] | None = None
    diameter_mm: Millimetres | None = None

    @model_validator(mode="after")
    def _calls_as_it_says(self) -> Self:
        likely = {each.class_name: each.probability for each in self.probabilities}
        if len(likely) != len(self.probabilities) or not {self.positive, self.called} <= set(likely):
            raise ValueError(f"the classes {sorted(likely)} must differ and hold {self.positive} and {self.called}")
        if abs(sum(likely.values()) - 1) > 1e-3 * len(likely):
            raise ValueError(f"probabilities must sum to 1, got {sum(likely.values()):g}")
        if self.is_positive != (likely[self.positive] >= self.operating_point):
            raise ValueError(f"what is called {self.called} does not follow from its probabilities")
        return self

    @property
    def is_positive(self) -> bool:
        """Whether it is called ``positive``."""
        return self.called == self.positive

    @property
    def positive_probability(self) -> float:
        """How likely ``positive`` is."""
        return next(each.probability for each in self.probabilities if each.class_name == self.positive)


class Lesion(_Value):
    """One connected region, measured.

    Attributes:
        number: From 1, by falling long axis; the segment number in the DICOM SEG.
        class_name: What its outline is of.
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
        assessment: What a classifier or a multi-task model says of it; None where the model only outlines.
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
    mean_probability: Probability
    long_axis_ends_mm: tuple[PatientPoint, PatientPoint]
    short_axis_ends_mm: tuple[PatientPoint, PatientPoint]
    assessment: Assessment | None = None


class Findings(_Value):
    """All that a model found in one series; nothing found is a finding too.

    Attributes:
        study_instance_uid: The study.
        series_instance_uid: The series.
        task: What the model was asked.
        kind: ``lesions`` (every connected region by itself), ``structures`` (every class as a whole) or ``image``
            (nothing is outlined, the image as a whole is assessed).
        minimum_lesion_mm: Regions with a shorter long axis are not reported.
        minimum_probability: Regions with a lower mean probability are not reported.
        lesions: By number.
        left_out: Regions beyond the largest ones that are listed: a model that finds so many does not fit the image.
        assessment: Of the whole image; None for the other kinds.
        only_middle: Whether the image is larger than what the model looks at: then it saw its middle alone.
    """

    study_instance_uid: str
    series_instance_uid: str
    task: Literal["segmentation", "classification", "multitask"] = "segmentation"
    kind: Literal["lesions", "structures", "image"]
    minimum_lesion_mm: Millimetres = 0.0
    minimum_probability: Probability = 0.0
    lesions: tuple[Lesion, ...] = ()
    left_out: Annotated[int, Field(ge=0)] = 0
    assessment: Assessment | None = None
    only_middle: bool = False

    @model_validator(mode="after")
    def _every_place_is_assessed_where_any_is(self) -> Self:
        if (self.kind == "image") != (self.assessment is not None) or (self.kind == "image" and self.lesions):
            raise ValueError("an image as a whole has one assessment and no lesion, lesions and structures none")
        if any((lesion.assessment is None) != (self.task == "segmentation") for lesion in self.lesions):
            raise ValueError("every lesion is assessed, except by segmentation")
        return self

    @property
    def has_findings(self) -> bool:
        """Whether there is a lesion or structure, or the whole image is called positive."""
        return bool(self.lesions) or (self.assessment is not None and self.assessment.is_positive)

    @property
    def assessed(self) -> tuple[Assessment, ...]:
        """What is said of each lesion in order, or of the whole image; nothing for segmentation."""
        of_lesions = tuple(lesion.assessment for lesion in self.lesions if lesion.assessment)
        return (self.assessment,) if self.assessment else of_lesions
