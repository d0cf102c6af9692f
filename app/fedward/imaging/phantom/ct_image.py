"""Writes a phantom patient's scan as a CT Image Storage series (DICOM PS3.3, A.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders.base import JPEGLSLosslessEncoder, RLELosslessEncoder
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)

from fedward.imaging.phantom.grid import FloatArray
from fedward.imaging.phantom.patient import Patient
from fedward.randomness import Seeded
from fedward.settings.phantom import PhantomHospital, Scanner, TransferSyntax

#: Patient position (0018,5100) → image orientation (0020,0037): the directions of a row's and a column's voxels.
ORIENTATIONS = {"HFS": (1, 0, 0, 0, 1, 0), "FFS": (-1, 0, 0, 0, 1, 0)}

TRANSFER_SYNTAXES: dict[TransferSyntax, UID] = {
    "explicit-little-endian": ExplicitVRLittleEndian,
    "implicit-little-endian": ImplicitVRLittleEndian,
    "rle-lossless": RLELossless,
    "jpeg-ls-lossless": JPEGLSLossless,
}


@dataclass(frozen=True)
class StudyNames:
    """The UIDs and ids of one patient's study; all follow from the seed."""

    patient_id: str
    randomness: Seeded

    def uid(self, *path: str | int) -> UID:
        """Give the UID at ``path``, of the form 2.25 and a number (DICOM PS3.5, B.2)."""
        high = self.randomness.seed_of("uid", self.patient_id, *path, "high")
        low = self.randomness.seed_of("uid", self.patient_id, *path, "low")
        return UID(f"2.25.{(high << 63) | low}")

    @property
    def study(self) -> UID:
        """Study Instance UID (0020,000D)."""
        return self.uid("study")

    @property
    def frame_of_reference(self) -> UID:
        """Frame of Reference UID (0020,0052)."""
        return self.uid("frame")

    def number(self, name: str, below: int) -> int:
        """Give a repeatable number, as for an accession or an instance number."""
        return self.randomness.seed_of("number", self.patient_id, name) % below


def header(patient: Patient, profile: PhantomHospital, names: StudyNames) -> Dataset:
    """Give the patient, study, frame-of-reference and equipment attributes that every object of the study shares."""
    year, day = 2015 + names.number("year", 8), names.number("day", 28) + 1
    date, time = f"{year}{names.number('month', 12) + 1:02d}{day:02d}", f"{8 + names.number('hour', 9):02d}3000"
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.PatientName = f"PHANTOM^{patient.plan.patient_id}"
    ds.PatientID = patient.plan.patient_id
    ds.PatientBirthDate = f"{year - patient.plan.age}0101"
    ds.PatientSex = patient.plan.sex
    ds.PatientAge = f"{patient.plan.age:03d}Y"
    ds.StudyInstanceUID = names.study
    ds.StudyID = str(names.number("study", 100_000))
    ds.AccessionNumber = str(names.number("accession", 10**8))
    ds.StudyDescription = "CT THORAX PHANTOM"
    ds.ReferringPhysicianName = ""
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = date
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = time
    ds.Manufacturer = profile.scanner.maker
    ds.ManufacturerModelName = profile.scanner.model
    ds.SoftwareVersions = "phantom"
    ds.DeviceSerialNumber = str(names.randomness.seed_of("device") % 10**6)
    ds.InstitutionName = "FEDWARD PHANTOM"
    return ds


def ct_series(patient: Patient, profile: PhantomHospital, names: StudyNames) -> list[Dataset]:
    """Give the scan's images, from the feet to the head, with decoded pixels (explicit little endian).

    Instance numbers run from the head to the feet, as on most scanners: a file's number is not its place.
    """
    base = _series_header(patient, profile, names)
    mirrored = profile.scanner.patient_position == "FFS"
    stored = stored_values(patient.image[:, :, ::-1] if mirrored else patient.image, profile.scanner)
    half_z, half_y, half_x = patient.grid.half_mm
    offset = names.number("table", 400) - 600.0
    images = []
    for index in range(patient.grid.shape[0]):
        position = offset - half_z + index * patient.grid.spacing_mm[0]
        ds = Dataset()
        ds.update(base)
        ds.SOPInstanceUID = names.uid("ct", index)
        ds.InstanceNumber = patient.grid.shape[0] - index
        ds.ImagePositionPatient = [round(half_x if mirrored else -half_x, 4), round(-half_y, 4), round(position, 4)]
        ds.SliceLocation = round(position, 4)
        ds.PixelData = stored[index].tobytes()
        ds["PixelData"].VR = "OW"
        ds.file_meta = file_meta(CTImageStorage, ds.SOPInstanceUID)
        images.append(ds)
    return images


