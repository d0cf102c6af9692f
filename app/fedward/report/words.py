"""Every word that a report says to a person, in one place."""

from __future__ import annotations

from types import MappingProxyType

from fedward.inference.findings import Findings, PatientPoint
from fedward.inference.model import ModelFacts

NOT_FOR_CLINICAL_USE = (
    "Not for clinical use. Written by a research program; no physician has verified it. "
    "It must not be used for diagnosis or treatment."
)
SEGMENTATION_SERIES = "AI findings, not for clinical use"
NO_SEGMENTATION_FOR_NIFTI = "A NIfTI source has no DICOM images that a segmentation could refer to."
NO_SEGMENTATION_OF_REFUSED = "A refused series was not segmented."

#: The page's fixed words, by the name under which the template asks for them.
PAGE = MappingProxyType(
    {
        "language": "en",
        "title": "fedward report",
        "printed_notice": "Not for clinical use",
        "banner": NOT_FOR_CLINICAL_USE,
        "patient": "Patient",
        "patient_id": "Patient ID",
        "accession_number": "Accession number",
        "study": "Study",
        "study_date": "Date",
        "description": "Description",
        "instance_uid": "Instance UID",
        "series": "Series",
        "series_number": "Number",
        "modality": "Modality",
        "scanner": "Scanner",
        "grid": "Size",
        "spacing": "Spacing",
        "source": "Source",
        "findings": "Findings",
        "number": "No.",
        "class_name": "Class",
        "long_axis": "Long axis",
        "short_axis": "Short axis",
        "mean_diameter": "Mean diameter",
        "volume": "Volume",
        "slice": "Slice",
        "image_number": "Image no.",
        "position": "Centre in the patient",
        "probability": "Mean probability",
        "measuring_note": (
            "Axes are measured in the slice where the long axis is longest, the short axis at a right angle to it. "
            "Slices count from 1 in the volume's order; the image number is the Instance Number that a viewer shows. "
            "Positions are in the patient: L or R, P or A, H or F of the frame of reference's origin. "
            "The probability is the model's own, averaged over the region; it is not calibrated."
        ),
        "pictures": "Key slices",
        "example_pictures": "Example slices",
        "whole_slice": "Whole slice",
        "close_up": "Close-up",
        "orientation_note": "Letters name the patient's sides: R right, L left, A front, P back, H head, F foot.",
        "model": "Model",
        "model_not_run": "The model that was to read it",
        "release": "Release",
        "model_hash": "SHA-256 of the model",
        "trained": "Trained",
        "participants": "Hospitals that took part",
        "signed_by": "Signed by",
        "signature": "Signature",
        "stands_on": "Stands on",
        "validation": "Validation",
        "gate": "Release gate",
        "privacy": "Privacy of the training",
        "files": "Files",
        "segmentation": "DICOM segmentation",
        "data": "This report as data",
        "written": "Written",
        "refused": "The series was refused",
        "refusal_code": "Code",
        "refusal_reason": "Reason",
        "refusal_note": "No model was run over it, and nothing can be said about what it shows.",
    }
)

_GATES = {
    "first_release": "the first release of its name: there was none to compare with",
    "passed": "no hospital found it worse than the release before, by more than the gate's margin",
    "without_gate": "RELEASED WITHOUT PASSING IT: it may be worse than the release before",
}

_MEASURES = {"lesion_dice": "mean lesion Dice", "dice": "mean Dice"}


def headline(findings: Findings) -> str:
    """Say the result in one line."""
    count = len(findings.lesions)
    if findings.kind == "structures":
        return "No structure was found" if not count else f"{count} {_plural('structure', count)} outlined"
    return "No lesion was found" if not count else f"{count} {_plural('lesion', count)} found"


def explanation(findings: Findings) -> str:
    """Say what the headline means and what it does not."""
    if findings.kind == "structures":
        return "Every class of the model is shown as one region."
    if not findings.lesions:
        return f"The model marked no region{_limits(findings)} in this series. That does not prove that there is none."
    return f"Every connected region{_limits(findings)} that the model marked is listed, by falling long axis."


