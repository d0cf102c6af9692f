"""What must be true of a series' headers before its geometry is worth a look; each rule has its code."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np

from fedward.dicom.classes import MULTI_FRAME, SINGLE_FRAME, is_secondary_capture
from fedward.dicom.geometry import ORIENTATION_TOLERANCE
from fedward.dicom.objects import ImageHeader
from fedward.dicom.stored_pixels import can_decode
from fedward.dicom.values import is_derived_key
from fedward.errors import SeriesRefused

_MODALITIES = frozenset(SINGLE_FRAME.values())
#: Words of Image Type (0008,0008) that mark a planning image.
_LOCALIZER_WORDS = frozenset({"LOCALIZER", "SCOUT"})
_SPACING_TOLERANCE = 1e-4


def refuse_inconsistent(headers: Sequence[ImageHeader]) -> None:
    """Refuse a series whose images are not all alike, readable and of a kind that becomes a volume.

    Raises:
        SeriesRefused: the first rule that fails, in the order below.
    """
    for rule in (
        _broken_files,
        _mixed_patients_and_studies,
        _kind_of_object,
        _localizers,
        _frames,
        _required_attributes,
        _transfer_syntaxes,
        _pixel_formats,
        _rescale,
        _frames_of_reference,
        _orientations,
        _sizes,
    ):
        rule(headers)


def _broken_files(headers: Sequence[ImageHeader]) -> None:
    for header in headers:
        if header.fault:
            # What looks like damaged pixels may be pixels in a syntax that nobody here knows.
            _transfer_syntaxes([header])
            raise SeriesRefused("unreadable", f"{header.path}: {header.fault}")


def _same(headers: Sequence[ImageHeader], value: Callable[[ImageHeader], Hashable]) -> bool:
    return len({value(header) for header in headers}) == 1


def _mixed_patients_and_studies(headers: Sequence[ImageHeader]) -> None:
    patients = {header.patient_key for header in headers}
    if len(patients) > 1 and not all(is_derived_key(key) for key in patients):
        raise SeriesRefused("mixed_patient", "its images carry the ids of several patients (0010,0020)")
    if not _same(headers, lambda header: header.study_instance_uid):
        raise SeriesRefused("mixed_study", "its images belong to several studies (0020,000D); a series belongs to one")
    modalities = sorted({header.modality for header in headers})
    if len(modalities) > 1:
        raise SeriesRefused("mixed_modality", f"one series holds several modalities: {', '.join(modalities)}")


def _kind_of_object(headers: Sequence[ImageHeader]) -> None:
    for header in headers:
        if header.sop_class_uid in MULTI_FRAME:
            raise SeriesRefused(
                "multi_frame",
                f"{header.path} is an enhanced multi-frame object, not supported yet; export single-frame images",
            )
        if header.modality not in _MODALITIES:
            named = header.modality or "none"
            raise SeriesRefused("unsupported_modality", f"modality (0008,0060) is {named}; CT, MR and PT are read")
        if is_secondary_capture(header.sop_class_uid):
            raise SeriesRefused("not_a_volume", f"{header.path} is a secondary capture: a picture of an image")
        if SINGLE_FRAME.get(header.sop_class_uid) != header.modality:
            raise SeriesRefused(
                "not_a_volume", f"{header.path} is a {header.modality} object that is not a plain image (0008,0016)"
            )


def _localizers(headers: Sequence[ImageHeader]) -> None:
    found = [header for header in headers if _LOCALIZER_WORDS & {word.upper() for word in header.image_type}]
    if found and len(found) == len(headers):
        raise SeriesRefused("localizer", "Image Type (0008,0008) says that these are planning images")
    if found:
        raise SeriesRefused("localizer", f"{found[0].path} is a planning image among the slices (0008,0008)")


def _frames(headers: Sequence[ImageHeader]) -> None:
    for header in headers:
        if "MOSAIC" in (word.upper() for word in header.image_type):
            raise SeriesRefused("mosaic", f"{header.path} is a mosaic of many slices, which is not supported yet")
        if header.frames > 1:
            raise SeriesRefused("multi_frame", f"{header.path} holds {header.frames} frames; one a file is read")


def _required_attributes(headers: Sequence[ImageHeader]) -> None:
    for header in headers:
        required: dict[str, object] = {
            "Image Position (Patient) (0020,0032)": header.position_mm,
            "Image Orientation (Patient) (0020,0037)": header.orientation,
            "Pixel Spacing (0028,0030)": header.pixel_spacing_mm,
            "Rows (0028,0010)": header.rows or None,
            "Columns (0028,0011)": header.columns or None,
            "Bits Allocated (0028,0100)": header.bits_allocated or None,
        }
        if header.modality != "MR":
            required["Rescale Slope (0028,1053)"] = header.slope
            required["Rescale Intercept (0028,1052)"] = header.intercept
        missing = [name for name, value in required.items() if value is None]
        if missing:
            raise SeriesRefused("missing_attribute", f"{header.path} has no {', '.join(missing)}")
        if header.pixel_spacing_mm is not None and min(header.pixel_spacing_mm) <= 0:
            raise SeriesRefused("invalid_attribute", f"{header.path}: Pixel Spacing (0028,0030) is not positive")


def _transfer_syntaxes(headers: Sequence[ImageHeader]) -> None:
    for uid in sorted({header.transfer_syntax_uid for header in headers}):
        if not can_decode(uid):
            path = next(header.path for header in headers if header.transfer_syntax_uid == uid)
            raise SeriesRefused("unsupported_transfer_syntax", f"{path}: no decoder for transfer syntax {uid}")


def _pixel_formats(headers: Sequence[ImageHeader]) -> None:
    for header in headers:
        if header.samples != 1 or not header.photometric.startswith("MONOCHROME"):
            raise SeriesRefused(
                "unsupported_pixel_format",
                f"{header.path}: pixels are {header.photometric or 'of no named kind'}, not grey",
            )
        if not header.has_integer_pixels or header.bits_allocated not in {8, 16, 32}:
            raise SeriesRefused(
                "unsupported_pixel_format",
                f"{header.path}: pixels are not whole numbers of 8, 16 or 32 bits (0028,0100)",
            )
        if header.high_bit != header.bits_stored - 1 or not 0 < header.bits_stored <= header.bits_allocated:
            raise SeriesRefused(
                "unsupported_pixel_format",
                f"{header.path}: High Bit {header.high_bit} does not suit {header.bits_stored} Bits Stored (0028,0102)",
            )
    if not _same(headers, lambda header: (header.photometric, header.units)):
        raise SeriesRefused("mixed_pixel_format", "its images differ in grey scale (0028,0004) or units (0054,1001)")


def _rescale(headers: Sequence[ImageHeader]) -> None:
    for header in headers:
        if header.has_lookup_table:
            raise SeriesRefused(
                "invalid_rescale", f"{header.path} maps its values by a table (0028,3000), not by a line"
            )
        if header.slope is not None and header.slope <= 0:
            raise SeriesRefused("invalid_rescale", f"{header.path}: Rescale Slope (0028,1053) is {header.slope}")


def _frames_of_reference(headers: Sequence[ImageHeader]) -> None:
    if not _same(headers, lambda header: header.frame_of_reference_uid):
        raise SeriesRefused("mixed_frame_of_reference", "its images lie in several frames of reference (0020,0052)")


def _orientations(headers: Sequence[ImageHeader]) -> None:
    cosines = np.array([header.orientation for header in headers], dtype=np.float64)
    off = np.abs(cosines - np.median(cosines, axis=0)).max(axis=1)
    if off.max() > 2 * ORIENTATION_TOLERANCE or np.abs(cosines - cosines[0]).max() > ORIENTATION_TOLERANCE:
        first, odd = headers[0].path, headers[int(np.abs(cosines - cosines[0]).max(axis=1).argmax())].path
        raise SeriesRefused("mixed_orientation", f"{first} and {odd} are cut in different directions (0020,0037)")
    lengths = np.linalg.norm(cosines.reshape(-1, 2, 3), axis=2)
    across = np.abs(np.sum(cosines[:, :3] * cosines[:, 3:], axis=1))
    if np.abs(lengths - 1).max() > ORIENTATION_TOLERANCE or across.max() > ORIENTATION_TOLERANCE:
        raise SeriesRefused(
            "invalid_attribute", "Image Orientation (0020,0037) is not two unit vectors at right angles"
        )


def _sizes(headers: Sequence[ImageHeader]) -> None:
    if not _same(headers, lambda header: (header.rows, header.columns)):
        sizes = sorted({f"{header.rows} x {header.columns}" for header in headers})
        raise SeriesRefused("mixed_geometry", f"its images have several sizes: {', '.join(sizes)}")
    spacing = np.array([header.pixel_spacing_mm for header in headers], dtype=np.float64)
    if np.abs(spacing / spacing[0] - 1).max() > _SPACING_TOLERANCE:
        raise SeriesRefused("mixed_geometry", "its images have several pixel spacings (0028,0030)")
