"""Which SOP classes are images, labels or neither (DICOM PS3.4 annex B.5)."""

from __future__ import annotations

from pydicom.uid import UID

from fedward.dicom.objects import LabelKind

_STORAGE = "1.2.840.10008.5.1.4.1.1."

#: The single-frame classes that become volumes, with the modality that each must carry.
SINGLE_FRAME = {_STORAGE + "2": "CT", _STORAGE + "4": "MR", _STORAGE + "128": "PT"}

#: Enhanced and legacy-converted enhanced CT, MR and PET: many slices in one file.
MULTI_FRAME = frozenset(_STORAGE + tail for tail in ("2.1", "2.2", "4.1", "4.3", "4.4", "128.1", "130"))

LABEL_CLASSES: dict[str, LabelKind] = {
    _STORAGE + "66.4": "SEG",
    _STORAGE + "66.7": "SEG",
    _STORAGE + "481.3": "RTSTRUCT",
}

_SECONDARY_CAPTURE = _STORAGE + "7"

#: Objects with rows and columns that are not images of a patient: dose grids, presentation states, waveforms' pictures.
_NOT_IMAGES = frozenset({_STORAGE + "481.2", _STORAGE + "66", _STORAGE + "66.1", _STORAGE + "66.5"})


def is_image(sop_class: str, *, has_rows: bool) -> bool:
    """Tell whether objects of ``sop_class`` belong to an image series."""
    if sop_class in _NOT_IMAGES or sop_class in LABEL_CLASSES:
        return False
    return has_rows or sop_class in SINGLE_FRAME or sop_class in MULTI_FRAME


def is_secondary_capture(sop_class: str) -> bool:
    """Tell whether ``sop_class`` is a screen shot or scan of something shown, single- or multi-frame."""
    return sop_class == _SECONDARY_CAPTURE or sop_class.startswith(_SECONDARY_CAPTURE + ".")


def class_name(sop_class: str) -> str:
    """Give the name of a SOP class, or its UID where nobody has named it."""
    return UID(sop_class).name
