"""A hospital's sources: which label is a series' truth, under which names, and when there is doubt."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from dicom_labels import square, write_contours, write_seg
from dicom_series import Place, Written, write_series
from fedward.dicom.source import Source, StudyCase, open_source
from fedward.dicom.volume import Label
from fedward.errors import LabelRefused, SeriesRefused, SourceError
from fedward.settings.site import DicomSource, NiftiSource
from support import shared_data

MASK = np.random.default_rng(5).random((5, 6, 9)) > 0.7
OTHER = np.roll(MASK, 1, axis=2) & ~MASK


def opened(folder: Path, *, mask_path: Path | None = None, **classes: tuple[str, ...]) -> Source:
    return open_source(DicomSource(kind="dicom", path=folder, classes=classes, mask_path=mask_path))


def case(folder: Path, *, mask_path: Path | None = None, **classes: tuple[str, ...]) -> StudyCase:
    (study,) = opened(folder, mask_path=mask_path, **classes).studies()
    return study


def label(study: StudyCase, *classes: str) -> Label | None:
    return study.read_label(classes, study.read())


def test_a_study_says_what_it_is_and_reads_when_asked(tmp_path: Path) -> None:
    series = write_series(tmp_path / "scan")
    write_seg(tmp_path / "seg.dcm", series, MASK.astype(np.uint8))
    study = case(tmp_path, nodule=("nodule",))
    assert (study.patient_key, study.modality, study.has_label) == ("|ID-4711-X", "CT", True)
    assert study.series_instance_uid == series.series_instance_uid
    assert study.verdict.accepted
    assert sorted(study.files) == [*series.paths, tmp_path / "seg.dcm"]
    volume = study.read()
    truth = study.read_label(("nodule",), volume)
    assert truth is not None
    assert truth.classes == ("nodule",)
    np.testing.assert_array_equal(truth.array, MASK)
    assert volume.sop_instance_uids == tuple(one.SOPInstanceUID for one in series.datasets)


def test_refused_series_and_lone_labels_are_named(tmp_path: Path) -> None:
    good, bad = write_series(tmp_path / "good"), write_series(tmp_path / "bad")
    write_seg(tmp_path / "seg.dcm", bad, MASK.astype(np.uint8))
    shutil.rmtree(tmp_path / "bad")
    bad = write_series(tmp_path / "bad")
    bad.paths[2].unlink()
    source = opened(tmp_path)
    assert [study.series_instance_uid for study in source.studies()] == [good.series_instance_uid]
    assert [verdict.code for verdict in source.refused] == ["missing_slice"]
    assert [verdict.code for verdict in source.unmatched] == ["unknown_reference"]


def test_names_fit_patterns_in_any_case(tmp_path: Path) -> None:
    series = write_series(tmp_path)
    write_seg(tmp_path / "seg.dcm", series, np.stack([MASK, OTHER], -1).astype(np.uint8), ("GTV 1", "Lymph node"))
    study = case(tmp_path, tumour=("ptv*", "gtv*"), node=("*NODE",))
    truth = label(study, "node", "tumour")
    assert truth is not None
    np.testing.assert_array_equal(truth.array, OTHER + 2 * MASK)
    alone = label(study, "tumour")
    assert alone is not None
    np.testing.assert_array_equal(alone.array, MASK)


def test_a_series_whose_labels_mean_none_of_the_classes_is_unlabelled(tmp_path: Path) -> None:
    series = write_series(tmp_path)
    write_seg(tmp_path / "seg.dcm", series, MASK.astype(np.uint8), ("Heart",))
    study = case(tmp_path, tumour=("gtv*",))
    assert not study.has_label
    assert label(study, "tumour") is None
    assert label(study, "never heard of") is None


def test_an_empty_segment_says_no_lesion_and_a_missing_one_says_nothing(tmp_path: Path) -> None:
    series = write_series(tmp_path)
    empty = np.zeros_like(MASK)
    write_seg(
        tmp_path / "seg.dcm", series, np.stack([MASK, empty], -1).astype(np.uint8), ("a", "b"), omit_empty_frames=False
    )
    study = case(tmp_path, a=("a",), b=("b",), c=("c",))
    truth = label(study, "b")
    assert truth is not None
    assert truth.array.sum() == 0
    with pytest.raises(LabelRefused, match="unknown_class") as caught:
        label(study, "a", "c")
    assert "class c" in caught.value.detail


def test_two_objects_for_two_classes_are_one_truth(tmp_path: Path) -> None:
    series = write_series(tmp_path, size=(12, 14))
    mask = np.zeros((5, 12, 14), dtype=np.uint8)
    mask[1, 8:, 8:] = 1
    write_seg(tmp_path / "seg.dcm", series, mask, ("a",))
    write_contours(tmp_path / "rs.dcm", series, {"b": [square(1, 0.5, 4.5)]})
    truth = label(case(tmp_path, a=("a",), b=("b",)), "a", "b")
    assert truth is not None
    assert np.bincount(truth.array.ravel()).tolist()[1:] == [24, 16]


def test_two_objects_for_one_class_leave_the_truth_open(tmp_path: Path) -> None:
    series = write_series(tmp_path)
    write_seg(tmp_path / "one.dcm", series, MASK.astype(np.uint8))
    write_seg(tmp_path / "two.dcm", series, OTHER.astype(np.uint8))
    study = case(tmp_path, nodule=("nodule",))
    assert study.has_label
    with pytest.raises(LabelRefused, match="several_labels") as caught:
        label(study, "nodule")
    assert "one.dcm" in caught.value.detail
    assert "two.dcm" in caught.value.detail


def test_a_segment_that_fits_two_classes_is_refused(tmp_path: Path) -> None:
    series = write_series(tmp_path)
    write_seg(tmp_path / "seg.dcm", series, MASK.astype(np.uint8), ("gtv node",))
    study = case(tmp_path, tumour=("gtv*",), node=("*node",))
    assert study.has_label
    with pytest.raises(LabelRefused, match="unknown_class"):
        label(study, "tumour", "node")


def write_mask(path: Path, series: Written, values: np.ndarray, *, turned: bool = False) -> None:
    """Write a NIfTI mask on a series' grid, or on the same grid stored along other axes."""
    image = SimpleITK.GetImageFromArray(values)
    affine = series.place.affine
    image.SetSpacing([float(np.linalg.norm(affine[:3, axis])) for axis in (2, 1, 0)])
    image.SetDirection((affine[:3, 2::-1] / np.linalg.norm(affine[:3, 2::-1], axis=0)).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    if turned:
        image = SimpleITK.PermuteAxes(SimpleITK.Flip(image, [True, False, True]), [2, 0, 1])
    path.parent.mkdir(exist_ok=True)
    SimpleITK.WriteImage(image, str(path))


@pytest.mark.parametrize("turned", [False, True], ids=["as the image", "along other axes"])
def test_a_mask_beside_the_archive_is_the_truth(tmp_path: Path, turned: bool) -> None:
    series = write_series(tmp_path / "scan")
    write_seg(tmp_path / "scan" / "seg.dcm", series, OTHER.astype(np.uint8))
    values = MASK.astype(np.uint8) + 2 * OTHER.astype(np.uint8)
    write_mask(tmp_path / "masks" / f"{series.series_instance_uid}.nii.gz", series, values, turned=turned)
    study = case(tmp_path / "scan", mask_path=tmp_path / "masks", a=("x",), b=("nodule",))
    assert study.has_label
    assert study.files[-1].parent == tmp_path / "masks"
    truth = label(study, "b", "a")
    assert truth is not None
    np.testing.assert_array_equal(truth.array, 2 * MASK + OTHER)
    nameless = label(case(tmp_path / "scan", mask_path=tmp_path / "masks"), "first", "second")
    assert nameless is not None
    np.testing.assert_array_equal(nameless.array, values)


@pytest.mark.parametrize(
    ("place", "values", "code"),
    [
        (Place(origin_mm=(-11.0, 23.4, -400.0)), MASK.astype(np.uint8), "wrong_geometry"),
        (Place(spacing_mm=(2.5, 0.8, 0.8)), MASK.astype(np.uint8), "wrong_geometry"),
        (Place(origin_mm=(-11.0, 23.0, -390.0)), MASK.astype(np.uint8), "wrong_geometry"),
        (Place(), MASK * 0.5, "fractional_label"),
        (Place(), MASK * np.float32(-1), "fractional_label"),
    ],
    ids=["half a voxel beside", "other voxels", "outside", "fractions", "negative"],
)
def test_a_mask_that_does_not_fit_is_refused(tmp_path: Path, place: Place, values: np.ndarray, code: str) -> None:
    series = write_series(tmp_path / "scan")
    path = tmp_path / "masks" / f"{series.series_instance_uid}.nii.gz"
    write_mask(path, Written(series.stored, place, (), ""), values)
    with pytest.raises(LabelRefused, match=code) as caught:
        label(case(tmp_path / "scan", mask_path=tmp_path / "masks"), "tumour")
    assert path.name in caught.value.detail


def test_a_mask_that_is_no_nifti_is_refused(tmp_path: Path) -> None:
    series = write_series(tmp_path / "scan")
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / f"{series.series_instance_uid}.nii.gz").write_bytes(b"nothing")
    with pytest.raises(LabelRefused, match="unreadable_label"):
        label(case(tmp_path / "scan", mask_path=tmp_path / "masks"), "tumour")


