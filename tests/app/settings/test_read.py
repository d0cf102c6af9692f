from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, cast

import pytest

from fedward.errors import SettingsError
from fedward.settings.federation import read_federation
from fedward.settings.job import Job
from fedward.settings.read import parse_settings, read_settings
from fedward.settings.site import SiteSettings, read_site_settings
from support import ROOT
from trust_cases import TRAINING, training_job

JOB = cast("type[Any]", Job)
SITE: dict[str, Any] = {"name": "north", "organisation": "north", "data": [{"kind": "dicom", "path": "dicom"}]}


def faults(document: dict[str, Any], model: type[Any] = JOB) -> list[str]:
    with pytest.raises(SettingsError, match="invalid_settings") as caught:
        parse_settings(document, model, where="job.toml")
    first, *lines = caught.value.detail.splitlines()
    assert first == f"job.toml: {len(lines)} fault" + ("s" if len(lines) > 1 else "")
    return [line.removeprefix("  ") for line in lines]


def with_values(values: dict[str, Any], document: dict[str, Any] = TRAINING) -> dict[str, Any]:
    """Give a document with some values set: the keys are paths such as ``training.rounds``; None takes one out."""
    changed = {name: dict(part) if isinstance(part, dict) else part for name, part in document.items()}
    for path, value in values.items():
        *tables, key = path.split(".")
        table = changed
        for name in tables:
            table = table.setdefault(name, {})
        if value is None:
            del table[key]
        else:
            table[key] = value
    return changed


def test_a_job_is_read_as_it_is_written() -> None:
    job = training_job()
    assert (job.kind, job.training.total_steps, job.training.patch_voxels) == ("train", 6, 16**3)
    assert job.input.spacing_mm == (2.0, 1.5, 1.5)


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        ("training.rounds", "3", "training.rounds: should be a valid integer, found '3'"),
        ("training.rounds", 3.0, "training.rounds: should be a valid integer, found 3.0"),
        ("training.rounds", True, "training.rounds: should be a valid integer, found True"),
        ("training.rounds", 0, "training.rounds: should be greater than 0, found 0"),
        ("training.learning_rate", float("nan"), "training.learning_rate: should be a finite number, found nan"),
        ("training.learning_rate", float("inf"), "training.learning_rate: should be a finite number, found inf"),
        ("training.roundz", 3, "training.roundz: unknown key; did you mean rounds?"),
        ("trainin", {}, "trainin: unknown key; did you mean training?"),
        ("xyz", 1, "xyz: unknown key"),
        ("exchange", None, "exchange: missing"),
        ("training.batch_size", None, "training.batch_size: missing"),
        ("training", 3, "training: should be a table, found 3"),
        ("input.modality", "US", "input.modality: should be 'CT', 'MR' or 'PT', found 'US'"),
        ("input.spacing_mm", [1.0, 2.0], "input.spacing_mm.2: missing"),
        ("input.spacing_mm", [1.0, -2.0, 1.0], "input.spacing_mm.1: should be greater than 0, found -2.0"),
        ("input.intensity", {"kind": "log"}, "input.intensity.kind: should be one of 'window', 'zscore', found 'log'"),
        ("input.intensity", {"low": 1.0}, "input.intensity.kind: missing"),
        ("input.intensity", {"kind": "window", "low": 1.0}, "input.intensity.high: missing"),
        (
            "input.intensity",
            {"kind": "window", "low": 2.0, "high": 1.0},
            "input.intensity: low must lie below high (2.0 and 1.0)",
        ),
        ("input.intensity", {"kind": "zscore", "window": 1}, "input.intensity.window: unknown key"),
        ("task.classes", [], "task.classes: list should have at least 1 item after validation, not 0, found []"),
        ("task.classes", ["a", "a"], "task: classes must differ, got ['a', 'a']"),
        ("kind", "trian", "kind: should be one of 'train', 'gate', 'publish', 'infer', 'evaluate', found 'trian'"),
        ("kind", None, "kind: missing"),
        (
            "training.patch_size",
            [16, 15, 16],
            "(whole file): training.patch_size must be multiples of 2 for this network, got [15]",
        ),
        ("sites.names", ["a", "a"], "sites: names must differ, got ['a', 'a']"),
        ("sites.names", ["a"], "sites: minimum must be at most the number of names, got 2 of 1"),
    ],
)
def test_a_fault_names_its_key_what_was_expected_and_what_was_found(path: str, value: Any, line: str) -> None:
    assert faults(with_values({path: value})) == [line]


@pytest.mark.parametrize("tag", ["train", "publish", "window", "segmentation", "dicom"])
def test_a_key_named_like_a_kind_is_still_named(tag: str) -> None:
    assert faults(with_values({tag: 1}))[0].startswith(f"{tag}: unknown key")
    assert faults(with_values({f"task.{tag}": 1}))[0].startswith(f"task.{tag}: unknown key")


