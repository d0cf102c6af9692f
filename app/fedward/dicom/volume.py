"""The contract of an image and of its label: arrays with their place in the patient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Volume:
    """One image series as a regular grid in the patient.

    Attributes:
        array: Shape ``(slice, row, column)``, float32, read-only; HU for CT, stored units x rescale for others.
        affine: Shape (4, 4), float64, read-only: voxel index ``(slice, row, column, 1)`` to patient LPS in mm.
        modality: ``CT``, ``MR`` or ``PT``.
        patient_key: Issuer and normalised id of the patient: for the site's own use, never for words that leave.
        study_instance_uid: (0020,000D); for a NIfTI source a UID derived from the file's name.
        series_instance_uid: (0020,000E); likewise.
        frame_of_reference_uid: (0020,0052), empty where the source has none.
        sop_instance_uids: One per slice, in slice order; empty for a NIfTI source.
        files: The source files, one per slice in slice order (one file for NIfTI).
        manufacturer: The maker as the source names it, empty where unknown.
        model_name: The maker's model, empty where unknown.
    """

    array: NDArray[np.float32]
    affine: NDArray[np.float64]
    modality: str
    patient_key: str
    study_instance_uid: str
    series_instance_uid: str
    frame_of_reference_uid: str = ""
    sop_instance_uids: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    manufacturer: str = ""
    model_name: str = ""

    def __post_init__(self) -> None:
        if self.array.ndim != 3 or self.array.dtype != np.float32:
            raise ValueError(f"a volume is a 3-D float32 array, got {self.array.ndim}-D {self.array.dtype}")
        if self.affine.shape != (4, 4):
            raise ValueError(f"an affine is 4x4, got {self.affine.shape}")
        self.array.setflags(write=False)
        self.affine.setflags(write=False)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbours along (slice, row, column), mm."""
        lengths = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(lengths[0]), float(lengths[1]), float(lengths[2])

    @property
    def voxel_volume_mm3(self) -> float:
        """The volume of one voxel, mm³."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))


@dataclass(frozen=True, eq=False)
class Label:
    """The truth on exactly its volume's grid.

    Attributes:
        array: Shape ``(slice, row, column)``, uint8, read-only: 0 background, k the k-th of ``classes`` (from 1).
        classes: The class names in order.
    """

    array: NDArray[np.uint8]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.array.ndim != 3 or self.array.dtype != np.uint8:
            raise ValueError(f"a label is a 3-D uint8 array, got {self.array.ndim}-D {self.array.dtype}")
        self.array.setflags(write=False)


@dataclass(frozen=True)
class Verdict:
    """What the reader decided about one series (or one label).

    Attributes:
        accepted: True when ``code`` is ``accepted``.
        code: ``accepted`` or a code of :class:`fedward.errors.SeriesRefused` / ``LabelRefused``.
        sentence: Why, for the local console: attribute, expected, found; files relative to the data root.
        series_instance_uid: The series; empty where a file is too broken to tell.
        study_instance_uid: Its study.
        modality: (0008,0060), empty where unknown.
        manufacturer: The normalised maker's name, empty where unknown.
        shape: ``(slice, row, column)``, None where refused before it was known.
        spacing_mm: Along ``(slice, row, column)``, None likewise.
        file_count: Files that belong to it.
        files: Paths relative to the data root.
        details: Further local facts.
    """

    accepted: bool
    code: str
    sentence: str
    series_instance_uid: str
    study_instance_uid: str = ""
    modality: str = ""
    manufacturer: str = ""
    model_name: str = ""
    shape: tuple[int, int, int] | None = None
    spacing_mm: tuple[float, float, float] | None = None
    file_count: int = 0
    files: tuple[str, ...] = ()
    details: Mapping[str, str] = field(default_factory=dict)
