"""The lesions as a DICOM Segmentation on the source's own voxels (PS3.3 A.51)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO

import highdicom
from highdicom.color import CIELabColor
from highdicom.seg import Segmentation, SegmentDescription
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

import fedward
from fedward.dicom.volume import Volume
from fedward.inference.findings import Findings
from fedward.inference.lesions import Inference, new_uid
from fedward.inference.model import LoadedModel, ModelFacts
from fedward.randomness import Secret
from fedward.report.codes import ALGORITHM_FAMILY, codes_of, colour_of
from fedward.report.document import SegmentationFile
from fedward.report.words import SEGMENTATION_SERIES
from fedward.settings.tasks import Segmentation as Task

#: Out of the way of the scanner's own series numbers.
SERIES_NUMBER = 9001

#: Attributes of type 2 that de-identified files may lack; the SEG repeats them empty.
_MAY_BE_EMPTY = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
)


@dataclass(frozen=True)
class EncodedSegmentation:
    """A DICOM SEG as bytes, with what the report says about it."""

    content: bytes
    entry: SegmentationFile


def encode_segmentation(
    inference: Inference,
    volume: Volume,
    headers: Sequence[Dataset],
    *,
    model: LoadedModel,
    randomness: Secret,
) -> EncodedSegmentation:
    """Write every lesion as a binary segment with the source's planes; slices without one are left out.

    Nothing found is written as one segment that is empty on every slice: an explicit answer, not a missing one.

    Args:
        inference: The lesions and where they are.
        volume: The source.
        headers: Of every slice, in slice order; they are completed in place.
        model: What outlined them is named as the algorithm.
        randomness: Draws the new UIDs.

    Raises:
        ValueError: the headers lack what a DICOM SEG must repeat, such as the frame of reference; or the model
            outlines nothing.
    """
    _complete(headers, slice_spacing_mm=volume.spacing_mm[0])
    patient_name = _taken_name(headers)
    outline, facts = model.outline, model.outliner.facts if model.outliner else None
    if outline is None or facts is None:
        raise ValueError(f"{model.facts.name} outlines nothing")
    segments = list(_segments(inference.findings, outline, facts))
    document = Segmentation(
        source_images=list(headers),
        pixel_array=inference.lesion_map,
        segmentation_type="BINARY",
        segment_descriptions=segments,
        series_instance_uid=new_uid(randomness),
        series_number=SERIES_NUMBER,
        sop_instance_uid=new_uid(randomness),
        instance_number=1,
        manufacturer="fedward",
        manufacturer_model_name=facts.name,
        software_versions=fedward.__version__,
        device_serial_number=facts.model_sha256[:16],
        series_description=SEGMENTATION_SERIES,
        content_label="FINDINGS",
        content_description=f"{facts.name} release {facts.release_number}"[:64],
        transfer_syntax_uid=ExplicitVRLittleEndian,
        specific_character_set="ISO_IR 192",
        omit_empty_frames=bool(inference.findings.lesions),
    )
    document.PatientName = patient_name
    buffer = BytesIO()
    document.save_as(buffer, enforce_file_format=True)
    entry = SegmentationFile(
        file="segmentation.dcm",
        series_instance_uid=document.SeriesInstanceUID,
        sop_instance_uid=document.SOPInstanceUID,
        segments=len(segments),
    )
    return EncodedSegmentation(buffer.getvalue(), entry)


def _segments(findings: Findings, outline: Task, facts: ModelFacts) -> Iterator[SegmentDescription]:
    algorithm = _algorithm(facts)
    if not findings.lesions:
        codes = codes_of(outline.classes[0], kind=findings.kind)
        yield SegmentDescription(
            segment_number=1,
            segment_label=f"{outline.classes[0]}: none found"[:64],
            segmented_property_category=codes.category,
            segmented_property_type=codes.type,
            anatomic_regions=[codes.region] if codes.region else None,
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
        )
    for lesion in findings.lesions:
        codes = codes_of(lesion.class_name, kind=findings.kind)
        name = f"{lesion.class_name[:48]} {lesion.number}"
        yield SegmentDescription(
            segment_number=lesion.number,
            segment_label=name,
            segmented_property_category=codes.category,
            segmented_property_type=codes.type,
            anatomic_regions=[codes.region] if codes.region else None,
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
            tracking_id=name,
            tracking_uid=lesion.tracking_uid,
            display_color=CIELabColor.from_rgb(*colour_of(lesion.number)),
        )


def _algorithm(facts: ModelFacts) -> highdicom.AlgorithmIdentificationSequence:
    return highdicom.AlgorithmIdentificationSequence(
        name=facts.name,
        family=ALGORITHM_FAMILY,
        version=str(facts.release_number),
        source="fedward",
        parameters={"model_sha256": facts.model_sha256},
    )


def _taken_name(headers: Sequence[Dataset]) -> str | None:
    """Take the patient's name out of the headers, for the file alone: highdicom logs a name of one part in full."""
    name = headers[0].PatientName
    for header in headers:
        header.PatientName = None
    return str(name) if name else None


def _complete(headers: Sequence[Dataset], *, slice_spacing_mm: float) -> None:
    """Make the headers fit to be repeated.

    highdicom takes the spacing between slices and the orientation from the source and lets no argument overrule them: a
    wrong Spacing Between Slices (0018,0088) would give a SEG that no reader can put back into a volume, and a cosine
    that differs in its last digit between slices would be refused.
    """
    orientation = headers[0].ImageOrientationPatient
    for header in headers:
        for keyword in _MAY_BE_EMPTY:
            if keyword not in header:
                setattr(header, keyword, None)
        if header.PatientSex not in ("M", "F", "O"):
            header.PatientSex = None
        header.ImageOrientationPatient = orientation
        header.SpacingBetweenSlices = f"{slice_spacing_mm:.10g}"
        if header.get("SliceThickness") is None:
            header.SliceThickness = header.SpacingBetweenSlices