def stored_values(image: FloatArray, scanner: Scanner) -> NDArray[np.int16] | NDArray[np.uint16]:
    """Give the scanner's integers for HU; what lies outside their range is clipped to it."""
    low, high = (-32768, 32767) if scanner.signed_pixels else (0, 4095)
    values = np.rint((image - scanner.rescale_intercept) / scanner.rescale_slope)
    np.clip(values, low, high, out=values)
    return np.asarray(values, dtype=np.int16) if scanner.signed_pixels else np.asarray(values, dtype=np.uint16)


def write_images(images: Sequence[Dataset], folder: Path, transfer_syntax: TransferSyntax) -> None:
    """Write images below ``folder`` in the transfer syntax, each named by its SOP instance UID."""
    syntax = TRANSFER_SYNTAXES[transfer_syntax]
    folder.mkdir(parents=True)
    for image in images:
        ds = Dataset()
        ds.update(image)
        ds.file_meta = file_meta(image.SOPClassUID, image.SOPInstanceUID, syntax)
        if syntax.is_compressed:
            frame = _compress(image, syntax)
            ds.PixelData = encapsulate([frame])
            ds["PixelData"].VR = "OB"
            ds["PixelData"].is_undefined_length = True
        ds.save_as(folder / f"{image.SOPInstanceUID}.dcm", enforce_file_format=True)


def file_meta(sop_class: UID, sop_instance: UID, syntax: UID = ExplicitVRLittleEndian) -> FileMetaDataset:
    """Give the file's meta information (DICOM PS3.10, 7.1)."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = sop_instance
    meta.TransferSyntaxUID = syntax
    return meta


def _compress(image: Dataset, syntax: UID) -> bytes:
    """Give the image's one frame as a compressed bit stream."""
    if syntax == RLELossless:
        # GDCM's encoder is about ten times as fast as pydicom's own.
        return RLELosslessEncoder.encode(image, encoding_plugin="gdcm")
    return JPEGLSLosslessEncoder.encode(image)


def _series_header(patient: Patient, profile: PhantomHospital, names: StudyNames) -> Dataset:
    """What all images of the scan share beyond the study."""
    scanner, protocol = profile.scanner, profile.protocol
    ds = header(patient, profile, names)
    ds.SOPClassUID = CTImageStorage
    ds.Modality = "CT"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SeriesInstanceUID = names.uid("ct")
    ds.SeriesNumber = 2
    ds.SeriesDescription = f"THORAX {protocol.slice_thickness_mm} {protocol.kernel}"
    ds.FrameOfReferenceUID = names.frame_of_reference
    ds.PositionReferenceIndicator = ""
    ds.BodyPartExamined = "CHEST"
    ds.PatientPosition = scanner.patient_position
    ds.AcquisitionNumber = 1
    ds.KVP = protocol.kvp
    ds.XRayTubeCurrent = protocol.tube_current_ma
    ds.ExposureTime = protocol.exposure_time_ms
    ds.Exposure = round(protocol.tube_current_ma * protocol.exposure_time_ms / 1000)
    ds.ConvolutionKernel = protocol.kernel
    ds.ReconstructionDiameter = round(protocol.matrix * protocol.pixel_spacing_mm, 3)
    ds.GantryDetectorTilt = 0
    ds.SliceThickness = protocol.slice_thickness_mm
    if protocol.contrast_hu:
        ds.ContrastBolusAgent = "PHANTOM CONTRAST"
    ds.ImageOrientationPatient = list(ORIENTATIONS[scanner.patient_position])
    ds.PixelSpacing = [protocol.pixel_spacing_mm, protocol.pixel_spacing_mm]
    ds.WindowCenter, ds.WindowWidth = [-600, 40], [1500, 400]
    describe_pixels(ds, scanner, rows=protocol.matrix, columns=protocol.matrix)
    return ds


def describe_pixels(ds: Dataset, scanner: Scanner, *, rows: int, columns: int) -> None:
    """Set the Image Pixel attributes and the rescale to HU."""
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = rows, columns
    ds.BitsAllocated = 16
    ds.BitsStored = 16 if scanner.signed_pixels else 12
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(scanner.signed_pixels)
    ds.RescaleIntercept, ds.RescaleSlope = scanner.rescale_intercept, scanner.rescale_slope
    ds.RescaleType = "HU"
