"""What a SEG or an RTSTRUCT points at: the series and images that it was drawn on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from pydicom.dataset import Dataset

from fedward.dicom.objects import LabelKind, LabelObject
from fedward.dicom.values import text


def label_object(dataset: Dataset, path: PurePosixPath, kind: LabelKind) -> LabelObject:
    """Give the references and segments of a SEG or RTSTRUCT data set (without its pixels)."""
    read = _segmentation if kind == "SEG" else _structure_set
    frame_of_reference, series, instances, segments = read(dataset)
    return LabelObject(
        path=path,
        kind=kind,
        sop_instance_uid=text(dataset, "SOPInstanceUID"),
        study_instance_uid=text(dataset, "StudyInstanceUID"),
        frame_of_reference_uid=frame_of_reference,
        referenced_series=frozenset(series),
        referenced_instances=frozenset(instances),
        segments=tuple(sorted(segments)),
    )


def items(dataset: Dataset, keyword: str) -> list[Dataset]:
    """Give the items of a sequence, none where it is absent."""
    return list(dataset.get(keyword) or ())


_Found = tuple[str, set[str], set[str], list[tuple[int, str]]]


def _segmentation(dataset: Dataset) -> _Found:
    referenced = items(dataset, "ReferencedSeriesSequence")
    series = {text(item, "SeriesInstanceUID") for item in referenced}
    instances = {
        text(instance, "ReferencedSOPInstanceUID")
        for item in referenced
        for instance in items(item, "ReferencedInstanceSequence")
    }
    for frame in items(dataset, "PerFrameFunctionalGroupsSequence"):
        instances.update(source_images(frame))
    segments = [
        (int(item.SegmentNumber), text(item, "SegmentLabel"))
        for item in items(dataset, "SegmentSequence")
        if int(item.SegmentNumber) > 0
    ]
    return text(dataset, "FrameOfReferenceUID"), series - {""}, instances - {""}, segments


def source_images(frame: Dataset) -> Iterator[str]:
    """Give the SOP Instance UIDs that a SEG's frame was derived from (PS3.3 C.7.6.16.2.6)."""
    for derivation in items(frame, "DerivationImageSequence"):
        for source in items(derivation, "SourceImageSequence"):
            yield text(source, "ReferencedSOPInstanceUID")


def _structure_set(dataset: Dataset) -> _Found:
    frames = items(dataset, "ReferencedFrameOfReferenceSequence")
    series = {
        text(item, "SeriesInstanceUID")
        for frame in frames
        for study in items(frame, "RTReferencedStudySequence")
        for item in items(study, "RTReferencedSeriesSequence")
    }
    instances = {uid for roi in items(dataset, "ROIContourSequence") for uid in contour_images(roi)}
    regions = items(dataset, "StructureSetROISequence")
    named = {text(item, "FrameOfReferenceUID") for item in frames}
    named |= {text(item, "ReferencedFrameOfReferenceUID") for item in regions}
    named.discard("")
    segments = [(int(item.ROINumber), text(item, "ROIName")) for item in regions]
    return next(iter(named)) if len(named) == 1 else "", series - {""}, instances - {""}, segments


def contour_images(roi: Dataset) -> Iterator[str]:
    """Give the SOP Instance UIDs that an RTSTRUCT region's contours were drawn on (PS3.3 C.8.8.6)."""
    for contour in items(roi, "ContourSequence"):
        for image in items(contour, "ContourImageSequence"):
            yield text(image, "ReferencedSOPInstanceUID")
