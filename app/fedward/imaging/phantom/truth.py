"""Writes the nodules' truth as a DICOM Segmentation (PS3.3, A.51); no nodule is an explicit empty one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import highdicom
import numpy as np
from highdicom.seg import Segmentation, SegmentDescription
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from fedward.imaging.phantom.ct_image import StudyNames
from fedward.imaging.phantom.patient import Patient
from fedward.settings.phantom import PhantomHospital

#: The one segment's label where all nodules of the patient are one class.
SEGMENT_LABEL = "Nodule"

#: The segments' labels where each nodule's grade is known; a patient without one kind has its segment empty.
GRADED_LABELS = ("Nodule benign", "Nodule malignant")


def truth_object(
    patient: Patient, images: Sequence[Dataset], profile: PhantomHospital, names: StudyNames, *, is_graded: bool = False
) -> Segmentation:
    """Give the segmentation of all nodules on the scan's own voxels (``images`` from the feet to the head).

    Args:
        patient: The patient.
        images: The scan.
        profile: The scanner.
        names: Of the study.
        is_graded: Whether benign and malignant nodules get a segment each; else all are one.
    """
    masks = [patient.truth]
    if is_graded:
        masks = [
            patient.truth_of(nodule for nodule in patient.nodules if nodule.plan.is_malignant is grade)
            for grade in (False, True)
        ]
        # Where two nodules touch, a voxel is of the graver one.
        masks[0] &= ~masks[1]
    mask = np.stack(masks, axis=-1)
    if profile.scanner.patient_position == "FFS":
        mask = mask[:, :, ::-1]
    labels = GRADED_LABELS if is_graded else (SEGMENT_LABEL,)
    segmentation = Segmentation(
        source_images=images,
        pixel_array=mask.astype(np.uint8),
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_segment(names, number, label) for number, label in enumerate(labels, start=1)],
        series_instance_uid=names.uid("seg-series"),
        series_number=900,
        sop_instance_uid=names.uid("seg"),
        instance_number=1,
        manufacturer="fedward",
        manufacturer_model_name="phantom",
        software_versions="1",
        device_serial_number="1",
        content_label="TRUTH",
        content_description="Nodules of the phantom",
        series_description="Phantom truth",
        omit_empty_frames=bool(mask.any()),
    )
    _make_repeatable(segmentation, images[0], names)
    return segmentation


def write_truth(segmentation: Segmentation, folder: Path) -> None:
    """Write the segmentation below ``folder``, named by its SOP instance UID."""
    folder.mkdir(parents=True)
    segmentation.save_as(folder / f"{segmentation.SOPInstanceUID}.dcm", enforce_file_format=True)


def _segment(names: StudyNames, number: int, label: str) -> SegmentDescription:
    return SegmentDescription(
        segment_number=number,
        segment_label=label,
        segmented_property_category=Code("49755003", "SCT", "Morphologically Abnormal Structure"),
        segmented_property_type=Code("27925004", "SCT", "Nodule"),
        anatomic_regions=[Code("39607008", "SCT", "Lung")],
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
        tracking_uid=names.uid("tracking" if number == 1 else f"tracking-{number}"),
        tracking_id="phantom-nodules" if number == 1 else f"phantom-nodules-{number}",
    )


def _make_repeatable(segmentation: Segmentation, image: Dataset, names: StudyNames) -> None:
    """Replace the clock's and the random values that highdicom writes by the study's own."""
    segmentation.ContentDate, segmentation.ContentTime = image.ContentDate, image.ContentTime
    segmentation.SeriesDate, segmentation.SeriesTime = image.SeriesDate, image.SeriesTime
    segmentation.InstanceCreationDate, segmentation.InstanceCreationTime = image.ContentDate, image.ContentTime
    moment = f"{image.ContentDate}{image.ContentTime}"
    for equipment in segmentation.ContributingEquipmentSequence:
        if "ContributionDateTime" in equipment:
            equipment["ContributionDateTime"].value = moment
    dimension = names.uid("dimension")
    for part in (*segmentation.DimensionOrganizationSequence, *segmentation.DimensionIndexSequence):
        part.DimensionOrganizationUID = dimension
