from __future__ import annotations

import hashlib
from collections import defaultdict
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.uid import BasicTextSRStorage, CTImageStorage, SegmentationStorage

from fedward.errors import SourceError
from fedward.imaging.phantom.ct_image import TRANSFER_SYNTAXES, stored_values
from fedward.imaging.phantom.hospital import write_hospital, write_patient
from fedward.imaging.phantom.patient import draw_patient
from fedward.imaging.phantom.plan import NodulePlan, PatientPlan
from fedward.randomness import Seeded
from fedward.settings.phantom import PhantomHospital, TransferSyntax

NODULE = NodulePlan(diameter_mm=14.0, density="solid", margin="smooth", place="juxta_pleural", lower=True)


def profile(**scanner: object) -> PhantomHospital:
    return PhantomHospital.model_validate(
        {
            "patients": 3,
            "share_without_nodule": 0.34,
            "share_with_localizer": 0.4,
            "share_with_report": 0.4,
            "scanner": {"maker": "SIEMENS", "model": "SOMATOM Definition AS", **scanner},
            "protocol": {
                "matrix": 112,
                "pixel_spacing_mm": 2.9,
                "slice_thickness_mm": 4.0,
                "slice_increment_mm": 3.0,
                "slices": 32,
                "kernel": "B30f",
                "sharpness": 0.4,
                "resolution_mm": 2.0,
                "noise_hu": 12.0,
                "kvp": 120,
                "tube_current_ma": 150,
            },
        }
    )


def one_patient(*nodules: NodulePlan) -> PatientPlan:
    return PatientPlan("TEST-0001", sex="M", age=50, has_localizer=True, has_report=True, nodules=nodules)


def objects(folder: Path) -> dict[str, list[pydicom.Dataset]]:
    found: dict[str, list[pydicom.Dataset]] = defaultdict(list)
    for path in sorted(folder.rglob("*.dcm")):
        ds = pydicom.dcmread(path)
        found["LOCALIZER" if "LOCALIZER" in ds.get("ImageType", []) else ds.Modality].append(ds)
    return found


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize(
    ("syntax", "scanner"),
    [
        ("explicit-little-endian", {"signed_pixels": True}),
        ("implicit-little-endian", {"signed_pixels": True, "rescale_intercept": -1000, "patient_position": "FFS"}),
        ("rle-lossless", {"signed_pixels": True, "rescale_intercept": 0}),
        ("jpeg-ls-lossless", {"rescale_slope": 2.0}),
    ],
)
def test_what_is_written_reads_back_voxel_by_voxel(
    tmp_path: Path, syntax: TransferSyntax, scanner: dict[str, object]
) -> None:
    hospital = profile(transfer_syntax=syntax, **scanner)
    write_patient(one_patient(NODULE), hospital, tmp_path, Seeded(1))
    found = objects(tmp_path)
    truth = draw_patient(one_patient(NODULE), hospital, Seeded(1))
    assert {ds.file_meta.TransferSyntaxUID for ds in found["CT"]} == {TRANSFER_SYNTAXES[syntax]}

    volume = highdicom.get_volume_from_series(found["CT"], apply_presentation_lut=False)
    volume = volume.to_patient_orientation("HPL")
    stored = stored_values(truth.image, hospital.scanner).astype(float)
    expected = stored * hospital.scanner.rescale_slope + hospital.scanner.rescale_intercept
    assert np.array_equal(volume.array, expected)
    assert volume.spacing == pytest.approx(truth.grid.spacing_mm)

    segmentation = highdicom.seg.Segmentation.from_dataset(found["SEG"][0])
    mask = segmentation.get_volume(combine_segments=True).to_patient_orientation("HPL").match_geometry(volume)
    assert np.array_equal(mask.array > 0, truth.truth)


def test_the_objects_carry_what_their_standards_ask_for(tmp_path: Path) -> None:
    write_patient(one_patient(NODULE), profile(), tmp_path, Seeded(1))
    found = objects(tmp_path)
    assert {name: len(group) for name, group in found.items()} == {"CT": 32, "SEG": 1, "LOCALIZER": 1, "SR": 1}
    ct, seg = found["CT"], found["SEG"][0]
    assert {ds.SOPClassUID for ds in ct + found["LOCALIZER"]} == {CTImageStorage}
    assert seg.SOPClassUID == SegmentationStorage
    assert found["SR"][0].SOPClassUID == BasicTextSRStorage
    everything = [ds for group in found.values() for ds in group]
    assert len({ds.SOPInstanceUID for ds in everything}) == len(everything)
    assert {(ds.PatientID, str(ds.PatientName)) for ds in everything} == {("TEST-0001", "PHANTOM^TEST-0001")}
    assert len({ds.StudyInstanceUID for ds in everything}) == 1
    assert len({ds.SeriesInstanceUID for ds in everything}) == 4
    assert len({ds.FrameOfReferenceUID for ds in ct + found["LOCALIZER"] + [seg]}) == 1
    assert all(ds.SOPInstanceUID.is_valid and ds.SOPInstanceUID.startswith("2.25.") for ds in everything)
    for keyword in (
        "KVP", "ConvolutionKernel", "XRayTubeCurrent", "Exposure", "Manufacturer", "ManufacturerModelName",
        "PixelSpacing", "SliceThickness", "WindowCenter", "WindowWidth", "BodyPartExamined", "PatientPosition",
    ):  # fmt: skip
        assert all(keyword in ds for ds in ct), keyword
    item = seg.SegmentSequence[0]
    assert (item.SegmentLabel, seg.SegmentationType, len(seg.SegmentSequence)) == ("Nodule", "BINARY", 1)
    referenced = {ref.ReferencedSOPInstanceUID for ref in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence}
    assert referenced <= {ds.SOPInstanceUID for ds in ct}
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == ct[0].SeriesInstanceUID


def test_a_patient_without_nodules_has_an_explicit_empty_segmentation(tmp_path: Path) -> None:
    write_patient(one_patient(), profile(), tmp_path, Seeded(1))
    found = objects(tmp_path)
    segmentation = highdicom.seg.Segmentation.from_dataset(found["SEG"][0])
    volume = highdicom.get_volume_from_series(found["CT"], apply_presentation_lut=False)
    mask = segmentation.get_volume(combine_segments=True).match_geometry(volume)
    assert mask.array.shape == (32, 112, 112)
    assert not mask.array.any()


def test_a_feet_first_scan_stores_its_columns_from_the_patients_left(tmp_path: Path) -> None:
    write_patient(one_patient(), profile(patient_position="FFS"), tmp_path, Seeded(1))
    images = objects(tmp_path)["CT"]
    assert {tuple(ds.ImageOrientationPatient) for ds in images} == {(-1, 0, 0, 0, 1, 0)}
    assert {ds.ImagePositionPatient[0] for ds in images} == {round(111 / 2 * 2.9, 4)}


def test_the_same_seed_writes_the_same_bytes_with_any_number_of_workers(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    alone = write_hospital(profile(), tmp_path / "a", randomness=Seeded(4), name="north")
    together = write_hospital(
        profile(),
        tmp_path / "b",
        randomness=Seeded(4),
        name="north",
        workers=2,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert alone == together
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert len(digests(tmp_path / "a")) == alone.files
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["NORTH-0001", "NORTH-0002", "NORTH-0003"]
    assert (alone.patients, alone.patients_with_nodules) == (3, 2)


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("kept")
    with pytest.raises(SourceError, match="cannot_write"):
        write_hospital(profile(), tmp_path, randomness=Seeded(4), name="north")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
