"""What a network is asked for: to label voxels, to classify an image, or both with a diameter."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from fedward.settings.read import Name, Settings

Weight = Annotated[float, Field(gt=0, le=1000)]


class Segmentation(Settings):
    """Label every voxel with one of ``classes`` or background.

    ``measure`` is what validation reports: ``lesion_dice`` (per lesion of at least ``minimum_lesion_mm``, with false
    positives per scan) or ``dice`` (per class over the volume).

    A predicted lesion counts, in validation and in reports alike, when its long axis has at least ``minimum_lesion_mm``
    and its voxels a mean probability of at least ``minimum_probability``: the operating point of the detector.
    """

    kind: Literal["segmentation"]
    classes: Annotated[tuple[Name, ...], Field(min_length=1, max_length=32)]
    measure: Literal["lesion_dice", "dice"]
    minimum_lesion_mm: Annotated[float, Field(ge=0, le=100)] = 0.0
    minimum_probability: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="after")
    def _classes_differ(self) -> Self:
        _check_differ(self.classes)
        return self

    @property
    def label_classes(self) -> tuple[str, ...]:
        """The classes that a hospital's labels must name."""
        return self.classes


class Classification(Settings):
    """Say which of ``classes`` an image belongs to.

    Attributes:
        of: What an image is: a ``place`` of a scan, which shows what the voxel at its centre is labelled, or the whole
            scan (``image``), whose class stands in the table that the site file names.
        classes: In the order of the network's answers.
        positive: The class that ROC, AUC, sensitivity and specificity are about.
        class_weights: How much one image of each class counts in training; a constant of the job, never computed from
            a hospital's patients. Empty: all alike.
        operating_point: An image counts as positive from this probability of ``positive`` on.
    """

    kind: Literal["classification"]
    of: Literal["place", "image"] = "place"
    classes: Annotated[tuple[Name, ...], Field(min_length=2, max_length=32)]
    positive: Name
    class_weights: tuple[Weight, ...] = ()
    operating_point: Annotated[float, Field(gt=0, lt=1)] = 0.5

    @model_validator(mode="after")
    def _classes_agree(self) -> Self:
        _check_differ(self.classes)
        if self.positive not in self.classes:
            raise ValueError(f"positive must be one of the classes {list(self.classes)}, got {self.positive}")
        if self.class_weights and len(self.class_weights) != len(self.classes):
            raise ValueError(f"class_weights must be {len(self.classes)}, one a class, got {len(self.class_weights)}")
        return self

    @property
    def measure(self) -> str:
        """What validation reports.

        Of places ``auc``: for each lesion, the share of its scan's places without a lesion that get a lower
        probability. Of whole images ``brier``: for each, 1 less half the squared distance between the probabilities
        and the truth; unlike the AUC a mean over images, which can be summed over hospitals and bounded for a patient.
        """
        return "auc" if self.of == "place" else "brier"

    @property
    def label_classes(self) -> tuple[str, ...]:
        """The classes that a hospital's labels must name.

        A place's class is drawn from the voxel at its centre; whole images have all classes named in a table.
        """
        return (self.positive,) if self.of == "place" else self.classes

    @property
    def weights(self) -> tuple[float, ...]:
        """One weight a class."""
        return self.class_weights or (1.0,) * len(self.classes)

    @property
    def positive_index(self) -> int:
        """The positive class's place among the classes."""
        return self.classes.index(self.positive)


class MultiTask(Settings):
    """Of a patch around one lesion: label its voxels, say whether it is ``positive``, and give its diameter.

    Attributes:
        classes: The voxels' classes beside the background.
        positive: What the lesion is when its logit is high.
        class_weights: How much a lesion that is not ``positive``, and one that is, count in training; a constant of
            the job.
        typical_diameter_mm: The scale on which the network gives diameters, and on which their errors are counted.
        operating_point: A lesion counts as positive from this probability on.
        measure: What validation reports: for each lesion, the mean of its patch's Dice and of whether it is called
            positive rightly (1 or 0).
    """

    measure: ClassVar[str] = "lesion"

    kind: Literal["multitask"]
    classes: Annotated[tuple[Name, ...], Field(min_length=1, max_length=32)]
    positive: Name = "malignant"
    class_weights: tuple[Weight, Weight] = (1.0, 1.0)
    typical_diameter_mm: Annotated[float, Field(gt=0, le=200)] = 10.0
    operating_point: Annotated[float, Field(gt=0, lt=1)] = 0.5

    @model_validator(mode="after")
    def _classes_differ(self) -> Self:
        _check_differ(self.classes)
        return self

    @property
    def label_classes(self) -> tuple[str, ...]:
        """The classes that a hospital's labels must name."""
        return self.classes


AnyTask = Segmentation | Classification | MultiTask


def is_of_images(task: AnyTask) -> bool:
    """Whether a task is about whole images, whose classes no voxel shows."""
    return isinstance(task, Classification) and task.of == "image"


def _check_differ(classes: tuple[str, ...]) -> None:
    if len(set(classes)) != len(classes):
        raise ValueError(f"classes must differ, got {list(classes)}")
