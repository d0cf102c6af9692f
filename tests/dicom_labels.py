"""Labels written as real DICOM objects by other hands than ours (SEG by highdicom, RTSTRUCT by pydicom), and read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import highdicom
import numpy as np
import pytest
from highdicom.content import AlgorithmIdentificationSequence
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from dicom_series import Written
from fedward.dicom.labels import read_object
from fedward.dicom.matching import labels_of
from fedward.dicom.reader import scan
from fedward.errors import LabelRefused

Ring = Sequence[tuple[float, float, float]]


def drawn(folder: Path, values: dict[int, int] | None = None) -> np.ndarray:
    """Give the one label of the one series below ``folder``, segment k as value k unless told."""
    scanned = scan(folder)
    (series,) = scanned.series
    (label,) = labels_of(series, scanned)
    volume = series.read()
    array = np.zeros(volume.array.shape, dtype=np.uint8)
    read_object(scanned.root, label, volume, values or {number: number for number, _ in label.segments}, onto=array)
    return array


def refusal(folder: Path, code: str) -> str:
    """Give why the one label below ``folder`` is refused."""
    with pytest.raises(LabelRefused, match=code) as caught:
        drawn(folder)
    return caught.value.detail


def write_seg(
    path: Path,
    series: Written,
    masks: NDArray[np.generic],
    names: Sequence[str] = ("Nodule",),
    *,
    kind: str = "BINARY",
    sources: Sequence[Dataset] | None = None,
    **options: object,
) -> Dataset:
    """Write ``masks``: ``(slice, row, column)`` of 0 and 1, or with a last axis of one mask a segment."""
    algorithm = AlgorithmIdentificationSequence(name="hand", version="1", family=codes.DCM.ArtificialIntelligence)
    descriptions = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.Nodule,
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
        )
        for number, name in enumerate(names, start=1)
    ]
    segmentation = highdicom.seg.Segmentation(
        source_images=list(sources or series.datasets),
        pixel_array=masks,
        segmentation_type=kind,
        segment_descriptions=descriptions,
        series_instance_uid=generate_uid(),
        series_number=7,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="M",
        manufacturer_model_name="M",
        software_versions="1",
        device_serial_number="1",
        **options,
    )
    segmentation.save_as(path)
    return segmentation


def write_contours(
    path: Path,
    series: Written,
    regions: dict[str, Sequence[Ring]],
    *,
    kind: str = "CLOSED_PLANAR",
    name_images: bool = True,
    name_series: bool = True,
    frame_of_reference: str | None = None,
) -> FileDataset:
    """Write closed rings, given as voxel indices ``(slice, row, column)``, in patient coordinates."""
    source = series.datasets[0]
    frame = frame_of_reference or source.FrameOfReferenceUID
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.Modality, dataset.SeriesInstanceUID = "RTSTRUCT", generate_uid()
    dataset.StudyInstanceUID, dataset.PatientID = source.StudyInstanceUID, source.PatientID
    dataset.ReferencedFrameOfReferenceSequence = [_frame(frame, source, name_series=name_series)]
    dataset.StructureSetROISequence, dataset.ROIContourSequence = [], []
    uids = [one.SOPInstanceUID for one in series.datasets]
    for number, (name, rings) in enumerate(regions.items(), start=1):
        roi = Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, frame
        dataset.StructureSetROISequence.append(roi)
        contours = Dataset()
        contours.ReferencedROINumber = number
        contours.ContourSequence = [_contour(ring, series, kind, uids if name_images else None) for ring in rings]
        dataset.ROIContourSequence.append(contours)
    dataset.save_as(path, enforce_file_format=True)
    return dataset


def square(number: float, low: float, high: float) -> Ring:
    return [(number, low, low), (number, low, high), (number, high, high), (number, high, low)]


def _frame(frame: str, source: Dataset, *, name_series: bool) -> Dataset:
    item = Dataset()
    item.FrameOfReferenceUID = frame
    if name_series:
        study, series = Dataset(), Dataset()
        study.ReferencedSOPInstanceUID = source.StudyInstanceUID
        series.SeriesInstanceUID = source.SeriesInstanceUID
        study.RTReferencedSeriesSequence = [series]
        item.RTReferencedStudySequence = [study]
    return item


def _contour(ring: Ring, series: Written, kind: str, uids: Sequence[str] | None) -> Dataset:
    points = np.array([[*place, 1.0] for place in ring]) @ series.place.affine.T
    contour = Dataset()
    contour.ContourGeometricType, contour.NumberOfContourPoints = kind, len(ring)
    contour.ContourData = [round(float(value), 6) for value in points[:, :3].ravel()]
    number = round(ring[0][0])
    if uids is not None and 0 <= number < len(uids):
        image = Dataset()
        image.ReferencedSOPInstanceUID = uids[number]
        contour.ContourImageSequence = [image]
    return contour
