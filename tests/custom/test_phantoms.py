"""The proof of concept's archives: each hospital's phantom, with real nodules where a folder of them is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedward.dicom.source import open_source
from fedward.errors import SourceError
from fedward.settings.federation import FederationSettings, HospitalEntry, Project
from fedward.settings.phantom import PhantomHospital
from fedward.settings.site import read_site_settings
from fedward_flare.phantoms import make_phantoms
from fedward_flare.workdir import Workdir
from lidc_folder import Mark, Scan, write_lidc
from support import ROOT

PHANTOM = {
    "patients": 2,
    "share_without_nodule": 0.0,
    "scanner": {"maker": "SIEMENS", "model": "one"},
    "protocol": {
        "matrix": 96, "pixel_spacing_mm": 3.0, "slice_thickness_mm": 4.0, "slice_increment_mm": 3.0, "slices": 32,
        "kernel": "B30f", "sharpness": 0.4, "resolution_mm": 2.0, "noise_hu": 12.0, "kvp": 120, "tube_current_ma": 150,
    },
}  # fmt: skip


def one_hospital() -> FederationSettings:
    phantom = PhantomHospital.model_validate(PHANTOM)
    site_file = ROOT / "poc" / "sites" / "east.toml"
    entry = HospitalEntry(name="east", organisation="east", site_file=site_file, phantom=phantom)
    return FederationSettings(federation=Project(project="phantoms"), hospital=(entry,))


def test_the_demos_site_file_reads_the_grades_of_real_nodules_and_all_of_them_as_nodules(tmp_path: Path) -> None:
    scans = [
        Scan(f"p{grade}", "SIEMENS", [Mark(reader=reader, malignancy=grade) for reader in (0, 1)]) for grade in (1, 5)
    ]
    workdir = Workdir(tmp_path / "work")
    make_phantoms(one_hospital(), workdir, seed=1, shapes=write_lidc(tmp_path / "lidc", scans))
    (described,) = read_site_settings(ROOT / "poc" / "sites" / "east.toml").data
    source = described.model_copy(update={"path": workdir.hospital("east") / "dicom"})
    found = []
    for study in open_source(source).studies():
        if study.has_label:
            volume = study.read()
            graded = study.read_label(("benign", "malignant"), volume)
            plain = study.read_label(("nodule",), volume)
            assert graded is not None
            assert plain is not None
            assert ((graded.array > 0) == (plain.array > 0)).all()
            found.append(sorted(set(graded.array.ravel().tolist())))
    assert sorted(found) == [[0, 1], [0, 2]]


def test_a_folder_without_real_nodules_is_refused_before_anything_is_drawn(tmp_path: Path) -> None:
    workdir = Workdir(tmp_path / "work")
    with pytest.raises(SourceError, match="missing_source"):
        make_phantoms(one_hospital(), workdir, seed=1, shapes=tmp_path)
    assert not (workdir.hospital("east") / "dicom").exists()
