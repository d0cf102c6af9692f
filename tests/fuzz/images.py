"""What lies in a hospital's archive."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from dicom_labels import square, write_contours, write_seg
from dicom_series import write_series
from fedward.dicom.labels import read_object
from fedward.dicom.matching import labels_of
from fedward.dicom.parse import parse_file
from fedward.dicom.reader import scan
from fedward.dicom.volume import Volume
from fuzz.mutations import changed_bytes
from fuzz.refusals import expect_refusal


@cache
def dicom_files() -> tuple[Volume, dict[str, bytes], Path]:
    """Give a series' volume and the bytes of one of its slices and of two labels; they lie in a folder by name."""
    folder = Path(tempfile.mkdtemp(prefix="fedward-fuzz-"))
    series = write_series(folder)
    write_seg(folder / "seg.dcm", series, (np.random.default_rng(1).random((5, 6, 9)) > 0.7).astype(np.uint8))
    write_contours(folder / "contours.dcm", series, {"Nodule": [square(1, 1, 4)]})
    (scanned,) = scan(folder).series
    names = {"slice": series.paths[2].name, "seg": "seg.dcm", "contours": "contours.dcm"}
    return scanned.read(), {kind: (folder / name).read_bytes() for kind, name in names.items()}, folder


def headers() -> st.SearchStrategy[Any]:
    _, files, _ = dicom_files()
    return st.one_of(*(st.tuples(st.just(kind), changed_bytes(content)) for kind, content in files.items()))


def read_header(given: tuple[str, bytes]) -> None:
    volume, files, folder = dicom_files()
    kind, content = given
    name = {"slice": "IM0002.dcm", "seg": "seg.dcm", "contours": "contours.dcm"}[kind]
    path = folder / name
    path.write_bytes(content)
    try:
        parse_file(path, folder)
        scanned = scan(folder)
        for series in scanned.series:
            expect_refusal(series.read)
            for label in labels_of(series, scanned):
                onto = np.zeros(volume.array.shape, np.uint8)
                values = {number: 1 for number, _ in label.segments}
                expect_refusal(
                    lambda label=label, onto=onto, values=values: read_object(folder, label, volume, values, onto=onto)
                )
    finally:
        path.write_bytes(files[kind])
