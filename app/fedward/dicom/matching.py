"""Which label objects refer to which series."""

from __future__ import annotations

from fedward.dicom.objects import LabelObject
from fedward.dicom.reader import Scan, ScannedSeries
from fedward.dicom.volume import Verdict


def labels_of(series: ScannedSeries, scan: Scan) -> tuple[LabelObject, ...]:
    """Give the label objects that refer to a series: by its UID, by an image of it, or by its frame of reference.

    A frame of reference counts only for an object that names no image at all, and only where this series is the one
    series in it: CT and PET of one visit share theirs. Copies of one object count once.
    """
    found = {label.sop_instance_uid or str(label.path): label for label in scan.labels if _refers(label, series, scan)}
    return tuple(found.values())


def _refers(label: LabelObject, series: ScannedSeries, scan: Scan) -> bool:
    if label.referenced_series or label.referenced_instances:
        instances = {header.sop_instance_uid for header in series.headers}
        by_series = series.verdict.series_instance_uid in label.referenced_series
        return by_series or not instances.isdisjoint(label.referenced_instances)
    frame = label.frame_of_reference_uid
    return bool(frame) and [series] == [one for one in scan.series if _frame_of_reference(one) == frame]


def _frame_of_reference(series: ScannedSeries) -> str:
    return series.headers[0].frame_of_reference_uid


def orphans(scan: Scan) -> tuple[Verdict, ...]:
    """Refuse each label object that refers to no series of its scan."""
    referring = {label.path for series in scan.series for label in scan.labels if _refers(label, series, scan)}
    return tuple(_orphan(label) for label in scan.labels if label.path not in referring)


def _orphan(label: LabelObject) -> Verdict:
    reason = label.fault or f"the images that this {label.kind} was drawn on are not here"
    return Verdict(
        accepted=False,
        code="unreadable_label" if label.fault else "unknown_reference",
        sentence=f"{label.path}: {reason}",
        series_instance_uid="",
        study_instance_uid=label.study_instance_uid,
        modality=label.kind,
        file_count=1,
        files=(str(label.path),),
    )
