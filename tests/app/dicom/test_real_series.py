"""Real series against their published truth: voxels, place in the patient, masks, and the refusals."""

from __future__ import annotations

import shutil
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK

from fedward.dicom.convert import convert
from fedward.dicom.nifti import read_nifti
from fedward.dicom.reader import check, scan
from fedward.dicom.volume import Volume
from support import shared_data

SARCOMA = [(patient, kind) for patient in ("STS_002", "STS_019", "STS_025") for kind in ("CT", "MR_T1", "PET")]


def on_grid_of(published: Path, converted: Path) -> tuple[np.ndarray, np.ndarray]:
    """Give both images' voxels on the converted image's grid, after checking that the grids are one."""
    ours, theirs = SimpleITK.ReadImage(str(converted)), SimpleITK.ReadImage(str(published))
    assert sorted(ours.GetSize()) == sorted(theirs.GetSize())
    moved = SimpleITK.Resample(theirs, ours, SimpleITK.Transform(), SimpleITK.sitkNearestNeighbor, -1e6)
    return SimpleITK.GetArrayFromImage(ours), SimpleITK.GetArrayFromImage(moved)


def published(patient: str, kind: str, what: str) -> Path:
    folder = shared_data("ibsi_sts_dicom") / patient / "nifti"
    (path,) = [p for p in folder.iterdir() if p.name.startswith(kind.split("_")[0]) and what in p.name]
    return path


@pytest.mark.parametrize(("patient", "kind"), SARCOMA)
def test_a_converted_sarcoma_series_and_its_contours_are_the_published_ones(
    patient: str, kind: str, tmp_path: Path
) -> None:
    (series,) = convert(shared_data("ibsi_sts_dicom") / patient / "dicom" / kind, tmp_path)
    assert series.image
    assert series.label
    ours, theirs = on_grid_of(published(patient, kind, "image"), series.image)
    assert np.abs(ours - theirs).max() <= (2e-6 if kind == "PET" else 0)
    mask, truth = on_grid_of(published(patient, kind, "mask"), series.label)
    np.testing.assert_array_equal(mask != 0, truth != 0)


def test_the_lung_cancer_ct_and_its_contours_are_the_published_ones(tmp_path: Path) -> None:
    folder = shared_data("ibsi_ct_phantom")
    (series,) = convert(folder / "dicom", tmp_path)
    assert series.image
    assert series.label
    ours, theirs = on_grid_of(folder / "nifti" / "image" / "phantom.nii.gz", series.image)
    np.testing.assert_array_equal(ours, theirs)
    mask, truth = on_grid_of(folder / "nifti" / "mask" / "mask.nii.gz", series.label)
    assert int(mask.sum()) == 125_256
    np.testing.assert_array_equal(mask, truth)


@pytest.mark.parametrize(
    ("folder", "code"),
    [
        ("failing/gantrytilting/001", "gantry_tilt"),
        ("failing/notavolume/001", "not_a_volume"),
        ("failing/slicecount/001", "not_a_volume"),
        ("failing/sliceincrement/001", "missing_slice"),
        ("failing/sliceincrement/002", "missing_slice"),
        ("failing/sliceorientation/001", "mixed_orientation"),
        ("ge/anatomical/001_single_slice", "not_a_volume"),
        ("ge/fmri/001", "several_volumes"),
        ("siemens/fmri/001", "mosaic"),
        ("philips_enhanced/anatomical/001", "multi_frame"),
    ],
)
def test_a_series_that_is_no_regular_volume_is_refused_by_name(folder: str, code: str) -> None:
    (verdict,) = check(shared_data("dicom2nifti_vendors") / folder)
    assert (verdict.accepted, verdict.code) == (False, code)
    assert verdict.sentence


def test_a_tilted_gantry_never_becomes_a_regular_volume() -> None:
    (verdict,) = check(shared_data("dcm_qa_ct_tilt"))
    assert (verdict.accepted, verdict.code) == (False, "gantry_tilt")


@pytest.mark.parametrize(
    "case", ["generic/anatomical/001", "ge/anatomical/001", "ge/anatomical/001_implicit", "siemens/anatomical/001"]
)
def test_a_makers_series_is_the_published_one(case: str, tmp_path: Path) -> None:
    vendors = shared_data("dicom2nifti_vendors")
    (series,) = convert(vendors / case, tmp_path)
    assert series.image
    ours, theirs = on_grid_of(vendors / f"{case}_ground_truth.nii.gz", series.image)
    np.testing.assert_array_equal(ours, theirs)