def _limits(findings: Findings) -> str:
    """Say which regions count: the smallest ones and those that the model is least sure of do not."""
    limits = []
    if findings.minimum_lesion_mm:
        limits.append(f"at least {findings.minimum_lesion_mm:g} mm")
    if findings.minimum_probability:
        limits.append(f"a mean probability of at least {findings.minimum_probability:g}")
    return f" of {' and '.join(limits)}" if limits else ""


def left_out(findings: Findings) -> str:
    """Warn when the list was cut; empty when it was not."""
    if not findings.left_out:
        return ""
    return (
        f"{findings.left_out} smaller regions are not listed. "
        "A model that marks so many does not fit this image; do not rely on any of them."
    )


def pictures_left_out(shown: int, count: int) -> str:
    """Say how many lesions have a picture; empty when all have."""
    return f"The {shown} largest of {count} are shown." if shown < count else ""


def privacy(facts: ModelFacts | None) -> str:
    """Say what the training promises to the patients whose images it used."""
    if facts is None:
        return "No model was run."
    if facts.private:
        return (
            f"Trained with differential privacy for whole patients: epsilon {facts.epsilon:g} at delta "
            f"{facts.delta:g} bounds what the model can show of any one of them."
        )
    line = ", or a release that it stands on," if facts.stands_on else ""
    return (
        f"Not private: this model{line} was trained without differential privacy. No image left a hospital, "
        "but nothing bounds what the model itself may show of a patient whom it was trained on."
    )


def training(facts: ModelFacts) -> str:
    """Say how long the model was trained."""
    return f"{facts.rounds} {_plural('round', facts.rounds)} of federated averaging"


def gate(facts: ModelFacts) -> str:
    """Say whether the model was held against the one before it."""
    return _GATES[facts.gate]


def validation(facts: ModelFacts) -> str:
    """Say what the model reached in validation; empty where that is unknown."""
    if facts.validation_score is None:
        return ""
    measure = _MEASURES.get(facts.validation_measure, facts.validation_measure)
    return f"{measure} {facts.validation_score:.2f} on validation patients of the hospitals".strip()


def signature(facts: ModelFacts) -> str:
    """Say whether this site checked the signature."""
    return "verified at this site" if facts.signature_verified else "NOT VERIFIED at this site"


def no_segmentation(reason: str) -> str:
    """Say why a readable series has no DICOM SEG."""
    return f"The source's headers do not carry what a DICOM segmentation must repeat of them: {reason}"


def position(point: PatientPoint) -> str:
    """Write a patient position, mm, with the letters of its sides.

    Example:
        >>> position((12.34, -3.0, -100.0))
        'L 12.3, A 3.0, F 100.0'
    """
    sides = zip(point, ("LR", "PA", "HF"), strict=True)
    return ", ".join(f"{letters[value < 0]} {abs(value):.1f}" for value, letters in sides)


def grid(shape: tuple[int, int, int] | None) -> str:
    """Say how many voxels a series has; empty where that is unknown."""
    return f"{shape[0]} slices of {shape[1]} × {shape[2]}" if shape else ""


def spacing(spacing_mm: tuple[float, float, float] | None) -> str:
    """Say how far apart voxels are; empty where that is unknown."""
    if not spacing_mm:
        return ""
    slices, rows, columns = spacing_mm
    return f"{slices:.3g} mm, in the slice {rows:.3g} × {columns:.3g} mm"


def sentence(text: str) -> str:
    """Begin with a capital and end with a stop."""
    text = text.strip()
    return text if not text else text[0].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def picture_label(slice_number: int, slices: int, image_number: int | None) -> str:
    """Name a slice."""
    image = "" if image_number is None else f", image no. {image_number}"
    return f"Slice {slice_number} of {slices}{image}"


def _plural(noun: str, count: int) -> str:
    return noun if count == 1 else f"{noun}s"
