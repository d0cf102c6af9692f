"""The coded terms of what a model can find, in one table, and the fixed colours of findings."""

from __future__ import annotations

from dataclasses import dataclass

from highdicom.sr import CodedConcept
from pydicom.sr.coding import Code

#: PS3.16 CID 7162.
ALGORITHM_FAMILY = Code("123110", "DCM", "Artificial Intelligence")

_MORPHOLOGICALLY_ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")
_ANATOMICAL_STRUCTURE = Code("91723000", "SCT", "Anatomical Structure")
_NODULE = Code("27925004", "SCT", "Nodule")
_LESION = Code("52988006", "SCT", "Lesion")
_LUNG = Code("39607008", "SCT", "Lung")

#: The classes that mean a nodule of the lung.
LUNG_NODULE_CLASSES = frozenset({"nodule", "lung_nodule", "lung-nodule", "pulmonary_nodule"})

#: Told apart by readers with any colour vision (Okabe and Ito, 2008), as (red, green, blue); yellow first: it is the
#: easiest to see on a grey image.
COLOURS = (
    (240, 228, 66),
    (86, 180, 233),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (213, 94, 0),
    (0, 114, 178),
)


@dataclass(frozen=True)
class FindingCodes:
    """What a finding is, in the words of PS3.16 (CID 7150 and CID 7151).

    Attributes:
        category: Segmented Property Category.
        type: Segmented Property Type.
        region: Anatomic Region, None where the class does not tell.
    """

    category: Code | CodedConcept
    type: Code | CodedConcept
    region: Code | CodedConcept | None = None


_TABLE = {name: FindingCodes(_MORPHOLOGICALLY_ABNORMAL, _NODULE, _LUNG) for name in LUNG_NODULE_CLASSES}
_ANY_LESION = FindingCodes(_MORPHOLOGICALLY_ABNORMAL, _LESION)
_ANY_STRUCTURE = FindingCodes(_ANATOMICAL_STRUCTURE, _ANATOMICAL_STRUCTURE)


def codes_of(class_name: str, *, kind: str) -> FindingCodes:
    """Give the codes of a class; one that the table does not know is a lesion or a structure, as ``kind`` says."""
    return _TABLE.get(class_name, _ANY_STRUCTURE if kind == "structures" else _ANY_LESION)


def colour_of(number: int) -> tuple[int, int, int]:
    """Give the colour of lesion ``number`` (from 1): the same in the page and in the DICOM SEG."""
    return COLOURS[(number - 1) % len(COLOURS)]
