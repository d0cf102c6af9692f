"""``fedward privacy`` and ``fedward data forget`` as the hospital's engineer types them."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dicom_series import write_series
from evaluation_cases import forget_who_trained
from fedward.evaluation.kept_alone import keep_alone
from fedward.hospital import Hospital, RoundTask
from fedward.models.initial import initial_weights
from fedward.privacy.accounting import epsilon
from fedward.privacy.mechanisms import Gaussian
from fedward.privacy.plan import Plan
from fedward.settings.job import PrivateTraining
from fedward_flare.cli import app
from hospital_cases import Site, document_of, make_site, signed
from support import ROOT
from tiny_federation import training_job

JOB = training_job(rounds=2, minimum=2).model_copy(
    update={
        "privacy": PrivateTraining(sampling_rate=0.5, noise_multiplier=4.0, clip_norm=1.0, expected_patients=4),
    }
)
JOB_FILE = """
kind = "train"
name = "ball"
sites = {{ minimum = 2 }}
input = {{ modality = "CT", spacing_mm = [2, 2, 2], intensity = {{ kind = "window", low = -1000, high = 400 }} }}
task = {{ kind = "segmentation", classes = ["nodule"], measure = "lesion_dice" }}
network = {{ name = "unet3d", channels = [4, 8] }}
exchange = {{ mode = "plain", max_update_norm = 1000.0 }}
[training]
rounds = 2
steps_per_round = 2
batch_size = 1
patch_size = [16, 16, 16]
learning_rate = 1e-3
[privacy]
sampling_rate = 0.5
noise_multiplier = {noise}
clip_norm = {clip}
expected_patients = 4
"""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path)


def run(site: Site, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--site", str(site.site_file)])


def train_one_round(site: Site) -> tuple[Hospital, str]:
    hospital = site.open()
    document = hospital.accept(signed(document_of(JOB)))
    hospital.train_round(RoundTask(document, 1, initial_weights(JOB)))
    return hospital, document.id


def test_status_tells_what_was_spent_and_what_is_left(site: Site) -> None:
    hospital, _ = train_one_round(site)
    found = json.loads(run(site, "privacy", "status", "--json").output)
    plan = Plan(JOB, hospital.site.privacy)
    trained = next(account for account in found["accounts"] if account["epsilon"] > 0)
    assert found["terms"] == {"epsilon": 8.0, "delta": 1e-5, "order": 4}
    assert trained["epsilon"] == pytest.approx(plan.spent_after(1).epsilon, abs=1e-4)  # type: ignore[union-attr]
    assert trained["reserved"] == pytest.approx(plan.spent_after(2).epsilon, abs=1e-4)  # type: ignore[union-attr]
    assert 0 < trained["left"] < 1
    shown = run(site, "privacy", "status")
    assert shown.exit_code == 0
    assert f"{trained['epsilon']:.2f}" in shown.output


def test_history_lists_every_line_without_a_patient(site: Site) -> None:
    train_one_round(site)
    shown = run(site, "privacy", "history")
    assert [word for word in ("open", "reserve", "charge", "seal", "sent") if word not in shown.output] == []
    assert "north0" not in run(site, "privacy", "history", "--json").output


def test_plan_says_what_a_job_would_cost(site: Site, tmp_path: Path) -> None:
    job = tmp_path / "job.toml"
    job.write_text(JOB_FILE.format(noise=4.0, clip=1.0))
    found = json.loads(run(site, "privacy", "plan", str(job), "--json").output)
    assert found["refusals"] == []
    assert 0 < found["epsilon"] < 8
    assert found["noise_multiplier"] == 4.0


def test_plan_says_what_a_gate_costs_the_patients_kept_for_testing(site: Site) -> None:
    found = json.loads(run(site, "privacy", "plan", str(ROOT / "jobs" / "gate.toml"), "--json").output)
    exact = epsilon((Gaussian(found["noise_multiplier"], 1),), 1e-5)
    assert exact <= found["epsilon"] <= exact + 1e-4
    assert 0 < found["share_of_budget"] < 1


def test_plan_says_what_an_evaluation_would_cost(site: Site) -> None:
    found = json.loads(run(site, "privacy", "plan", str(ROOT / "jobs" / "evaluation.toml"), "--json").output)
    assert found["refusals"] == []
    assert found["epsilon"] == pytest.approx(1.386, abs=1e-3)
    assert found["noise_multiplier"] == 3.0


def test_plan_says_that_an_own_model_leaves_without_privacy(site: Site, tmp_path: Path) -> None:
    job = tmp_path / "job.toml"
    text = (ROOT / "jobs" / "evaluation.toml").read_text()
    job.write_text(text.replace("local_models = false", "local_models = true").replace('"secure-sum"', '"plain"'))
    line = "allow_non_private = true"
    site.edit(lambda text: text.replace(line, f"{line}\nshare_local_model = true"))
    shown = run(site, "privacy", "plan", str(job))
    assert (shown.exit_code, "epsilon is infinite" in shown.output) == (0, True)


def test_plan_has_nothing_to_say_of_a_job_that_counts_nobody(site: Site) -> None:
    shown = run(site, "privacy", "plan", str(ROOT / "jobs" / "inference.toml"))
    assert shown.exit_code == 1


@pytest.mark.parametrize(("noise", "clip", "reason"), [(0.5, 1.0, "beyond the cap"), (4.0, 100.0, "max_clip_norm")])
def test_plan_names_why_the_hospital_would_refuse(
    site: Site, tmp_path: Path, noise: float, clip: float, reason: str
) -> None:
    job = tmp_path / "job.toml"
    job.write_text(JOB_FILE.format(noise=noise, clip=clip))
    shown = run(site, "privacy", "plan", str(job))
    assert shown.exit_code == 1
    assert reason in " ".join(shown.output.split())


def test_verify_finds_a_changed_line(site: Site) -> None:
    hospital, _ = train_one_round(site)
    assert "5 lines" in run(site, "privacy", "verify").output
    hospital.database.close()
    with sqlite3.connect(site.folder / "state" / "site.db") as connection:
        connection.execute("UPDATE ledger_entry SET content = replace(content, '\"round\": 1', '\"round\": 2')")
    connection.close()
    shown = run(site, "privacy", "verify")
    assert (shown.exit_code, "broken_ledger" in shown.output) == (1, True)


def test_ending_a_job_frees_what_it_reserved(site: Site) -> None:
    _, job_id = train_one_round(site)
    assert run(site, "privacy", "end", job_id[:6]).exit_code == 0
    found = json.loads(run(site, "privacy", "status", "--json").output)
    assert all(account["reserved"] == account["epsilon"] for account in found["accounts"])
    assert run(site, "privacy", "end", job_id[:6]).exit_code == 2


def test_forgetting_a_patient_removes_its_files_and_names_the_jobs_it_was_part_of(site: Site) -> None:
    _, job_id = train_one_round(site)
    before = run(site, "privacy", "history", "--json").output
    taken = [path.name.removesuffix(".nii.gz") for path in sorted((site.folder / "images").iterdir())]
    shown = [run(site, "data", "forget", name, "--yes") for name in taken[:6]]
    assert [result.exit_code for result in shown] == [0] * 6
    assert all("deleted 2 files" in result.output for result in shown)
    assert any(job_id in result.output for result in shown)
    assert len(list((site.folder / "images").iterdir())) == len(list((site.folder / "labels").iterdir())) == 6
    assert not (site.folder / "state" / "cache").exists()
    assert run(site, "privacy", "history", "--json").output == before


def test_forgetting_names_the_own_models_that_the_patient_trained_and_those_that_do_not_say(site: Site) -> None:
    job, state = training_job(), site.folder / "state"
    for name, keys in (("with", ("north00", "north01")), ("without", ("north01",)), ("silent", ("north01",))):
        named = job.model_copy(update={"name": name})
        keep_alone(state, named, initial_weights(job), patient_keys=keys)
    forget_who_trained(state / "alone" / "silent.npz")
    said = " ".join(run(site, "data", "forget", "north00", "--yes").output.split())
    assert f"trained this hospital's own model {state / 'alone' / 'with.npz'}: train it again, or delete it" in said
    assert f"may have trained {state / 'alone' / 'silent.npz'}, which does not say" in said
    assert "without.npz" not in said


def test_a_patient_of_a_nifti_folder_is_forgotten_at_a_hospital_that_has_dicom_too(site: Site) -> None:
    (site.folder / "dicom").mkdir()
    written = write_series(site.folder / "dicom", edit=lambda _, dataset: setattr(dataset, "PatientID", "north00"))
    site.edit(lambda text: text.replace("[[data]]", '[[data]]\nkind = "dicom"\npath = "dicom"\n[[data]]', 1))
    image = site.folder / "images" / "north00.nii.gz"
    assert run(site, "data", "forget", "north00", "--nifti", "--yes").exit_code == 0
    assert not image.exists()
    assert all(path.exists() for path in written.paths), "the DICOM patient of that id is another one"
    forgotten = run(site, "data", "forget", "north00", "--yes")
    assert forgotten.exit_code == 0
    assert not any(path.exists() for path in written.paths)
    said = " ".join(forgotten.output.split())
    assert "not deleted: what infer --out and data convert have written elsewhere, named" in said
    assert written.series_instance_uid in said


def test_forgetting_says_what_is_deleted_where_the_ledger_cannot_be_read(site: Site) -> None:
    assert run(site, "privacy", "status").exit_code == 0
    (site.folder / "state" / "ledger.head").write_text("{")
    done = run(site, "data", "forget", "north00", "--yes")
    assert done.exit_code == 1
    assert "deleted 2 files and 0 reports, but" in done.output
    assert not (site.folder / "images" / "north00.nii.gz").exists()


def test_forgetting_asks_first_and_says_when_there_is_nobody(site: Site) -> None:
    refused = CliRunner().invoke(app, ["data", "forget", "north00", "--site", str(site.site_file)], input="n\n")
    assert refused.exit_code == 1
    assert (site.folder / "images" / "north00.nii.gz").exists()
    assert run(site, "data", "forget", "nobody", "--yes").exit_code == 1