def test_a_folder_of_masks_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    write_series(tmp_path / "scan")
    with pytest.raises(SourceError, match="missing_source"):
        opened(tmp_path / "scan", mask_path=tmp_path / "masks")


def nifti(folder: Path, **values: object) -> NiftiSource:
    return NiftiSource.model_validate(
        {"kind": "nifti", "images": folder / "images", "labels": folder / "labels", "modality": "MR"} | values
    )


def write_public_set(folder: Path) -> Written:
    series = write_series(folder / "dicom")
    for name in ("p1-a", "p1-b", "p2-a"):
        write_mask(folder / "images" / f"{name}.nii.gz", series, series.stored)
    for name in ("p1-a", "p2-a"):
        write_mask(folder / "labels" / f"{name}.nii.gz", series, MASK.astype(np.uint8) + 4 * OTHER.astype(np.uint8))
    return series


def test_a_public_set_is_a_source_too(tmp_path: Path) -> None:
    series = write_public_set(tmp_path)
    source = open_source(nifti(tmp_path, classes={"a": 1, "b": 4}, patient_separator="-"))
    studies = source.studies()
    assert [(one.patient_key, one.has_label) for one in studies] == [("p1", True), ("p1", False), ("p2", True)]
    assert len({one.series_instance_uid for one in studies}) == 3
    assert all(one.series_instance_uid.startswith("2.25.") and one.modality == "MR" for one in studies)
    assert studies[0].verdict.shape == (5, 6, 9)
    assert studies[0].verdict.spacing_mm == pytest.approx((2.5, 0.8, 0.7))
    volume = studies[0].read()
    np.testing.assert_array_equal(volume.array, series.stored)
    np.testing.assert_allclose(volume.affine, series.place.affine, atol=1e-4)
    truth = studies[0].read_label(("b", "a"), volume)
    assert truth is not None
    np.testing.assert_array_equal(truth.array, OTHER + 2 * MASK)
    assert studies[1].read_label(("a",), volume) is None


