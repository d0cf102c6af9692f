from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fedward.errors import SourceError, Stopped, StoreError
from fedward.imaging.cases import SiteData
from fedward.imaging.splits import assign
from fedward.settings.job import TrainingJob
from fedward.store.vault import SealedVolume
from small_cases import job_with, site_at, studies_in
from support import ROOT

JOB = job_with()


def with_spacing(spacing_mm: float) -> TrainingJob:
    return JOB.model_copy(update={"input": JOB.input.model_copy(update={"spacing_mm": (spacing_mm,) * 3})})


def test_a_case_has_its_image_its_truth_and_its_place(tmp_path: Path) -> None:
    studies = studies_in(tmp_path / "dicom", 1)
    site = site_at(tmp_path, split={"validation": 0.0, "test": 0.0})
    case = SiteData.prepare(studies, site, JOB).train[0]
    volume = studies[0].read()
    label = studies[0].read_label(("ball",), volume)
    assert label is not None
    np.testing.assert_array_equal(case.truth(), label.array)
    np.testing.assert_array_equal(case.affine, volume.affine)
    assert case.source.shape == volume.array.shape
    assert case.image().array.shape == (20, 21, 20)  # 40 x 42 x 39 mm at 2 mm


def test_cases_are_split_as_the_sites_key_says(tmp_path: Path) -> None:
    site = site_at(tmp_path)
    data = SiteData.prepare(studies_in(tmp_path / "dicom", 12), site, JOB)
    key = (tmp_path / "state" / "split.key").read_bytes()
    assert {case.patient_key: case.part for case in data.cases} == {
        f"p{n:02}": assign(f"p{n:02}", key=key, split=site.split) for n in range(12)
    }
    assert data.patients == 12
    assert len(data.train) + len(data.validation) + len(data.test) == 12


def test_the_split_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    for _ in range(2):
        SiteData.prepare(studies_in(tmp_path / "dicom", 1), site_at(tmp_path), JOB)
        key = tmp_path / "state" / "split.key"
        seen = {key.read_bytes()}
    assert len(seen) == 1
    assert key.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in key.parent.iterdir() if path.is_file()] == ["split.key"]


def test_a_split_key_of_another_length_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "split.key").write_bytes(b"short")
    with pytest.raises(StoreError, match="unreadable_key"):
        SiteData.prepare(studies_in(tmp_path / "dicom", 1), site_at(tmp_path), JOB)


def test_a_prepared_case_is_not_read_again(tmp_path: Path) -> None:
    studies = studies_in(tmp_path / "dicom", 3)
    first = SiteData.prepare(studies, site_at(tmp_path), JOB)
    second = SiteData.prepare(studies, site_at(tmp_path), JOB)
    assert [study.reads for study in studies] == [["p00"], ["p01"], ["p02"]]
    np.testing.assert_array_equal(first.cases[0].image().array, second.cases[0].image().array)


def test_a_changed_file_is_prepared_anew_and_the_old_case_goes(tmp_path: Path) -> None:
    studies = studies_in(tmp_path / "dicom", 2)
    SiteData.prepare(studies, site_at(tmp_path), JOB)
    os.utime(studies[1].file, ns=(1, 1))
    SiteData.prepare(studies, site_at(tmp_path), JOB)
    assert [len(study.reads) for study in studies] == [1, 2]
    assert len(list((tmp_path / "state" / "cache").rglob("*.facts"))) == 2


def test_a_damaged_case_is_prepared_anew(tmp_path: Path) -> None:
    studies = studies_in(tmp_path / "dicom", 1)
    SiteData.prepare(studies, site_at(tmp_path), JOB)
    image = next((tmp_path / "state" / "cache").rglob("*.image"))
    image.write_bytes(image.read_bytes()[:100])
    SiteData.prepare(studies, site_at(tmp_path), JOB)
    assert studies[0].reads == ["p00", "p00"]


OTHER_JOB = """
import sys
from pathlib import Path
from fedward.imaging.cases import SiteData
from small_cases import job_with, site_at, studies_in

folder = Path(sys.argv[1])
data = SiteData.prepare(studies_in(folder / "dicom", 2), site_at(folder), job_with())
print("prepared", flush=True)
sys.stdin.readline()
print(sum(case.truth().any() for case in data.cases), flush=True)
sys.stdin.readline()
"""


