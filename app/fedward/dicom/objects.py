"""What a file can be: an image's header, a label, something else of DICOM, or a broken file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

LabelKind = Literal["SEG", "RTSTRUCT"]


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What one image file says about itself, without its pixels.

    Attributes:
        path: Relative to the data root.
        sop_class_uid: (0008,0016), or the file meta information's where that is empty.
        sop_instance_uid: (0008,0018), likewise.
        series_instance_uid: (0020,000E), empty where absent.
        study_instance_uid: (0020,000D), likewise.
        patient_key: Issuer and normalised id, empty where the file has no patient id.
        frames: (0028,0008), 1 where absent.
        position_mm: Image Position (Patient) (0020,0032), LPS.
        orientation: Image Orientation (Patient) (0020,0037): along a row, then along a column.
        pixel_spacing_mm: (0028,0030): between rows, then between columns.
        slope: (0028,1053), None where absent.
        intercept: (0028,1052), None where absent.
        gantry_tilt_degrees: (0018,1120), 0 where absent.
        units: (0054,1001) of a PET image.
        fault: Why the file itself cannot be trusted, empty where it can.
    """

    path: PurePosixPath
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    patient_key: str
    modality: str
    manufacturer: str = ""
    model_name: str = ""
    frame_of_reference_uid: str = ""
    image_type: tuple[str, ...] = ()
    transfer_syntax_uid: str = ""
    rows: int = 0
    columns: int = 0
    frames: int = 1
    samples: int = 1
    photometric: str = ""
    bits_allocated: int = 0
    bits_stored: int = 0
    high_bit: int = 0
    position_mm: tuple[float, ...] | None = None
    orientation: tuple[float, ...] | None = None
    pixel_spacing_mm: tuple[float, ...] | None = None
    slope: float | None = None
    intercept: float | None = None
    has_lookup_table: bool = False
    has_integer_pixels: bool = True
    gantry_tilt_degrees: float = 0.0
    units: str = ""
    fault: str = ""


@dataclass(frozen=True, slots=True)
class LabelObject:
    """A SEG or RTSTRUCT file and what it points at.

    Attributes:
        path: Relative to the data root.
        kind: Which of the two.
        sop_instance_uid: (0008,0018).
        study_instance_uid: (0020,000D).
        frame_of_reference_uid: Of the object, or of the one frame of reference that an RTSTRUCT names.
        referenced_series: Series Instance UIDs that it names.
        referenced_instances: SOP Instance UIDs that its frames or contours name.
        segments: Number and name of each segment or ROI, in number order.
        fault: Why the file itself cannot be read, empty where it can.
    """

    path: PurePosixPath
    kind: LabelKind
    sop_instance_uid: str
    study_instance_uid: str
    frame_of_reference_uid: str = ""
    referenced_series: frozenset[str] = frozenset()
    referenced_instances: frozenset[str] = frozenset()
    segments: tuple[tuple[int, str], ...] = ()
    fault: str = ""


@dataclass(frozen=True, slots=True)
class OtherObject:
    """A DICOM object that is neither image nor label, by the name of its class (a report, a plan, a DICOMDIR)."""

    path: PurePosixPath
    class_name: str


@dataclass(frozen=True, slots=True)
class BrokenFile:
    """A file that claims to be DICOM, or lies among DICOM files under their kind of name, and cannot be read."""

    path: PurePosixPath
    reason: str
    series_instance_uid: str = ""


@dataclass(frozen=True, slots=True)
class NotDicom:
    """A file that makes no claim to be DICOM."""

    path: PurePosixPath


FoundObject = ImageHeader | LabelObject | OtherObject | BrokenFile | NotDicom
