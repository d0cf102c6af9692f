"""Small labelled studies without files of their own kind: a bright ball in noise, anywhere in the patient."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fedward.dicom.volume import Label, Verdict, Volume
from fedward.errors import SeriesRefused
from fedward.settings.job import TrainingJob
from fedward.settings.read import parse_settings
from fedward.settings.site import SiteSettings

AXIAL = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])


def affine_of(directions: np.ndarray, spacing_mm: tuple[float, float, float], origin=(0.0, 0.0, 0.0)) -> np.ndarray:
    """Columns of ``directions`` are the axes (slice, row, column) as unit vectors in LPS."""
    affine = np.eye(4)
    affine[:3, :3] = directions * spacing_mm
    affine[:3, 3] = origin
    return affine


def volume_of(array: np.ndarray, affine: np.ndarray, *, patient: str = "p", modality: str = "CT") -> Volume:
    return Volume(
        np.ascontiguousarray(array, dtype=np.float32),
        affine,
        modality=modality,
        patient_key=patient,
        study_instance_uid=f"1.2.{patient}",
        series_instance_uid=f"1.2.3.{patient}",
    )


def ball(shape: tuple[int, int, int], affine: np.ndarray, centre_mm: np.ndarray, radius_mm: float) -> np.ndarray:
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    points = index @ affine[:3, :3].T + affine[:3, 3]
    return np.linalg.norm(points - centre_mm, axis=-1) <= radius_mm


@dataclass
class FakeStudy:
    """A ball of 100 HU in a noisy -700 HU block; ``file`` stands for its files."""

    patient_key: str
    file: Path
    has_label: bool = True
    with_ball: bool = True
    modality: str = "CT"
    refuses: bool = False
    reads: list[str] = field(default_factory=list)

    @property
    def series_instance_uid(self) -> str:
        return f"1.2.3.{self.patient_key}"

    @property
    def verdict(self) -> Verdict:
        return Verdict(True, "accepted", "", self.series_instance_uid)

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.file,)

    def read(self) -> Volume:
        self.reads.append(self.patient_key)
        if self.refuses:
            raise SeriesRefused("unreadable", "the third slice cannot be decoded")
        generator = np.random.default_rng(int.from_bytes(self.patient_key.encode(), "big"))
        array = generator.normal(-700, 60, (20, 28, 26))
        array[self._mask()] += 800
        return volume_of(array, self._affine(), patient=self.patient_key, modality=self.modality)

    def read_label(self, classes: tuple[str, ...], volume: Volume) -> Label | None:
        assert volume.patient_key == self.patient_key
        return Label(self._mask().astype(np.uint8), classes)

    def _affine(self) -> np.ndarray:
        return affine_of(AXIAL, (2.0, 1.5, 1.5))

    def _mask(self) -> np.ndarray:
        if not self.with_ball:
            return np.zeros((20, 28, 26), dtype=bool)
        generator = np.random.default_rng(1 + int.from_bytes(self.patient_key.encode(), "big"))
        return ball((20, 28, 26), self._affine(), generator.uniform(14, 26, 3), 7.0)


def studies_in(folder: Path, count: int, **changes: object) -> list[FakeStudy]:
    folder.mkdir(exist_ok=True)
    studies = [FakeStudy(f"p{number:02}", folder / f"p{number:02}", **changes) for number in range(count)]
    for study in studies:
        study.file.write_bytes(b"pixels")
    return studies


def site_at(folder: Path, **changes: object) -> SiteSettings:
    document = {
        "name": "north",
        "organisation": "North",
        "state": str(folder / "state"),
        "data": [{"kind": "dicom", "path": str(folder / "dicom")}],
        "split": {"validation": 0.2, "test": 0.2},
        **changes,
    }
    return parse_settings(document, SiteSettings, where="test")


def job_with(**training: object) -> TrainingJob:
    document = {
        "kind": "train",
        "name": "balls",
        "input": {
            "modality": "CT",
            "spacing_mm": [2.0, 2.0, 2.0],
            "intensity": {"kind": "window", "low": -1000, "high": 300},
        },
        "task": {"kind": "segmentation", "classes": ["ball"], "measure": "dice"},
        "network": {"name": "unet3d", "channels": [8, 16]},
        "training": {
            "rounds": 4,
            "steps_per_round": 3,
            "batch_size": 2,
            "patch_size": [16, 16, 16],
            "learning_rate": 0.01,
            "warmup_steps": 2,
            **training,
        },
        "exchange": {"mode": "plain", "max_update_norm": 100.0},
    }
    return parse_settings(document, TrainingJob, where="test")