def test_a_job_keeps_what_another_process_uses_and_clears_up_when_that_is_dead(tmp_path: Path) -> None:
    cache = tmp_path / "state" / "cache"
    command = [sys.executable, "-c", OTHER_JOB, str(tmp_path)]
    paths = os.pathsep.join([str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])])
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": paths}
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        try:
            assert other.stdout.readline() == "prepared\n"
            half = next(cache.rglob("*.facts")).with_name(".half.npy")
            half.write_bytes(b"half")
            studies = studies_in(tmp_path / "dicom", 2)
            for study in studies:
                os.utime(study.file, ns=(1, 1))
            SiteData.prepare(studies, site_at(tmp_path), JOB)
            assert half.exists()
            print("read", file=other.stdin, flush=True)
            assert other.stdout.readline() == "2\n", "the other job still reads its own cases"
        finally:
            other.kill()
    SiteData.prepare(studies, site_at(tmp_path), JOB)
    assert not half.exists()
    assert len(list(cache.rglob("*.facts"))) == 2


def test_a_running_job_keeps_its_cases_whatever_inputs_others_bring(tmp_path: Path) -> None:
    studies = studies_in(tmp_path / "dicom", 1)
    running = SiteData.prepare(studies, site_at(tmp_path), JOB)
    for spacing in (2.5, 3.0, 3.5):
        SiteData.prepare(studies, site_at(tmp_path), with_spacing(spacing))
    assert running.cases[0].truth().any()


def test_another_spacing_keeps_its_own_cases_and_old_inputs_go(tmp_path: Path) -> None:
    studies = studies_in(tmp_path / "dicom", 1)
    for spacing in (2.0, 2.5, 3.0, 3.5):
        SiteData.prepare(studies, site_at(tmp_path), with_spacing(spacing))
    assert len([path for path in (tmp_path / "state" / "cache").iterdir() if path.is_dir()]) == 3


def test_another_naming_of_the_classes_reads_the_labels_anew(tmp_path: Path) -> None:
    studies = studies_in(tmp_path / "dicom", 1)
    for name in ("ball*", "sphere*"):
        source = {"kind": "dicom", "path": str(tmp_path / "dicom"), "classes": {"ball": [name]}}
        SiteData.prepare(studies, site_at(tmp_path, data=[source]), JOB)
    assert studies[0].reads == ["p00", "p00"]


def test_a_refused_series_costs_its_own_case_only(tmp_path: Path) -> None:
    studies = studies_in(tmp_path / "dicom", 3)
    studies[1].refuses = True
    data = SiteData.prepare(studies, site_at(tmp_path), JOB)
    assert [case.patient_key for case in data.cases] == ["p00", "p02"]
    assert data.patients == 2
    assert [(verdict.code, verdict.accepted) for verdict in data.refused] == [("unreadable", False)]


def test_series_without_label_or_of_another_modality_are_no_cases(tmp_path: Path) -> None:
    studies = studies_in(tmp_path / "dicom", 3)
    studies[0].has_label, studies[1].modality = False, "MR"
    assert SiteData.prepare(studies, site_at(tmp_path), JOB).patients == 1
    with pytest.raises(SourceError, match="no_labelled_case") as caught:
        SiteData.prepare(studies[:2], site_at(tmp_path), JOB)
    assert "no labelled CT series" in caught.value.detail


def test_parts_that_are_not_asked_for_cost_no_reading(tmp_path: Path) -> None:
    studies = studies_in(tmp_path / "dicom", 12)
    data = SiteData.prepare(studies, site_at(tmp_path), JOB, parts=("train",))
    assert data.patients == 12
    assert data.validation == data.test == ()
    assert sum(len(study.reads) for study in studies) == len(data.train) < 12


def test_cases_beyond_the_memory_bound_stay_on_the_disk(tmp_path: Path) -> None:
    site = site_at(tmp_path, compute={"memory_cases": 2}, split={"validation": 0.0, "test": 0.0})
    cases = SiteData.prepare(studies_in(tmp_path / "dicom", 4), site, JOB).training_cases
    assert [isinstance(case.image, SealedVolume) for case in cases] == [False, False, True, True]


def test_preparing_can_be_stopped(tmp_path: Path) -> None:
    studies = studies_in(tmp_path / "dicom", 3)
    with pytest.raises(Stopped, match="aborted"):
        SiteData.prepare(studies, site_at(tmp_path), JOB, should_stop=lambda: bool(studies[1].reads))
    assert not studies[2].reads


def test_all_labelled_patients_in_test_leave_nothing_to_train_on(tmp_path: Path) -> None:
    site = site_at(tmp_path, split={"validation": 0.0, "test": 0.999999})
    data = SiteData.prepare(studies_in(tmp_path / "dicom", 2), site, JOB)
    with pytest.raises(SourceError, match="no_labelled_case"):
        _ = data.training_cases
