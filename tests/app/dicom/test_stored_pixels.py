"""Pixels as the file stores them: encodings, bit layouts, rescaling, and files that end early."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)

from dicom_series import Written, rewrite, write_series
from fedward.dicom.reader import check, scan


def read(folder: Path) -> np.ndarray:
    (series,) = scan(folder).series
    return series.read().array


def bits(allocated: int, stored: int, *, signed: bool) -> dict[str, int]:
    return {
        "BitsAllocated": allocated,
        "BitsStored": stored,
        "HighBit": stored - 1,
        "PixelRepresentation": int(signed),
    }


def with_pixels(pixels: np.ndarray, **values: int) -> Callable[[int, FileDataset], None]:
    """Give an edit that stores ``pixels[number]`` under a pixel format, rescaled by 1 and 0."""

    def edit(number: int, dataset: FileDataset) -> None:
        for keyword, value in values.items():
            setattr(dataset, keyword, value)
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
        dataset.PixelData = pixels[number].tobytes()

    return edit


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless], ids=["RLE", "JPEG-LS"])
def test_a_compressed_series_decodes_to_what_went_in(tmp_path: Path, syntax: str) -> None:
    written = write_series(tmp_path, edit=lambda _, dataset: dataset.compress(syntax))
    np.testing.assert_array_equal(read(tmp_path), written.stored - 24.0)


def test_a_series_may_mix_transfer_syntaxes(tmp_path: Path) -> None:
    written = write_series(tmp_path, edit=lambda n, dataset: dataset.compress(RLELossless) if n % 2 else None)
    np.testing.assert_array_equal(read(tmp_path), written.stored - 24.0)


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian], ids=["implicit", "deflated"]
)
def test_an_uncompressed_encoding_reads_alike(tmp_path: Path, syntax: str) -> None:
    written = write_series(tmp_path, edit=lambda _, dataset: setattr(dataset.file_meta, "TransferSyntaxUID", syntax))
    np.testing.assert_array_equal(read(tmp_path), written.stored - 24.0)
    assert [verdict.code for verdict in check(tmp_path)] == ["accepted"]


def test_a_big_endian_series_reads_alike(tmp_path: Path) -> None:
    written = write_series(tmp_path)
    for path, stored in zip(written.paths, written.stored, strict=True):
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        dataset.PixelData = stored.astype(">i2").tobytes()
        with path.open("wb") as file:
            pydicom.dcmwrite(file, dataset, little_endian=False, implicit_vr=False, enforce_file_format=True)
    np.testing.assert_array_equal(read(tmp_path), written.stored - 24.0)


@pytest.mark.parametrize(
    ("dtype", "layout"),
    [
        (np.uint8, bits(8, 8, signed=False)),
        (np.int8, bits(8, 8, signed=True)),
        (np.uint16, bits(16, 12, signed=False)),
        (np.int16, bits(16, 12, signed=True)),
        (np.uint16, bits(16, 16, signed=False)),
        (np.int32, bits(32, 32, signed=True)),
    ],
)
def test_every_layout_of_whole_numbers_reads_back(tmp_path: Path, dtype: type, layout: dict[str, int]) -> None:
    low, high = (-(2 ** (layout["BitsStored"] - 1)), 2 ** (layout["BitsStored"] - 1))
    shift = 0 if layout["PixelRepresentation"] else -low
    values = np.random.default_rng(0).integers(max(low, -(2**23)) + shift, min(high, 2**23) + shift, size=(5, 6, 9))
    write_series(tmp_path, edit=with_pixels(values.astype(dtype), **layout))
    np.testing.assert_array_equal(read(tmp_path), values)


def test_an_overlay_in_unused_bits_is_not_part_of_the_image(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 4096, size=(5, 6, 9)).astype(np.uint16)
    store = with_pixels(values | 0x8000, **bits(16, 12, signed=False))

    def edit(number: int, dataset: FileDataset) -> None:
        store(number, dataset)
        dataset.add_new((0x6000, 0x0102), "US", 15)

    write_series(tmp_path, edit=edit)
    np.testing.assert_array_equal(read(tmp_path), values)


def test_negative_values_whose_unused_bits_are_zero_stay_negative(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(-2048, 2048, size=(5, 6, 9)).astype(np.int16)
    write_series(tmp_path, edit=with_pixels(values & 0x0FFF, **bits(16, 12, signed=True)))
    np.testing.assert_array_equal(read(tmp_path), values)


def test_each_slice_has_its_own_rescale(tmp_path: Path) -> None:
    slopes = [0.5, 0.25, 2.0, 1.0, 3.5]

    def edit(number: int, dataset: FileDataset) -> None:
        dataset.RescaleSlope, dataset.RescaleIntercept, dataset.Units = slopes[number], number, "BQML"

    written = write_series(tmp_path, modality="PT", edit=edit)
    expected = written.stored * np.array(slopes)[:, None, None] + np.arange(5)[:, None, None]
    np.testing.assert_allclose(read(tmp_path), expected, rtol=1e-7)


def test_an_mr_without_rescale_keeps_its_stored_values(tmp_path: Path) -> None:
    written = write_series(tmp_path, modality="MR")
    np.testing.assert_array_equal(read(tmp_path), written.stored)


def test_dark_bones_on_the_screen_do_not_turn_hounsfield_units_over(tmp_path: Path) -> None:
    written = write_series(tmp_path, edit=lambda _, one: setattr(one, "PhotometricInterpretation", "MONOCHROME1"))
    np.testing.assert_array_equal(read(tmp_path), written.stored - 24.0)


@pytest.mark.parametrize(
    "as_unsigned", [False, True], ids=["padding as SS", "padding as US, as some scanners write it"]
)
def test_padding_keeps_its_value_as_other_readers_keep_it(tmp_path: Path, as_unsigned: bool) -> None:
    def edit(_: int, dataset: FileDataset) -> None:
        pixels = np.frombuffer(dataset.PixelData, dtype=np.int16).copy()
        pixels[:7] = -2000
        dataset.PixelData = pixels.tobytes()
        dataset.add_new("PixelPaddingValue", "US" if as_unsigned else "SS", 63536 if as_unsigned else -2000)

    written = write_series(tmp_path, edit=edit)
    volume = read(tmp_path)
    assert (volume[:, 0, :7] == -2024).all()
    theirs = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage([str(path) for path in written.paths]))
    np.testing.assert_array_equal(volume, theirs)


def test_values_that_bend_the_standard_are_read_without_a_remark(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    written = write_series(tmp_path)
    for path in written.paths:
        content = path.read_bytes().replace(b"ID-4711-X ", b"I\x01\xff-11\\-X ")
        path.write_bytes(content.replace(written.series_instance_uid[:20].encode(), b"1.2.0a.00001.99999.1"))
    np.testing.assert_array_equal(read(tmp_path), written.stored - 24.0)
    assert caplog.records == []


def cut(folder: Path, written: Written, left: int) -> None:
    content = written.paths[2].read_bytes()
    written.paths[2].write_bytes(content[:left])


@given(share=st.floats(0.0, 0.999))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_wherever_a_file_ends_its_series_is_refused_and_the_file_named(tmp_path: Path, share: float) -> None:
    folder = tmp_path / "case"
    written = write_series(folder)
    cut(folder, written, int(share * written.paths[2].stat().st_size))
    verdicts = [verdict for verdict in check(tmp_path) if verdict.series_instance_uid == written.series_instance_uid]
    assert [verdict.code for verdict in verdicts] == ["unreadable"]
    assert "case/IM0002.dcm" in verdicts[0].sentence
    assert len(check(tmp_path)) == 1


@given(share=st.floats(0.0, 0.999), syntax=st.sampled_from([RLELossless, JPEGLSLossless]))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_wherever_a_compressed_file_ends_its_series_is_refused(tmp_path: Path, share: float, syntax: str) -> None:
    written = write_series(tmp_path, edit=lambda _, dataset: dataset.compress(syntax))
    cut(tmp_path, written, int(share * written.paths[2].stat().st_size))
    (verdict,) = check(tmp_path)
    assert verdict.code == "unreadable"
    assert "IM0002.dcm" in verdict.sentence


def test_a_fragment_that_is_shorter_than_the_image_is_refused(tmp_path: Path) -> None:
    written = write_series(tmp_path, edit=lambda _, dataset: dataset.compress(RLELossless))

    def shorten(dataset: Dataset) -> None:
        frame = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
        dataset.PixelData = encapsulate([frame[: len(frame) // 2]])

    rewrite(written.paths[1], shorten)
    (verdict,) = check(tmp_path)
    assert verdict.code == "unreadable"


@given(
    where=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=30),
    compressed=st.booleans(),
)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_damage_makes_the_reader_fail(tmp_path: Path, where: list[tuple[float, int]], compressed: bool) -> None:
    written = write_series(tmp_path, edit=lambda _, one: one.compress(RLELossless) if compressed else None)
    content = bytearray(written.paths[1].read_bytes())
    for share, value in where:
        content[132 + int(share * (len(content) - 132))] = value
    written.paths[1].write_bytes(bytes(content))
    assert check(tmp_path)
