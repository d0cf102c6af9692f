"""Series to NIfTI files: their names, their labels' values, and a disk that cannot take them."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from dicom_labels import square, write_contours, write_seg
from dicom_series import Place, write_series
from fedward.dicom.convert import ConvertedSeries, convert

MASK = np.random.default_rng(5).random((5, 6, 9)) > 0.7
OTHER = np.roll(MASK, 1, axis=2) & ~MASK
OBLIQUE = ((0.95416660, -0.20807570, 0.21510610), (0.27858860, 0.88012800, -0.38439970))


def only(converted: list[ConvertedSeries]) -> ConvertedSeries:
    (series,) = converted
    return series


def test_a_voxel_of_the_file_lies_where_it_lies_in_the_patient(tmp_path: Path) -> None:
    """By nibabel, which counts (column, row, slice) and RAS."""
    written = write_series(tmp_path / "in", place=Place(directions=OBLIQUE))
    series = only(convert(tmp_path / "in", tmp_path / "out"))
    assert series.image == tmp_path / "out" / f"{written.series_instance_uid}.nii.gz"
    assert (series.label, series.refusals) == (None, ())
    image = nibabel.load(series.image)
    np.testing.assert_array_equal(np.asarray(image.dataobj).transpose(2, 1, 0), written.stored - 24.0)
    ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ written.place.affine[:, [2, 1, 0, 3]]
    np.testing.assert_allclose(image.affine, ras, atol=1e-4)


def test_segments_take_the_values_of_their_order(tmp_path: Path) -> None:
    written = write_series(tmp_path / "in")
    write_seg(tmp_path / "in" / "seg.dcm", written, np.stack([OTHER, MASK], -1).astype(np.uint8), ("b", "a"))
    series = only(convert(tmp_path / "in", tmp_path / "out"))
    assert series.label == tmp_path / "out" / f"{written.series_instance_uid}_label.nii.gz"
    label, image = nibabel.load(series.label), nibabel.load(series.image)
    assert label.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(label.dataobj).transpose(2, 1, 0), OTHER + 2 * MASK)
    np.testing.assert_array_equal(label.affine, image.affine)


def test_regions_with_gaps_in_their_numbers_count_on(tmp_path: Path) -> None:
    written = write_series(tmp_path / "in", size=(12, 14))
    path = tmp_path / "in" / "rs.dcm"
    dataset = write_contours(path, written, {"a": [square(1, 0.5, 4.5)], "b": [square(1, 6.5, 9.5)]})
    for sequence, keyword in (
        (dataset.StructureSetROISequence, "ROINumber"),
        (dataset.ROIContourSequence, "ReferencedROINumber"),
    ):
        setattr(sequence[0], keyword, 9)
        setattr(sequence[1], keyword, 4)
    dataset.save_as(path)
    series = only(convert(tmp_path / "in", tmp_path / "out"))
    values = np.asarray(nibabel.load(series.label).dataobj)
    assert np.bincount(values.ravel()).tolist()[1:] == [9, 16]


def test_a_label_in_doubt_costs_the_label_and_not_the_image(tmp_path: Path) -> None:
    written = write_series(tmp_path / "in")
    for name in ("one", "two"):
        write_seg(tmp_path / "in" / f"{name}.dcm", written, MASK.astype(np.uint8))
    series = only(convert(tmp_path / "in", tmp_path / "out"))
    assert series.image
    assert series.label is None
    assert [verdict.code for verdict in series.refusals] == ["several_labels"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == [series.image.name]


def test_what_is_refused_is_listed_and_not_written(tmp_path: Path) -> None:
    good, bad, gone = (write_series(tmp_path / "in" / name) for name in ("good", "bad", "gone"))
    bad.paths[2].unlink()
    write_seg(tmp_path / "in" / "seg.dcm", gone, MASK.astype(np.uint8))
    for path in gone.paths:
        path.unlink()
    converted = convert(tmp_path / "in", tmp_path / "out")
    assert sorted(v.code for series in converted for v in series.refusals) == ["missing_slice", "unknown_reference"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == [f"{good.series_instance_uid}.nii.gz"]


def test_a_series_that_does_not_decode_leaves_no_file(tmp_path: Path) -> None:
    written = write_series(tmp_path / "in", edit=lambda _, one: one.compress("1.2.840.10008.1.2.5"))
    content = bytearray(written.paths[1].read_bytes())
    content[-60:-20] = b"\x80" * 40
    written.paths[1].write_bytes(bytes(content))
    series = only(convert(tmp_path / "in", tmp_path / "out"))
    assert (series.image, [verdict.code for verdict in series.refusals]) == (None, ["unreadable"])
    assert not (tmp_path / "out").exists()


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    """The limit on the size of files stands in for the disk; SimpleITK itself does not notice it."""
    write_series(tmp_path / "in", size=(200, 200))
    program = (
        "import sys; from pathlib import Path; from fedward.dicom.convert import convert\n"
        "from fedward.errors import StoreError\n"
        "try: convert(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "except StoreError as error: print(error.code, error.detail)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "in"), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
    )
    assert done.stdout.startswith("no_space cannot write ")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("count", [1, 3])
def test_progress_counts_series(tmp_path: Path, count: int) -> None:
    for number in range(count):
        write_series(tmp_path / "in" / str(number))
    seen: list[tuple[int, int]] = []
    convert(tmp_path / "in", tmp_path / "out", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(number, count) for number in range(1, count + 1)]
