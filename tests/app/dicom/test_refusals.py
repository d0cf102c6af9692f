"""Every way in which a series is no volume to be trusted, each written as a series with that one fault."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import generate_uid

from dicom_series import AXIAL, Place, rewrite, write_series
from fedward.dicom.reader import check, scan
from fedward.errors import SeriesRefused

Make = Callable[[Path], object]


def at(slices: set[int], **values: object) -> Callable[[int, FileDataset], None]:
    """Give an edit that sets ``values`` on some slices."""

    def edit(number: int, dataset: FileDataset) -> None:
        if number in slices:
            for keyword, value in values.items():
                setattr(dataset, keyword, value)

    return edit


def everywhere(**values: object) -> Callable[[int, FileDataset], None]:
    return at(set(range(100)), **values)


def without(*keywords: str) -> Callable[[int, FileDataset], None]:
    def edit(number: int, dataset: FileDataset) -> None:
        for keyword in keywords:
            del dataset[keyword]

    return edit


def with_syntax(uid: str) -> Make:
    """Give a maker of files that name another transfer syntax of the same length than they are written in."""

    def make(folder: Path) -> None:
        for path in write_series(folder).paths:
            content = path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", uid.encode().ljust(20, b"\0"))
            path.write_bytes(content)

    return make


def unknown_and_cut(folder: Path) -> None:
    with_syntax("1.2.840.113619.5.2")(folder)
    cut_file(sorted(folder.iterdir())[2])


def moved(offsets: dict[int, tuple[float, float, float]]) -> Callable[[int, FileDataset], None]:
    def edit(number: int, dataset: FileDataset) -> None:
        offset = offsets.get(number, (0, 0, 0))
        dataset.ImagePositionPatient = [float(v) + d for v, d in zip(dataset.ImagePositionPatient, offset, strict=True)]

    return edit


def one_missing(folder: Path) -> None:
    write_series(folder).paths[2].unlink()


def copied(folder: Path) -> None:
    paths = write_series(folder).paths
    (folder / "copy.dcm").write_bytes(paths[2].read_bytes())


def copied_whole(folder: Path) -> None:
    for path in write_series(folder / "a").paths:
        (folder / "b").mkdir(exist_ok=True)
        (folder / "b" / path.name).write_bytes(path.read_bytes())


def repeated_as_another_instance(folder: Path) -> None:
    copied(folder)
    rewrite(folder / "copy.dcm", lambda dataset: setattr(dataset, "SOPInstanceUID", generate_uid()))


def two_time_points(folder: Path) -> None:
    for path in write_series(folder).paths:
        later = path.with_name(f"later-{path.name}")
        later.write_bytes(path.read_bytes())
        rewrite(later, lambda dataset: setattr(dataset, "SOPInstanceUID", generate_uid()))


def tilted(folder: Path) -> None:
    angle = np.radians(16.5)
    place = Place(directions=(AXIAL[0], (0.0, float(np.cos(angle)), float(-np.sin(angle)))))

    def along_the_table(number: int, dataset: FileDataset) -> None:
        dataset.ImagePositionPatient = [-11, 23, -400 + 2.5 * number]

    write_series(folder, count=12, place=place, edit=along_the_table)


def tilted_and_uneven(folder: Path) -> None:
    tilted(folder)
    for path in sorted(folder.iterdir())[6:]:
        rewrite(
            path,
            lambda dataset: dataset.ImagePositionPatient.__setitem__(2, float(dataset.ImagePositionPatient[2]) + 0.9),
        )


def cut_across(folder: Path) -> None:
    write_series(folder, edit=at({3}, ImageOrientationPatient=[1, 0, 0, 0, 0, -1]))


def with_a_localizer(folder: Path) -> None:
    write_series(
        folder,
        edit=at({0}, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], ImageOrientationPatient=[1, 0, 0, 0, 0, -1]),
    )


def cut_file(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def cut_short(folder: Path) -> None:
    cut_file(write_series(folder).paths[2])


def with_lookup_table(number: int, dataset: FileDataset) -> None:
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [2, 0, 16], b"\0\0\1\0"
    dataset.ModalityLUTSequence = [item]


def as_float(number: int, dataset: FileDataset) -> None:
    dataset.FloatPixelData = np.zeros(54, dtype=np.float32).tobytes()
    del dataset.PixelData


def in_bands(number: int, dataset: FileDataset) -> None:
    """Gaps of 5 mm below and of 10 mm above: two scans with two protocols, nothing is missing."""
    dataset.ImagePositionPatient = [0, 0, [0, 5, 10, 20, 30, 40][number]]


FAULTS: dict[str, tuple[str, Make]] = {
    "a slice is missing": ("missing_slice", one_missing),
    "a file lies there twice": ("duplicate_position", copied),
    "the whole series lies there twice": ("duplicate_position", copied_whole),
    "two instances at one position": ("duplicate_position", repeated_as_another_instance),
    "two time points": ("several_volumes", two_time_points),
    "a slice is shifted along the normal": (
        "irregular_spacing",
        lambda f: write_series(f, edit=moved({2: (0, 0, 0.3)})),
    ),
    "two bands of spacing": ("irregular_spacing", lambda f: write_series(f, count=6, edit=in_bands)),
    "a slice is shifted in its plane": ("mixed_geometry", lambda f: write_series(f, edit=moved({2: (5, 0, 0)}))),
    "the gantry is tilted": ("gantry_tilt", tilted),
    "the gantry is tilted and the gaps differ": ("gantry_tilt", tilted_and_uneven),
    "a tilt that the orientation hides": (
        "gantry_tilt",
        lambda f: write_series(f, edit=everywhere(GantryDetectorTilt=12.0)),
    ),
    "one slice is cut across": ("mixed_orientation", cut_across),
    "all are planning images": (
        "localizer",
        lambda f: write_series(f, edit=everywhere(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])),
    ),
    "one is a planning image": ("localizer", with_a_localizer),
    "sizes differ": ("mixed_geometry", lambda f: write_series(f, edit=at({1}, Rows=5, PixelData=b"\0" * 90))),
    "pixel spacings differ": ("mixed_geometry", lambda f: write_series(f, edit=at({1}, PixelSpacing=[0.8, 0.71]))),
    "frames of reference differ": (
        "mixed_frame_of_reference",
        lambda f: write_series(f, edit=at({1}, FrameOfReferenceUID=generate_uid())),
    ),
    "patients differ": ("mixed_patient", lambda f: write_series(f, edit=at({1}, PatientID="ID-4712-X"))),
    "one file has no patient": ("mixed_patient", lambda f: write_series(f, edit=at({1}, PatientID=""))),
    "studies differ": ("mixed_study", lambda f: write_series(f, edit=at({1}, StudyInstanceUID=generate_uid()))),
    "modalities differ": ("mixed_modality", lambda f: write_series(f, edit=at({1}, Modality="PT"))),
    "grey scales differ": (
        "mixed_pixel_format",
        lambda f: write_series(f, edit=at({1}, PhotometricInterpretation="MONOCHROME1")),
    ),
    "all lie at one place": (
        "not_a_volume",
        lambda f: write_series(f, edit=everywhere(ImagePositionPatient=[0, 0, 0])),
    ),
    "a single image": ("not_a_volume", lambda f: write_series(f, count=1)),
    "screen shots": (
        "not_a_volume",
        lambda f: write_series(f, edit=everywhere(SOPClassUID="1.2.840.10008.5.1.4.1.1.7")),
    ),
    "a spectrum under the modality MR": (
        "not_a_volume",
        lambda f: write_series(f, modality="MR", edit=everywhere(SOPClassUID="1.2.840.10008.5.1.4.1.1.4.2")),
    ),
    "an enhanced object": (
        "multi_frame",
        lambda f: write_series(f, count=1, edit=everywhere(SOPClassUID="1.2.840.10008.5.1.4.1.1.2.1")),
    ),
    "several frames in a plain object": (
        "multi_frame",
        lambda f: write_series(f, edit=everywhere(NumberOfFrames=2, PixelData=b"\0" * 216)),
    ),
    "a mosaic": (
        "mosaic",
        lambda f: write_series(f, modality="MR", edit=everywhere(ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"])),
    ),
    "an ultrasound": ("unsupported_modality", lambda f: write_series(f, edit=everywhere(Modality="US"))),
    "an unknown transfer syntax": ("unsupported_transfer_syntax", with_syntax("1.2.840.10008.1.2.8")),
    "a private transfer syntax": ("unsupported_transfer_syntax", with_syntax("1.2.840.113619.5.2")),
    "an unknown transfer syntax around damaged pixels": ("unsupported_transfer_syntax", unknown_and_cut),
    "colours": (
        "unsupported_pixel_format",
        lambda f: write_series(
            f, edit=everywhere(SamplesPerPixel=3, PhotometricInterpretation="RGB", PixelData=b"\0" * 324)
        ),
    ),
    "floating-point pixels": ("unsupported_pixel_format", lambda f: write_series(f, edit=as_float)),
    "one bit a pixel": (
        "unsupported_pixel_format",
        lambda f: write_series(f, edit=everywhere(BitsAllocated=1, BitsStored=1, HighBit=0)),
    ),
    "a high bit elsewhere": ("unsupported_pixel_format", lambda f: write_series(f, edit=everywhere(BitsStored=12))),
    "values beyond the stored bits": (
        "unsupported_pixel_format",
        lambda f: write_series(f, edit=everywhere(BitsStored=8, HighBit=7)),
    ),
    "a table of values": ("invalid_rescale", lambda f: write_series(f, edit=with_lookup_table)),
    "a slope of zero": ("invalid_rescale", lambda f: write_series(f, edit=at({3}, RescaleSlope=0))),
    "no position": ("missing_attribute", lambda f: write_series(f, edit=without("ImagePositionPatient"))),
    "no orientation": ("missing_attribute", lambda f: write_series(f, edit=without("ImageOrientationPatient"))),
    "no pixel spacing": ("missing_attribute", lambda f: write_series(f, edit=without("PixelSpacing"))),
    "a CT without HU": (
        "missing_attribute",
        lambda f: write_series(f, edit=without("RescaleSlope", "RescaleIntercept")),
    ),
    "a pixel of no width": ("invalid_attribute", lambda f: write_series(f, edit=everywhere(PixelSpacing=[0.8, 0]))),
    "skew directions": (
        "invalid_attribute",
        lambda f: write_series(f, edit=everywhere(ImageOrientationPatient=[1, 0, 0, 0.2, 0.98, 0])),
    ),
    "a file that ends early": ("unreadable", cut_short),
    "no pixels": ("unreadable", lambda f: write_series(f, edit=without("PixelData"))),
}


@pytest.mark.parametrize(("code", "make"), FAULTS.values(), ids=FAULTS)
def test_a_series_with_one_fault_is_refused_by_its_name(tmp_path: Path, code: str, make: Make) -> None:
    make(tmp_path)
    (verdict,) = check(tmp_path)
    assert (verdict.accepted, verdict.code) == (False, code), verdict.sentence
    assert len(verdict.sentence) > 20
    assert str(tmp_path) not in verdict.sentence


@pytest.mark.parametrize(("code", "make"), FAULTS.values(), ids=FAULTS)
def test_a_refused_series_gives_no_volume(tmp_path: Path, code: str, make: Make) -> None:
    make(tmp_path)
    (series,) = scan(tmp_path).series
    with pytest.raises(SeriesRefused, match=code):
        series.read()


def test_every_code_of_a_refused_series_has_its_fault_here() -> None:
    assert {code for code, _ in FAULTS.values()} == SeriesRefused.codes


def test_a_bad_series_costs_itself_alone(tmp_path: Path) -> None:
    for number, (_, make) in enumerate(FAULTS.values()):
        make(tmp_path / f"bad-{number}")
    good = write_series(tmp_path / "good")
    verdicts = check(tmp_path)
    assert [v.series_instance_uid for v in verdicts if v.accepted] == [good.series_instance_uid]
    assert len(verdicts) == len(FAULTS) + 1


def test_a_sentence_names_the_slice_that_is_wrong(tmp_path: Path) -> None:
    write_series(tmp_path / "a", edit=at({3}, RescaleSlope=0))
    (verdict,) = check(tmp_path)
    assert "a/IM0003.dcm" in verdict.sentence
    assert "(0028,1053)" in verdict.sentence


def test_no_verdict_holds_the_patients_name_or_id(tmp_path: Path) -> None:
    for number, (_, make) in enumerate(FAULTS.values()):
        make(tmp_path / f"bad-{number}")
    said = repr(check(tmp_path))
    assert "Nobody" not in said
    assert "ID-4711-X" not in said


def test_a_localizer_of_its_own_series_leaves_the_scan_alone(tmp_path: Path) -> None:
    good = write_series(tmp_path / "scan")
    write_series(tmp_path / "scout", count=2, edit=everywhere(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]))
    assert {v.series_instance_uid: v.code for v in check(tmp_path)}[good.series_instance_uid] == "accepted"


def test_a_corrected_tilt_and_an_mr_are_not_mistaken_for_a_tilted_gantry(tmp_path: Path) -> None:
    write_series(tmp_path / "a", edit=everywhere(GantryDetectorTilt=12.0, ImageType=["DERIVED", "PRIMARY", "AXIAL"]))
    write_series(tmp_path / "b", edit=everywhere(GantryDetectorTilt=0.0))
    write_series(tmp_path / "c", modality="MR")
    assert [verdict.code for verdict in check(tmp_path)] == ["accepted"] * 3


def test_a_file_that_cannot_be_decoded_is_told_only_by_its_pixels(tmp_path: Path) -> None:
    paths = write_series(tmp_path).paths
    rewrite(paths[1], lambda one: one.compress("1.2.840.10008.1.2.5"))
    content = bytearray(paths[1].read_bytes())
    content[-60:-20] = b"\x80" * 40
    paths[1].write_bytes(bytes(content))
    assert scan(tmp_path).series[0].verdict.accepted
    (verdict,) = check(tmp_path)
    assert verdict.code == "unreadable"
    assert "IM0001.dcm" in verdict.sentence
