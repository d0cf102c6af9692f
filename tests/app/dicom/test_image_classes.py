"""Whole images' classes come from a table that says exactly one thing of each image, or from none."""

from __future__ import annotations

from pathlib import Path

import pytest
import SimpleITK

from dicom_series import write_series
from fedward.dicom.forget import forget_in_source
from fedward.dicom.image_classes import read_image_classes, rows_without_image
from fedward.dicom.source import open_source
from fedward.errors import SourceError
from fedward.settings.site import DicomSource, NiftiSource, read_site_settings


def table(folder: Path, text: str) -> Path:
    path = folder / "classes.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table_gives_each_images_class(tmp_path: Path) -> None:
    path = table(tmp_path, 'image,class\np1-a,normal\n"p2, left",other_1\n')
    assert read_image_classes(path) == {"p1-a": "normal", "p2, left": "other_1"}
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))  # as spreadsheets save it
    assert read_image_classes(path) == {"p1-a": "normal", "p2, left": "other_1"}
    assert read_image_classes(None) == {}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "first row"),
        ("p1,normal\n", "first row"),
        ("class,image\nnormal,p1\n", "first row"),
        ("image,class\np1,normal\np1,normal\n", "row 3: the image has a row already"),
        ("image,class\np1,normal\np1,other\n", "row 3: the image has a row already"),
        ("image,class\np1\n", "row 2: expected 2 values, found 1"),
        ("image,class\np1,normal,0.9\n", "row 2: expected 2 values, found 3"),
        ("image,class\n\np1,normal\n", "row 2: expected 2 values, found 0"),
        ("image,class\n,normal\n", "row 2: the image's name"),
        ("image,class\np1 ,normal\n", "row 2: the image's name"),
        ("image,class\np1,\n", "row 2: a class"),
        ("image,class\np1,Normal\n", "row 2: a class"),
        ('image,class\n"p1,normal\n', "not a CSV table"),
    ],
)
def test_a_table_that_leaves_a_doubt_is_refused_without_an_images_name(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(SourceError, match="unreadable_source") as refused:
        read_image_classes(table(tmp_path, text))
    assert fault in refused.value.detail
    assert "p1" not in refused.value.detail.replace(str(tmp_path), "")


def test_a_table_in_another_encoding_and_one_that_is_not_there_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "classes.csv"
    path.write_bytes("image,class\nMüller,normal\n".encode("latin-1"))
    with pytest.raises(SourceError, match="unreadable_source"):
        read_image_classes(path)
    with pytest.raises(SourceError, match="missing_source"):
        read_image_classes(tmp_path / "other.csv")


def test_rows_of_images_that_are_not_there_are_counted_and_not_named(tmp_path: Path) -> None:
    path = tmp_path / "classes.csv"
    (verdict,) = rows_without_image(path, {"p1": "normal", "p2": "normal"}, ["p1"])
    assert (verdict.code, verdict.sentence) == (
        "unknown_reference",
        "classes.csv: 1 of 2 rows name an image that is not in the source",
    )
    assert rows_without_image(path, {"p1": "normal"}, ["p1", "p2"]) == ()


def write_images(folder: Path, *names: str) -> None:
    (folder / "images").mkdir()
    series = write_series(folder / "dicom")
    for name in names:
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(series.stored), str(folder / "images" / f"{name}.nii.gz"))


def test_a_nifti_folder_knows_its_images_by_their_file_names(tmp_path: Path) -> None:
    write_images(tmp_path, "p1-a", "p1-b", "p2-a")
    path = table(tmp_path, "image,class\np1-a,normal\np2-a,other\np9,other\n")
    source = NiftiSource(
        kind="nifti", images=tmp_path / "images", modality="MR", patient_separator="-", image_classes=path
    )
    opened = open_source(source)
    assert [(one.patient_key, one.image_class) for one in opened.studies()] == [
        ("p1", "normal"),
        ("p1", ""),
        ("p2", "other"),
    ]
    assert [verdict.code for verdict in opened.unmatched] == ["unknown_reference"]
    count, _ = forget_in_source(source, lambda key: key == "p1")
    assert count == 2
    assert read_image_classes(path) == {"p2-a": "other", "p9": "other"}


def test_an_archive_knows_its_series_by_their_uids(tmp_path: Path) -> None:
    first, second = write_series(tmp_path / "dicom" / "a", seed=1), write_series(tmp_path / "dicom" / "b", seed=2)
    path = table(tmp_path, f"image,class\n{first.series_instance_uid},normal\n")
    source = DicomSource(kind="dicom", path=tmp_path / "dicom", image_classes=path)
    opened = open_source(source)
    found = {one.series_instance_uid: one.image_class for one in opened.studies()}
    assert found == {first.series_instance_uid: "normal", second.series_instance_uid: ""}
    assert opened.unmatched == ()
    forget_in_source(source, lambda _: True)
    assert read_image_classes(path) == {}


def test_the_table_is_looked_for_beside_the_site_file(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text(
        'name = "north"\norganisation = "north"\n'
        '[[data]]\nkind = "nifti"\nimages = "images"\nmodality = "CT"\nimage_classes = "classes.csv"\n'
        '[[data]]\nkind = "dicom"\npath = "archive"\nimage_classes = "series.csv"\n'
    )
    site = read_site_settings(tmp_path / "site.toml")
    assert [source.image_classes for source in site.data] == [tmp_path / "classes.csv", tmp_path / "series.csv"]