def test_every_fault_is_reported_at_once() -> None:
    lines = faults(
        with_values({"name": "A B", "training.rounds": -1, "network.nam": 1, "exchange.max_update_norm": None})
    )
    assert [line.split(":")[0] for line in lines] == [
        "name",
        "network.nam",
        "training.rounds",
        "exchange.max_update_norm",
    ]


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a.b", "Lung", "", "a" * 65, "a b", "a\n", "ä"])
def test_a_name_is_never_a_path(name: str) -> None:
    for path in ("name", "sites.names", "task.classes"):
        value = name if path == "name" else ["a", "b", name]
        (line,) = faults(with_values({path: value}))
        assert "never a path" in line


@pytest.mark.parametrize("key", ["path", "class_path", "args", "components", "executor", "script"])
def test_a_job_that_names_code_is_told_that_it_may_not(key: str) -> None:
    for place in (key, f"training.{key}", f"exchange.{key}", f"network.{key}"):
        (line,) = faults(with_values({place: "fedward_flare.poc.Popen"}))
        assert line == f"{place}: unknown key; nothing here names code, a path or a command"


def test_a_class_is_no_network() -> None:
    (line,) = faults(with_values({"network.name": "fedward_flare.poc.Popen"}))
    known = "'unet3d', 'vit3d', 'densenet3d', 'multitask_densenet3d'"
    assert line == f"network.name: should be one of {known}, found 'fedward_flare.poc.Popen'"


def test_a_long_value_is_cut() -> None:
    (line,) = faults(with_values({"input.modality": "x" * 1000}))
    assert len(line) < 200


def test_one_bad_member_does_not_make_a_list_too_short() -> None:
    assert faults({**SITE, "data": [{"kind": "dicom"}]}, SiteSettings) == ["data.0.path: missing"]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"data": [{"kind": "folder"}]}, "data.0.kind: should be one of 'dicom', 'nifti', found 'folder'"),
        (
            {"data": [{"kind": "dicom", "path": "x", "classes": {"A": ["a"]}}]},
            "data.0.classes.A: should be a name of 1 to 64 of a-z, 0-9, _ and -, never a path, found 'A'",
        ),
        ({"bound": {}}, "bound: unknown key; did you mean bounds?"),
        (
            {"bounds": {"exchange_modes": ["plane"]}},
            "bounds.exchange_modes.0: should be 'secure-sum', 'ckks' or 'plain', found 'plane'",
        ),
        (
            {"privacy": {"allow_non_private": "yes"}},
            "privacy.allow_non_private: should be a valid boolean, found 'yes'",
        ),
        ({"privacy": {"allow_non_private": 1}}, "privacy.allow_non_private: should be a valid boolean, found 1"),
        (
            {"split": {"validation": 0.6, "test": 0.5}},
            "split: validation and test must leave patients to train on (0.6 + 0.5)",
        ),
    ],
)
def test_a_site_files_fault_is_named(change: dict[str, Any], line: str) -> None:
    assert faults({**SITE, **change}, SiteSettings) == [line]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"kind = ", "not_toml"),
        (b"a = 1\na = 2", "not_toml"),
        (b"\xff\xfe", "missing_file"),
        (b"a=" + b"[" * 10_000, "not_toml"),
    ],
    ids=["half", "twice", "not UTF-8", "deep"],
)
def test_a_file_that_is_no_toml_is_said(tmp_path: Path, content: bytes, code: str) -> None:
    (tmp_path / "job.toml").write_bytes(content)
    with pytest.raises(SettingsError, match=code) as caught:
        read_settings(tmp_path / "job.toml", JOB)
    assert "job.toml" in caught.value.detail


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(SettingsError, match="missing_file") as caught:
            read_settings(path, JOB)
        assert str(path) in caught.value.detail


def test_the_paths_of_a_site_file_start_at_its_own_folder(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text(
        'name = "north"\norganisation = "north"\nstate = "/var/fedward"\n'
        'data = [{ kind = "dicom", path = "a", mask_path = "b" }, '
        '{ kind = "nifti", images = "c", labels = "d", modality = "MR" }]\n'
        '[identity]\nproject = "trials"\nroot_certificate = "root.pem"\n'
    )
    site = read_site_settings(tmp_path / "site.toml")
    dicom, nifti = site.data
    assert (dicom.path, dicom.mask_path) == (tmp_path / "a", tmp_path / "b")  # type: ignore[union-attr]
    assert (nifti.images, nifti.labels) == (tmp_path / "c", tmp_path / "d")  # type: ignore[union-attr]
    assert site.identity is not None
    assert site.identity.root_certificate == tmp_path / "root.pem"
    assert site.state == Path("/var/fedward")


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        training_job().training.rounds = 5  # type: ignore[misc]


@pytest.mark.parametrize("path", sorted((ROOT / "jobs").glob("*.toml")), ids=lambda path: path.name)
def test_the_jobs_of_the_house_are_valid_and_only_data(path: Path) -> None:
    job = read_settings(path, JOB)
    assert job.kind == tomllib.loads(path.read_text())["kind"]


def test_the_federation_of_the_house_is_valid() -> None:
    federation = read_federation(ROOT / "poc" / "federation.toml")
    assert len(federation.names) == 4
