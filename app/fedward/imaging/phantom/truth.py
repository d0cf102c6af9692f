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

#: The one segment's label: all nodules of the patient are one class.
SEGMENT_LABEL = "Nodule"


def truth_object(
    patient: Patient, images: Sequence[Dataset], profile: PhantomHospital, names: StudyNames
) -> Segmentation:
    """Give the segmentation of all nodules on the scan's own voxels (``images`` from the feet to the head)."""
    mask = patient.truth
    if profile.scanner.patient_position == "FFS":
        mask = mask[:, :, ::-1]
    segmentation = Segmentation(
        source_images=images,
        pixel_array=mask.astype(np.uint8),
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_segment(names)],
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


def _segment(names: StudyNames) -> SegmentDescription:
    return SegmentDescription(
        segment_number=1,
        segment_label=SEGMENT_LABEL,
        segmented_property_category=Code("49755003", "SCT", "Morphologically Abnormal Structure"),
        segmented_property_type=Code("27925004", "SCT", "Nodule"),
        anatomic_regions=[Code("39607008", "SCT", "Lung")],
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
        tracking_uid=names.uid("tracking"),
        tracking_id="phantom-nodules",
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
