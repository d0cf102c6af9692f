"""What lies beside a scan in a real archive: the scout image and a text object. Neither is a volume."""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import BasicTextSRStorage, CTImageStorage

from fedward.imaging.phantom.ct_image import StudyNames, describe_pixels, file_meta, header, stored_values
from fedward.imaging.phantom.patient import Patient
from fedward.settings.phantom import PhantomHospital


def localizer(patient: Patient, profile: PhantomHospital, names: StudyNames) -> Dataset:
    """Give the frontal scout image: the scan's mean along each ray from front to back."""
    grid = patient.grid
    projection = patient.image[::-1].mean(axis=1)
    half_z, half_y, half_x = grid.half_mm
    ds = header(patient, profile, names)
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, names.uid("localizer-image")
    ds.SeriesInstanceUID, ds.SeriesNumber, ds.InstanceNumber = names.uid("localizer"), 1, 1
    ds.Modality, ds.ImageType = "CT", ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    ds.SeriesDescription, ds.BodyPartExamined = "SCOUT", "CHEST"
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = names.frame_of_reference, ""
    ds.PatientPosition = profile.scanner.patient_position
    ds.KVP, ds.XRayTubeCurrent = profile.protocol.kvp, 35
    ds.AcquisitionNumber = 0
    ds.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    ds.ImagePositionPatient = [round(-half_x, 4), round(-half_y, 4), round(half_z, 4)]
    ds.PixelSpacing = [grid.spacing_mm[0], grid.spacing_mm[2]]
    ds.WindowCenter, ds.WindowWidth = -200, 1200
    describe_pixels(ds, profile.scanner, rows=projection.shape[0], columns=projection.shape[1])
    ds.PixelData = stored_values(np.ascontiguousarray(projection), profile.scanner).tobytes()
    ds["PixelData"].VR = "OW"
    ds.file_meta = file_meta(ds.SOPClassUID, ds.SOPInstanceUID)
    return ds


def text_report(patient: Patient, profile: PhantomHospital, names: StudyNames) -> Dataset:
    """Give a Basic Text SR that says what the protocol was (PS3.3, A.35.1): an object without an image."""
    ds = header(patient, profile, names)
    ds.SOPClassUID, ds.SOPInstanceUID = BasicTextSRStorage, names.uid("text-object")
    ds.SeriesInstanceUID, ds.SeriesNumber, ds.InstanceNumber = names.uid("text"), 99, 1
    ds.Modality, ds.SeriesDescription = "SR", "PROTOCOL"
    ds.CompletionFlag, ds.VerificationFlag = "COMPLETE", "UNVERIFIED"
    ds.ReferencedPerformedProcedureStepSequence = Sequence()
    ds.PerformedProcedureCodeSequence = Sequence()
    ds.ValueType, ds.ContinuityOfContent = "CONTAINER", "SEPARATE"
    ds.ConceptNameCodeSequence = Sequence([_code("18748-4", "LN", "Diagnostic imaging report")])
    item = Dataset()
    item.RelationshipType, item.ValueType = "CONTAINS", "TEXT"
    item.ConceptNameCodeSequence = Sequence([_code("121106", "DCM", "Comment")])
    item.TextValue = f"{profile.protocol.kvp} kV, {profile.protocol.tube_current_ma} mA, {profile.protocol.kernel}"
    ds.ContentSequence = Sequence([item])
    ds.file_meta = file_meta(ds.SOPClassUID, ds.SOPInstanceUID)
    return ds


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    ds = Dataset()
    ds.CodeValue, ds.CodingSchemeDesignator, ds.CodeMeaning = value, scheme, meaning
    return ds
