"""Every word that a report says to a person, in one place."""

from __future__ import annotations

from types import MappingProxyType

from fedward.inference.findings import Assessment, Findings, Lesion, PatientPoint
from fedward.inference.model import ModelFacts
from fedward.inference.own_record import Association, Measurement

NOT_FOR_CLINICAL_USE = (
    "Not for clinical use. Written by a research program; no physician has verified it. "
    "It must not be used for diagnosis or treatment."
)
SEGMENTATION_SERIES = "AI findings, not for clinical use"
NO_SEGMENTATION_FOR_NIFTI = "A NIfTI source has no DICOM images that a segmentation could refer to."
NO_SEGMENTATION_OF_IMAGE = "The model judges the image as a whole and outlines nothing."
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
        "probability": "Mean probability of the outline",
        "measuring_note": (
            "Axes are measured in the slice where the long axis is longest, the short axis at a right angle to it. "
            "Slices count from 1 in the volume's order; the image number is the Instance Number that a viewer shows. "
            "Positions are in the patient: L or R, P or A, H or F of the frame of reference's origin. "
            "The probability is the model's own, averaged over the region; it is not calibrated."
        ),
        "assessment": "Assessment",
        "called": "Called",
        "estimated_diameter": "Diameter, estimated",
        "association": "What goes with the class at this hospital",
        "measurement": "Measurement",
        "fall": "Fall of the AUC",
        "diameter_note": (
            "The estimated diameter is what the network says of the patch around the lesion: that of a ball with its "
            "volume. The axes above are measured on the outline."
        ),
        "pictures": "Key slices",
        "example_pictures": "Example slices",
        "whole_slice": "Whole slice",
        "close_up": "Close-up",
        "orientation_note": "Letters name the patient's sides: R right, L left, A front, P back, H head, F foot.",
        "model": "Model",
        "model_not_run": "The model that was to read it",
        "lesion_model": "The model that found the lesions",
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

_MEASUREMENTS = {
    "volume_mm3": "Volume",
    "long_axis_mm": "Long axis",
    "short_axis_mm": "Short axis",
    "axes_ratio": "Short over long axis",
    "mean_intensity": "Mean intensity",
    "intensity_deviation": "Spread of intensity",
}

_MEASURES = {
    "lesion_dice": "mean lesion Dice",
    "dice": "mean Dice",
    "auc": "AUC of lesions against other places of their scans",
    "brier": "mean Brier score, turned so that 1 is certain and right:",
    "lesion": "mean over lesions of their Dice and of whether they are called rightly",
}


def headline(findings: Findings) -> str:
    """Say the result in one line."""
    if findings.assessment:
        return f"The image is called {findings.assessment.called}"
    count = len(findings.lesions)
    if findings.kind == "structures":
        found = "No structure was found" if not count else f"{count} {_plural('structure', count)} outlined"
    else:
        found = "No lesion was found" if not count else f"{count} {_plural('lesion', count)} found"
    calls = findings.assessed
    return f"{found}, {sum(call.is_positive for call in calls)} called {calls[0].positive}" if calls else found


def explanation(findings: Findings) -> str:
    """Say what the headline means and what it does not."""
    if findings.assessment:
        return f"The model judged the image as a whole and outlined nothing. {_calling('It', findings.assessment)}"
    if findings.kind == "structures":
        return "Every class of the model is shown as one region."
    if not findings.lesions:
        return f"The model marked no region{_limits(findings)} in this series. That does not prove that there is none."
    listed = f"Every connected region{_limits(findings)} that the model marked is listed, by falling long axis."
    return f"{listed} {_calling('A lesion', findings.assessed[0])}" if findings.assessed else listed


def _calling(what: str, assessment: Assessment) -> str:
    """Say when something is called positive."""
    return f"{what} is called {assessment.positive} from a probability of {assessment.operating_point:g} on."


def probability_of(class_name: str) -> str:
    """Head the column of a class."""
    return f"Probability of {class_name}"


def assessment_note(assessment: Assessment) -> str:
    """Say what the probabilities are worth, and what the call is not."""
    worth = (
        "The probabilities are the network's own; they are not calibrated."
        if assessment.calibrated_on is None
        else f"The probabilities were calibrated on {assessment.calibrated_on} "
        f"{_plural('lesion', assessment.calibrated_on)} of this hospital's own patients."
    )
    return f"{worth} A call is not a diagnosis."


def association(found: Association) -> str:
    """Say what the list of measurements is about, and what it is not."""
    return (
        f"On {found.lesions} labelled lesions of {found.patients} patients of this hospital, {found.positives} of them "
        f"{found.positive}, a random forest tells {found.positive} lesions by these measurements with an AUC of "
        f"{found.auc:.2f}, asked about patients whom it was not grown on. Each number is by how much that AUC falls "
        "when one measurement is shuffled among the lesions. This is association in this hospital's past patients: it "
        "is no cause, it does not say why the model judged this patient's lesions so, and measurements that say the "
        "same share their worth."
    )


def measurement(name: str) -> str:
    """Name a measurement."""
    return _MEASUREMENTS.get(name, name)


def fall(worth: Measurement) -> str:
    """Write by how much the AUC falls, with its standard deviation over the shuffles."""
    return f"{worth.fall:.3f} ± {worth.deviation:.3f}".replace("-", "−")


def lesion_title(lesion: Lesion) -> str:
    """Name a lesion with its axes and, where it is judged, how likely the positive class is."""
    title = f"{lesion.class_name} {lesion.number}: {lesion.long_axis_mm:.1f} × {lesion.short_axis_mm:.1f} mm"
    call = lesion.assessment
    return f"{title}, {call.positive} {call.positive_probability:.2f}" if call else title


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


def only_middle(findings: Findings) -> str:
    """Warn where the model did not see all of an image; empty where it did."""
    if not findings.only_middle:
        return ""
    return "The image is larger than what the model looks at: it saw its middle alone, and knows nothing of the rest."


def probability(value: float) -> str:
    """Write a probability; one that its rounding makes 0 or 1 is neither."""
    return "< 0.001" if value < 0.001 else "> 0.999" if value > 0.999 else f"{value:.3f}"


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
