"""DICOM SEG onto its image: written by highdicom, read back voxel by voxel, refused where it does not fit."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.filereader import dcmread
from pydicom.uid import generate_uid

from dicom_labels import drawn, refusal, write_seg
from dicom_series import AXIAL, CORONAL, SAGITTAL, Directions, Place, write_series
from fedward.dicom.matching import labels_of, orphans
from fedward.dicom.nifti import read_nifti
from fedward.dicom.reader import scan
from support import shared_data

MASK = np.random.default_rng(5).random((5, 6, 9)) > 0.7


@pytest.mark.parametrize("directions", [AXIAL, CORONAL, SAGITTAL], ids=["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_a_segmentation_reads_back_onto_its_voxels(tmp_path: Path, kind: str, directions: Directions) -> None:
    series = write_series(tmp_path, place=Place(directions=directions))
    write_seg(tmp_path / "seg.dcm", series, MASK.astype(np.uint8), kind=kind)
    np.testing.assert_array_equal(drawn(tmp_path), MASK)


def test_frames_in_any_order_land_on_their_slices(tmp_path: Path) -> None:
    series = write_series(tmp_path)
    write_seg(tmp_path / "seg.dcm", series, MASK[::-1].astype(np.uint8), sources=series.datasets[::-1])
    np.testing.assert_array_equal(drawn(tmp_path), MASK)


@pytest.mark.parametrize("flip", [(1, 0), (0, 1), (1, 1)], ids=["rows", "columns", "both"])
def test_a_segmentation_that_runs_the_other_way_is_turned_and_not_mirrored(
    tmp_path: Path, flip: tuple[int, int]
) -> None:
    series = write_series(tmp_path)
    backwards = np.ascontiguousarray(MASK[:, :: -1 if flip[0] else 1, :: -1 if flip[1] else 1])
    write_seg(tmp_path / "seg.dcm", series, backwards.astype(np.uint8), omit_empty_frames=False)
    dataset = dcmread(tmp_path / "seg.dcm")
    signs = [-1.0 if flip[1] else 1.0, 0, 0, 0, -1.0 if flip[0] else 1.0, 0]
    dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient = signs
    corner = series.place.affine[:3, :3] @ [0, 5 * flip[0], 8 * flip[1]]
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        plane = frame.PlanePositionSequence[0]
        plane.ImagePositionPatient = [float(v) + d for v, d in zip(plane.ImagePositionPatient, corner, strict=True)]
    dataset.save_as(tmp_path / "seg.dcm")
    np.testing.assert_array_equal(drawn(tmp_path), MASK)


def test_planes_across_the_slices_land_on_the_same_voxels(tmp_path: Path) -> None:
    """A label drawn in coronal planes on an axial scan: position and directions alone place it."""
    series = write_series(tmp_path, place=Place(spacing_mm=(1.0, 1.0, 1.0)))
    across = write_series(
        tmp_path.parent / "across",
        count=6,
        size=(5, 9),
        place=Place((-11.0, 23.0 + 5, -400.0), ((1, 0, 0), (0, 0, 1)), (1.0, 1.0, 1.0)),
        study=series.datasets[0],
    )
    write_seg(tmp_path / "seg.dcm", across, MASK.transpose(1, 0, 2)[::-1].astype(np.uint8))
    dataset = dcmread(tmp_path / "seg.dcm")
    dataset.ReferencedSeriesSequence[0].SeriesInstanceUID = series.series_instance_uid
    dataset.save_as(tmp_path / "seg.dcm")
    np.testing.assert_array_equal(drawn(tmp_path), MASK)


def test_an_all_empty_segmentation_says_that_nothing_is_there(tmp_path: Path) -> None:
    series = write_series(tmp_path)
    write_seg(tmp_path / "seg.dcm", series, np.zeros((5, 6, 9), np.uint8), omit_empty_frames=False)
    assert drawn(tmp_path).sum() == 0


def test_segments_that_share_voxels_are_refused_unless_they_are_one_class(tmp_path: Path) -> None:
    series = write_series(tmp_path)
    write_seg(tmp_path / "seg.dcm", series, np.stack([MASK, np.roll(MASK, 1, 2)], -1).astype(np.uint8), ("a", "b"))
    assert "seg.dcm" in refusal(tmp_path, "overlapping_classes")
    np.testing.assert_array_equal(drawn(tmp_path, {1: 1, 2: 1}), MASK | np.roll(MASK, 1, 2))
    np.testing.assert_array_equal(drawn(tmp_path, {2: 1}), np.roll(MASK, 1, 2))


def test_a_fractional_segmentation_is_refused_and_an_all_or_none_one_is_read(tmp_path: Path) -> None:
    series = write_series(tmp_path)
    write_seg(
        tmp_path / "seg.dcm", series, MASK * 0.5, kind="FRACTIONAL", fractional_type="PROBABILITY",
        max_fractional_value=255,
    )  # fmt: skip
    refusal(tmp_path, "fractional_label")
    write_seg(
        tmp_path / "seg.dcm", series, MASK * 1.0, kind="FRACTIONAL", fractional_type="OCCUPANCY",
        max_fractional_value=255,
    )  # fmt: skip
    np.testing.assert_array_equal(drawn(tmp_path), MASK)


def change(path: Path, **frame: object) -> None:
    """Change the shared or per-frame groups of a SEG: ``PlanePosition`` moves, ``PixelSpacing`` scales."""
    dataset = dcmread(path)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    if "spacing" in frame:
        shared.PixelMeasuresSequence[0].PixelSpacing = frame["spacing"]
    if "orientation" in frame:
        shared.PlaneOrientationSequence[0].ImageOrientationPatient = frame["orientation"]
    for item in dataset.PerFrameFunctionalGroupsSequence:
        plane = item.PlanePositionSequence[0]
        offset = frame.get("offset", (0, 0, 0))
        plane.ImagePositionPatient = [float(v) + d for v, d in zip(plane.ImagePositionPatient, offset, strict=True)]
    dataset.save_as(path)


@pytest.mark.parametrize(
    "fault",
    [
        {"spacing": [0.8, 0.8]},
        {"orientation": [0.8, 0.6, 0, -0.6, 0.8, 0]},
        {"offset": (0.35, 0, 0)},
        {"offset": (0, 0, 1.2)},
        {"offset": (0, 0, 500.0)},
        {"offset": (0, 0, 2.5)},
        {"offset": (70.0, 0, 0)},
    ],
    ids=["pixel size", "turned", "half a pixel beside", "between slices", "elsewhere", "one slice up", "outside"],
)
def test_a_segmentation_on_another_grid_is_refused(tmp_path: Path, fault: dict[str, object]) -> None:
    series = write_series(tmp_path)
    write_seg(tmp_path / "seg.dcm", series, MASK.astype(np.uint8))
    change(tmp_path / "seg.dcm", **fault)
    refusal(tmp_path, "wrong_geometry")


def test_another_frame_of_reference_is_refused(tmp_path: Path) -> None:
    series = write_series(tmp_path)
    write_seg(tmp_path / "seg.dcm", series, MASK.astype(np.uint8))
    dataset = dcmread(tmp_path / "seg.dcm")
    dataset.FrameOfReferenceUID = generate_uid()
    dataset.save_as(tmp_path / "seg.dcm")
    refusal(tmp_path, "wrong_frame_of_reference")


@pytest.mark.parametrize("left", [0.5, 0.95], ids=["in its frames' descriptions", "in its pixels"])
def test_a_truncated_segmentation_is_refused(tmp_path: Path, left: float) -> None:
    series = write_series(tmp_path)
    write_seg(tmp_path / "seg.dcm", series, MASK.astype(np.uint8))
    content = (tmp_path / "seg.dcm").read_bytes()
    (tmp_path / "seg.dcm").write_bytes(content[: int(len(content) * left)])
    assert "seg.dcm" in refusal(tmp_path, "unreadable_label")


def test_an_unknown_kind_of_segmentation_is_refused_by_name(tmp_path: Path) -> None:
    series = write_series(tmp_path)
    write_seg(tmp_path / "seg.dcm", series, MASK.astype(np.uint8))
    dataset = dcmread(tmp_path / "seg.dcm")
    dataset.SegmentationType = "SURFACE"
    dataset.save_as(tmp_path / "seg.dcm")
    assert "SURFACE" in refusal(tmp_path, "unsupported_label")


def test_a_segmentation_of_absent_images_belongs_to_nothing(tmp_path: Path) -> None:
    series = write_series(tmp_path / "gone")
    write_series(tmp_path / "here")
    write_seg(tmp_path / "here" / "seg.dcm", series, MASK.astype(np.uint8))
    shutil.rmtree(tmp_path / "gone")
    scanned = scan(tmp_path)
    assert labels_of(scanned.series[0], scanned) == ()
    (verdict,) = orphans(scanned)
    assert (verdict.accepted, verdict.code, verdict.modality) == (False, "unknown_reference", "SEG")


def without_references(dataset: Dataset) -> None:
    del dataset.ReferencedSeriesSequence
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        del frame.DerivationImageSequence


def test_without_references_the_frame_of_reference_decides_where_it_is_one_series_own(tmp_path: Path) -> None:
    series = write_series(tmp_path / "ct")
    write_seg(tmp_path / "seg.dcm", series, MASK.astype(np.uint8))
    dataset = dcmread(tmp_path / "seg.dcm")
    without_references(dataset)
    dataset.save_as(tmp_path / "seg.dcm")
    np.testing.assert_array_equal(drawn(tmp_path), MASK)
    write_series(tmp_path / "pt", modality="PT", study=series.datasets[0])
    assert [verdict.code for verdict in orphans(scan(tmp_path))] == ["unknown_reference"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("seg_image_ct_binary", 638),
        ("seg_image_ct_binary_fractional", 638),
        ("seg_image_ct_binary_overlap", "wrong_geometry"),  # it labels the slice that lies far away
        ("seg_image_ct_true_fractional", "fractional_label"),
    ],
)
def test_highdicoms_own_examples(name: str, expected: int | str, tmp_path: Path) -> None:
    folder = shared_data("dicom_seg_sr") / "highdicom"
    for file in ("17136", "17166", "17196"):  # the fourth slice lies far away
        shutil.copy(folder / "source_ct_77654033_CT2" / file, tmp_path)
    shutil.copy(folder / f"{name}.dcm", tmp_path)
    if isinstance(expected, str):
        refusal(tmp_path, expected)
    else:
        assert int(drawn(tmp_path).sum()) == expected


@pytest.mark.parametrize(("name", "truth"), [("noppv", "noppv"), ("ppv5", "ppv5")])
def test_a_sparse_label_map_has_its_known_voxels(name: str, truth: str, tmp_path: Path) -> None:
    folder = shared_data("dicom_seg_sr") / "dcmqi"
    shutil.copytree(folder / "24x38x3" / "image", tmp_path / "image")
    shutil.copy(folder / f"sparse-labelmap-{name}.dcm", tmp_path)
    ours = drawn(tmp_path)
    assert int((ours == 1).sum()) == 630
    theirs, _ = read_nifti(folder / f"sparse_labelmap_{truth}_seg.nrrd")
    np.testing.assert_array_equal(ours == 1, theirs == 1)
