"""Small DICOM series written by hand, and a model's facts to report about."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from fedward.dicom.volume import Volume
from fedward.inference.lesions import Inference, find_lesions
from fedward.inference.model import LoadedModel, ModelFacts
from fedward.randomness import Secret
from fedward.settings.job import Input, Segmentation, Window

CREATED = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)

SeriesWriter = Callable[..., Volume]
Finder = Callable[..., Inference]


@pytest.fixture(scope="session")
def model() -> LoadedModel:
    return LoadedModel(
        facts=ModelFacts(
            name="lung_nodule_segmentation",
            release_number=7,
            model_sha256="0123456789abcdef" * 4,
            rounds=40,
            participants=("hospital_north", "hospital_south", "hospital_west"),
            private=False,
            signer="release.demo",
            signed_at=datetime(2026, 3, 1, 12, 0, tzinfo=UTC),
            signature_verified=True,
            validation_measure="lesion_dice",
            validation_score=0.74,
        ),
        network=torch.nn.Identity(),
        input=Input(modality="CT", spacing_mm=(1.5, 1.0, 1.0), intensity=Window(kind="window", low=-1000, high=400)),
        task=Segmentation(kind="segmentation", classes=("nodule",), measure="lesion_dice", minimum_lesion_mm=4.0),
        patch_size=(48, 48, 48),
    )


@pytest.fixture
def write_series(tmp_path: Path) -> SeriesWriter:
    """Give a writer of one CT series as single files, read back as a Volume by construction."""

    def write(
        shape: tuple[int, int, int] = (10, 32, 40),
        *,
        orientation: tuple[float, ...] = (1, 0, 0, 0, 1, 0),
        spacing_mm: tuple[float, float, float] = (2.5, 0.8, 0.7),
        descending: bool = False,
        change: Callable[[Dataset], None] = lambda _: None,
    ) -> Volume:
        column_way, row_way = np.array(orientation[:3], float), np.array(orientation[3:], float)
        slice_way = np.cross(column_way, row_way) * (-1 if descending else 1)
        affine = np.eye(4)
        for axis, way in enumerate((slice_way, row_way, column_way)):
            affine[:3, axis] = way * spacing_mm[axis]
        affine[:3, 3] = (-31.5, -12.25, 87.75)
        array = np.random.default_rng(4).integers(-1000, 200, shape).astype(np.float32)
        study, series, frame = generate_uid(), generate_uid(), generate_uid()
        folder = tmp_path / "source"
        folder.mkdir(exist_ok=True)
        files, uids = [], []
        for index in range(shape[0]):
            header = _header(array[index], affine, index, orientation=orientation, spacing_mm=spacing_mm)
            header.StudyInstanceUID, header.SeriesInstanceUID, header.FrameOfReferenceUID = study, series, frame
            change(header)
            files.append(folder / f"{(index * 7) % shape[0]:04d}.dcm")
            uids.append(str(header.SOPInstanceUID))
            header.save_as(files[-1], enforce_file_format=True)
        return Volume(
            array=array,
            affine=affine,
            modality="CT",
            patient_key="HOSPITAL|PAT-0042",
            study_instance_uid=study,
            series_instance_uid=series,
            frame_of_reference_uid=frame,
            sop_instance_uids=tuple(uids),
            files=tuple(files),
            manufacturer="SIEMENS",
            model_name="Definition",
        )

    return write


@pytest.fixture
def find(model: LoadedModel) -> Finder:
    """Give a finder of whatever a label array marks."""

    def run(volume: Volume, labels: np.ndarray, task: Segmentation = model.task) -> Inference:
        probability = np.full(labels.shape, 0.875, np.float16)
        return find_lesions(labels, probability, volume, task=task, randomness=Secret())

    return run


def _header(
    pixels: np.ndarray,
    affine: np.ndarray,
    index: int,
    *,
    orientation: tuple[float, ...],
    spacing_mm: tuple[float, float, float],
) -> Dataset:
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.SOPClassUID, header.SOPInstanceUID = CTImageStorage, generate_uid()
    header.SpecificCharacterSet = "ISO_IR 192"
    header.Modality, header.Manufacturer = "CT", "SIEMENS"
    header.PatientID, header.PatientName = "PAT-0042", "Nobody^At^All"
    header.PatientBirthDate, header.PatientSex = "19500101", "F"
    header.StudyID, header.StudyDate, header.StudyTime = "1", "20260102", "101500"
    header.StudyDescription, header.SeriesDescription = "Thorax <low dose>", "Lung & more"
    header.AccessionNumber, header.ReferringPhysicianName = "ACC-7", ""
    header.SeriesNumber, header.InstanceNumber = 4, 101 + index
    header.ImagePositionPatient = [float(v) for v in affine[:3, 0] * index + affine[:3, 3]]
    header.ImageOrientationPatient = [float(v) for v in orientation]
    header.PixelSpacing = [spacing_mm[1], spacing_mm[2]]
    header.SliceThickness = 3.0
    header.Rows, header.Columns = pixels.shape
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 16, 15, 1
    header.RescaleSlope, header.RescaleIntercept = 1, 0
    header.PixelData = pixels.astype("<i2").tobytes()
    return header
