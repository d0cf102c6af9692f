from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fedward.errors import FederationError, ReleaseRefused, SettingsError
from fedward.identity.document import verify_job
from fedward.settings.job import InferenceJob, PublishJob, Sites, TrainingJob
from fedward.settings.site import read_site_settings, require_identity
from fedward_flare.jobs import check, export, prepare, read_job
from fedward_flare.releases import keep_document, kept_job
from fedward_flare.signed import decode_signed_job
from fedward_flare.workdir import Workdir


def exported(job: TrainingJob, workdir: Workdir, folder: Path) -> Path:
    return export(prepare(job, workdir), folder / "job")


def test_a_job_is_json_without_code(job: TrainingJob, workdir: Workdir, tmp_path: Path) -> None:
    folder = exported(job, workdir, tmp_path)
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {
        "meta.json",
        "server_app/config/config_fed_server.json",
        "site_app/config/config_fed_client.json",
    }
    for file in files:
        json.loads((folder / file).read_text())


@pytest.mark.parametrize("job_id", ["", "/", "**", "../..", "[", "0123"])
def test_a_job_that_the_coordinator_never_signed_is_not_brought_again(job_id: str, workdir: Workdir) -> None:
    with pytest.raises(FederationError, match="unknown_job"):
        kept_job(job_id, workdir)


def test_a_kit_without_its_key_signs_nothing_and_is_named(job: TrainingJob, workdir: Workdir, tmp_path: Path) -> None:
    shutil.copytree(workdir.root, tmp_path / "copy")
    broken = Workdir(tmp_path / "copy")
    (broken.kit(broken.state().coordinator) / "startup" / "client.key").unlink()
    with pytest.raises(FederationError, match="kit_missing") as caught:
        prepare(job, broken)
    assert "client.key" in caught.value.detail


def test_the_signed_document_is_the_only_argument(job: TrainingJob, workdir: Workdir, tmp_path: Path) -> None:
    folder = exported(job, workdir, tmp_path)
    server = json.loads((folder / "server_app/config/config_fed_server.json").read_text())
    site = json.loads((folder / "site_app/config/config_fed_client.json").read_text())
    arguments = [server["workflows"][0]["args"], site["executors"][0]["executor"]["args"]]
    assert arguments[0] == arguments[1]
    assert set(arguments[0]) == {"signed_job"}


def test_a_hospital_accepts_the_coordinators_signature(job: TrainingJob, workdir: Workdir) -> None:
    prepared = prepare(job, workdir)
    trust = require_identity(read_site_settings(workdir.site_file("north")))
    assert verify_job(prepared.signed, trust, now=datetime.now(UTC)) == prepared.document
    assert prepared.document.job == job


def test_the_engine_finds_a_job_by_its_own_id_and_asks_named_sites(
    job: TrainingJob, workdir: Workdir, tmp_path: Path
) -> None:
    job = job.model_copy(update={"sites": Sites(names=("south", "north"), minimum=2)})
    folder = exported(job, workdir, tmp_path)
    meta = json.loads((folder / "meta.json").read_text())
    config = json.loads((folder / "site_app/config/config_fed_client.json").read_text())
    document = json.loads(decode_signed_job(config["executors"][0]["executor"]["args"]["signed_job"]).document)
    assert meta["name"] == f"tiny.{document['id']}"
    assert meta["min_clients"] == 2
    assert meta["deploy_map"] == {"server_app": ["server"], "site_app": ["north", "south"]}


def test_two_submissions_of_one_file_are_two_jobs(job: TrainingJob, workdir: Workdir) -> None:
    assert prepare(job, workdir).document.id != prepare(job, workdir).document.id


def test_an_unknown_site_is_named(job: TrainingJob, workdir: Workdir) -> None:
    job = job.model_copy(update={"sites": Sites(names=("north", "nowhere"), minimum=1)})
    with pytest.raises(FederationError, match="unknown_site") as caught:
        prepare(job, workdir)
    assert "nowhere" in caught.value.detail
    assert "north, east, south" in caught.value.detail


def test_a_minimum_that_cannot_be_met_is_refused(job: TrainingJob, workdir: Workdir) -> None:
    job = job.model_copy(update={"sites": Sites(minimum=4)})
    with pytest.raises(FederationError, match="too_few_sites"):
        prepare(job, workdir)


def test_each_site_says_why_it_would_refuse(job: TrainingJob, workdir: Workdir) -> None:
    found = check(job, workdir)
    assert set(found) == {"north", "east", "south"}
    codes = {refusal.code for refusal in found["north"]}
    few = {"too_few_sites", "too_few_organisations"}
    assert codes == {"exchange_mode_not_allowed", "non_private_not_allowed"} | few


def test_a_publishing_job_needs_a_release_and_no_other_takes_one(
    job: TrainingJob, workdir: Workdir, tmp_path: Path
) -> None:
    with pytest.raises(ReleaseRefused, match="missing_part"):
        prepare(PublishJob(kind="publish", name="publish"), workdir)
    for part in ("model.safetensors", "passport.json", "passport.sig"):
        (tmp_path / part).write_bytes(part.encode())
    with pytest.raises(ReleaseRefused, match="missing_part"):
        prepare(job, workdir, release=tmp_path)


def test_a_release_travels_in_the_servers_application_alone(workdir: Workdir, tmp_path: Path) -> None:
    release = tmp_path / "release"
    release.mkdir()
    for part in ("model.safetensors", "passport.json", "passport.sig"):
        (release / part).write_bytes(part.encode())
    prepared = prepare(PublishJob(kind="publish", name="publish"), workdir, release=release)
    folder = export(prepared, tmp_path / "job")
    carried = {str(path.relative_to(folder).parent) for path in folder.rglob("model.safetensors")}
    assert carried == {"server_app/release"}


def test_a_job_is_brought_again_as_the_very_document_whatever_its_kind(workdir: Workdir, tmp_path: Path) -> None:
    prepared = prepare(InferenceJob(kind="infer", name="inference"), workdir)
    keep_document(prepared, workdir)
    again = kept_job(prepared.document.id[:8], workdir)
    assert (again.document.digest, again.signed) == (prepared.document.digest, prepared.signed)


def test_a_publishing_job_is_brought_again_with_its_own_release_alone(workdir: Workdir, tmp_path: Path) -> None:
    for folder, content in (("release", b"one"), ("other", b"two")):
        (tmp_path / folder).mkdir()
        for part in ("model.safetensors", "passport.json", "passport.sig"):
            (tmp_path / folder / part).write_bytes(content)
    prepared = prepare(PublishJob(kind="publish", name="publish"), workdir, release=tmp_path / "release")
    keep_document(prepared, workdir)
    with pytest.raises(ReleaseRefused, match="missing_part"):
        kept_job(prepared.document.id, workdir)
    with pytest.raises(ReleaseRefused, match="altered_model"):
        kept_job(prepared.document.id, workdir, release=tmp_path / "other")
    assert kept_job(prepared.document.id, workdir, release=tmp_path / "release") == prepared


@pytest.mark.parametrize(
    "line", ['path = "/etc/passwd"', 'class_path = "os.system"', "patients = [1]", 'name = "../up"', "naem = 1"]
)
def test_a_job_file_that_names_a_path_a_class_or_a_patient_is_refused(line: str, tmp_path: Path) -> None:
    file = tmp_path / "job.toml"
    name = "" if line.startswith("name") else 'name = "x"'
    file.write_text(f'kind = "infer"\n{name}\n{line}\n')
    with pytest.raises(SettingsError, match="invalid_settings") as caught:
        read_job(file)
    assert line.split(" ")[0] in caught.value.detail