def test_five_compressions_of_one_series_decode_alike_and_as_gdcm_decodes_them() -> None:
    """Their pixels are noise of their own; only the place is that of the published volume."""
    generic = shared_data("dicom2nifti_vendors") / "generic"
    volumes = [read(folder) for folder in sorted(generic.glob("compressed*"))]
    assert len(volumes) == 5
    slices = [SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))[0] for path in volumes[0].files]
    for volume in volumes:
        np.testing.assert_array_equal(volume.array, np.stack(slices))
        np.testing.assert_array_equal(volume.affine, read(generic / "anatomical").affine)


def test_spacing_comes_from_positions_and_not_from_thickness() -> None:
    (verdict,) = check(shared_data("totalsegmentator_ct") / "example_ct_dicom")
    assert verdict.spacing_mm == pytest.approx((2.0, 0.977, 0.977), abs=1e-3)


def read(folder: Path) -> Volume:
    (series,) = scan(folder).series
    return series.read()


def test_a_ct_agrees_with_highdicom_and_simpleitk() -> None:
    folder = shared_data("lidc_idri_ct_small") / "LIDC-IDRI-0001" / "dicom"
    volume = read(folder)

    theirs = highdicom.get_volume_from_series(
        [pydicom.dcmread(path) for path in folder.iterdir()], apply_presentation_lut=False
    )
    theirs = theirs.match_geometry(
        highdicom.VolumeGeometry(volume.affine, volume.array.shape, coordinate_system="PATIENT")
    )
    np.testing.assert_array_equal(volume.array, theirs.array)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames([str(path) for path in volume.files])
    image = reader.Execute()
    np.testing.assert_array_equal(volume.array, SimpleITK.GetArrayFromImage(image))
    np.testing.assert_allclose(np.array(image.GetOrigin()), volume.affine[:3, 3], atol=1e-3)


@pytest.mark.parametrize(
    ("folder", "voxels"), [("dcmqi/24x38x3", 315), ("dcmqi/23x38x3", 322)], ids=["byte aligned", "not byte aligned"]
)
def test_a_segmentation_has_its_known_voxels(folder: str, voxels: int, tmp_path: Path) -> None:
    converted = convert(shared_data("dicom_seg_sr") / folder, tmp_path)
    (label,) = [series.label for series in converted if series.label]
    assert int((read_nifti(label)[0] != 0).sum()) == voxels


def test_a_segmentation_of_a_liver_has_its_known_voxels(tmp_path: Path) -> None:
    source = shared_data("dicom_seg_sr") / "dcmqi"
    shutil.copytree(source / "ct-3slice", tmp_path / "in" / "ct")
    shutil.copy(source / "liver.dcm", tmp_path / "in")
    (series,) = convert(tmp_path / "in", tmp_path / "out")
    assert series.label
    assert int((read_nifti(series.label)[0] != 0).sum()) == 107_098


def test_a_truncated_file_costs_its_series_alone_and_is_named(tmp_path: Path) -> None:
    source = shared_data("ibsi_sts_dicom") / "STS_025" / "dicom"
    shutil.copytree(source / "CT" / "image", tmp_path / "a")
    shutil.copytree(source / "MR_T1" / "image", tmp_path / "b")
    victim = sorted((tmp_path / "a").iterdir())[20]
    victim.write_bytes(victim.read_bytes()[: victim.stat().st_size // 2])
    verdicts = {verdict.modality: verdict for verdict in check(tmp_path)}
    assert verdicts["CT"].code == "unreadable"
    assert f"a/{victim.name}" in verdicts["CT"].sentence
    assert verdicts["MR"].accepted


def test_a_missing_file_is_noticed(tmp_path: Path) -> None:
    source = shared_data("ibsi_sts_dicom") / "STS_025" / "dicom" / "CT" / "image"
    shutil.copytree(source, tmp_path / "a")
    volume = read(source)
    (tmp_path / "a" / volume.files[10].name).unlink()
    (verdict,) = check(tmp_path)
    assert verdict.code == "missing_slice"
