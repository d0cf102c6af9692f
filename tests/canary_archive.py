"""Hospitals whose archives, folders, site files and exceptions hold names that must never leave."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset

from dicom_labels import write_seg
from dicom_series import Place, write_series
from fedward.dicom.values import patient_key
from fedward.randomness import Seeded
from fedward.settings.site import Split
from tiny_federation import write_split_key

PATIENTS = 12
SIZE = 20

_TEXTS = (
    "PatientName", "PatientID", "OtherPatientNames", "PatientAddress", "PatientComments", "PatientMotherBirthName",
    "MedicalRecordLocator", "AccessionNumber", "ReferringPhysicianName", "PhysiciansOfRecord", "OperatorsName",
    "PerformingPhysicianName", "InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "StationName",
    "StudyDescription", "SeriesDescription", "StudyID", "ProtocolName", "DeviceSerialNumber", "ImageComments",
    "IssuerOfPatientID", "RequestedProcedureDescription", "AdditionalPatientHistory", "EthnicGroup", "Occupation",
    "ManufacturerModelName", "ContrastBolusAgent", "DerivationDescription",
)  # fmt: skip
_SEQUENCES = (
    "OtherPatientIDsSequence", "ReferencedPatientSequence", "RequestAttributesSequence", "ProcedureCodeSequence",
    "PhysiciansOfRecordIdentificationSequence",
)  # fmt: skip
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")


def canary(number: int) -> str:
    """Give an identifier that nothing else holds by chance."""
    return f"ZQ{number:02}KANARI"


def uid(number: int) -> str:
    return f"1.2.826.0.1.{7700000 + number}001"


#: By number: what each is planted in.
PLACES: tuple[str, ...] = (
    *_TEXTS, *_SEQUENCES, "private", "nested private", "deep nesting", "segment label", *_UIDS,
    "folder", "file name", "label file", "site file comment", "class pattern", "exception", "state folder",
)  # fmt: skip
CANARIES: tuple[str, ...] = tuple(
    uid(number) if place in _UIDS else canary(number) for number, place in enumerate(PLACES)
)
_OF = dict(zip(PLACES, CANARIES, strict=True))

#: A hospital's folder of state.
STATE = _OF["state folder"]

SITE_FILE = f"""
# {_OF["site file comment"]}
name = "{{name}}"
organisation = "{{name}}"
state = "{_OF["state folder"]}"

[[data]]
kind = "dicom"
path = "{_OF["folder"]}"
[data.classes]
nodule = ["*{_OF["class pattern"].lower()}*", "*{_OF["segment label"].lower()}*"]

[bounds]
exchange_modes = ["secure-sum", "plain"]
min_patients = 3

[privacy]
allow_non_private = true
share_metrics = ["validation_score", "validation_cases"]

[split]
validation = 0.25
test = 0.1

[models]
auto_activate = true

[compute]
device = "cpu"
precision = "float32"
threads = 1
"""


def exception_text() -> str:
    """Give what an exception quotes that nobody foresaw."""
    return f"cannot open /archive/{_OF['folder']}/{_OF['exception']}.dcm of {_OF['PatientName']}"


def write_archive(folder: Path, name: str) -> None:
    """Write series with a ball in each and its SEG; everything about them is a canary, with the patient's number."""
    generator = Seeded(5).generator("canaries", name)
    patients: list[str] = []
    index = np.stack(np.meshgrid(*[np.arange(SIZE)] * 3, indexing="ij"), axis=-1)
    for patient in range(PATIENTS):
        ball = np.linalg.norm((index - generator.uniform(6, 14, 3)) * 2.0, axis=-1) <= 6
        stored = np.where(ball, 50, -700).astype(np.int16) + generator.integers(-30, 30, ball.shape, dtype=np.int16)
        place = folder / _OF["folder"] / f"{_OF['folder']}-{patient}"
        written = write_series(
            place,
            count=SIZE,
            size=(SIZE, SIZE),
            place=Place(spacing_mm=(2.0, 2.0, 2.0)),
            edit=lambda number, dataset, stored=stored, key=f"{name}.{patient}": _plant(dataset, number, stored, key),
            name=lambda number: f"{_OF['file name']}-{number}.dcm",
        )
        write_seg(place / f"{_OF['label file']}.dcm", written, ball.astype(np.uint8), names=(_OF["segment label"],))
        patients.append(patient_key(dcmread(next(place.iterdir()), stop_before_pixels=True)))
    write_split_key(folder / STATE, patients, Split(validation=0.25, test=0.1), validation=3, test=1)


def _plant(dataset: FileDataset, number: int, stored: np.ndarray, key: str) -> None:
    patient = sum(key.encode()) * 100 + int(key.rpartition(".")[2])
    dataset.PixelData = (stored[number] + 24).astype(np.int16).tobytes()
    for word in _TEXTS:
        setattr(dataset, word, f"{_OF[word]}^" if "Physician" in word or "Name" in word else _OF[word])
    dataset.PatientID = f"{_OF['PatientID']}.{key}"
    for word in _SEQUENCES:
        item = Dataset()
        item.PatientID, item.PatientName = _OF[word], f"{_OF[word]}^"
        setattr(dataset, word, [item])
    for place, holder in (("private", dataset), ("nested private", dataset.RequestAttributesSequence[0])):
        holder.private_block(0x0099, "KANARI", create=True).add_new(0x01, "LO", _OF[place])
    inner, outer = Dataset(), Dataset()
    inner.PatientComments = _OF["deep nesting"]
    outer.ReferencedPatientSequence = [inner]
    dataset.RequestAttributesSequence[0].ReferencedStudySequence = [outer]
    dataset.StudyInstanceUID = f"{_OF['StudyInstanceUID']}.{patient}"
    dataset.SeriesInstanceUID = f"{_OF['SeriesInstanceUID']}.{patient}"
    dataset.FrameOfReferenceUID = f"{_OF['FrameOfReferenceUID']}.{patient}"
    dataset.SOPInstanceUID = f"{_OF['SOPInstanceUID']}.{patient}.{number}"