def test_a_class_that_the_site_file_does_not_number_is_not_taken_for_background(tmp_path: Path) -> None:
    write_public_set(tmp_path)
    study = open_source(nifti(tmp_path, classes={"a": 1})).studies()[0]
    assert label(study, "other") is None
    with pytest.raises(LabelRefused, match="unknown_class"):
        label(study, "a", "other")


def test_a_broken_image_of_a_public_set_costs_itself_alone(tmp_path: Path) -> None:
    series = write_public_set(tmp_path)
    (tmp_path / "images" / "p3.nii.gz").write_bytes(b"nothing")
    write_mask(tmp_path / "images" / "p4.nii.gz", series, np.where(MASK, np.nan, 7.0))
    film = SimpleITK.JoinSeries([SimpleITK.ReadImage(str(tmp_path / "images" / "p2-a.nii.gz"))] * 2)
    SimpleITK.WriteImage(film, str(tmp_path / "images" / "p5.nii.gz"))
    source = open_source(nifti(tmp_path))
    assert [(one.code, one.files) for one in source.refused] == [
        ("unreadable", ("p3.nii.gz",)),
        ("not_a_volume", ("p5.nii.gz",)),
    ]
    np.testing.assert_array_equal(source.studies()[-1].read().array, 7.0 * ~MASK)
    (tmp_path / "images" / "p4.nii.gz").write_bytes(b"nothing")
    with pytest.raises(SeriesRefused, match="unreadable"):
        source.studies()[-1].read()


def test_missing_and_empty_folders_of_a_public_set_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="missing_source"):
        open_source(nifti(tmp_path))
    (tmp_path / "images").mkdir()
    with pytest.raises(SourceError, match="missing_source"):
        open_source(nifti(tmp_path))
    (tmp_path / "labels").mkdir()
    with pytest.raises(SourceError, match="empty_source"):
        open_source(nifti(tmp_path))


def test_the_hippocampus_set_opens_whole() -> None:
    folder = shared_data("hippocampus_msd")
    source = open_source(nifti(folder, classes={"anterior": 1, "posterior": 2}))
    assert len(source.studies()) == 208
    assert source.refused == ()
    assert all(one.has_label and one.verdict.spacing_mm == pytest.approx((1, 1, 1)) for one in source.studies())
    truth = label(source.studies()[0], "anterior", "posterior")
    assert truth is not None
    assert np.unique(truth.array).tolist() == [0, 1, 2]
