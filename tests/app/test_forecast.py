"""What a hospital would answer, asked before a job is submitted: the same reasons as when it comes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from evaluation_cases import evaluation_job
from fedward.errors import FedwardError
from fedward.forecast import Forecast, Question, forecast
from fedward.settings.job import EvaluationJob, PrivateTraining
from fedward_flare.cli import app
from hospital_cases import COORDINATOR, SITES, Site, document_of, make_site, signed
from release_cases import ROOT
from tiny_federation import training_job
from trust_cases import DAY, NOW, Authority, pem

JOB = training_job(minimum=2)
PRIVATE = PrivateTraining(sampling_rate=0.5, noise_multiplier=8.0, clip_norm=1.0, expected_patients=5)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path)


def asked(site: Site, job: Any = JOB, *, certificate: Any = COORDINATOR, with_data: bool = False) -> Forecast:
    path = site.folder / "coordinator.crt"
    path.write_bytes(pem(certificate))
    return forecast(Question(job, NOW, certificate=path), site.site_file, with_data=with_data)


def codes(found: Forecast) -> list[str]:
    return [refusal.code for refusal in found.refusals]


def private(**more: Any) -> Any:
    return JOB.model_copy(update={"privacy": PRIVATE.model_copy(update=more)})


def test_a_job_that_the_hospital_would_take_is_refused_for_nothing_and_nothing_is_left_unasked(site: Site) -> None:
    site.open().database.close()
    found = asked(site, with_data=True)
    assert (found.refusals, found.unasked, found.asks_a_person) == ((), (), False)
    assert site.open().accept(signed(document_of(JOB)))


@pytest.mark.parametrize(
    ("line", "other", "code"),
    [
        ("min_sites = 2", "min_sites = 3", "too_few_sites"),
        ("min_sites = 2", 'min_sites = 2\nkinds = ["infer"]', "kind_not_allowed"),
        ('networks = ["unet3d", ', "networks = [", "network_not_allowed"),
        ('exchange_modes = ["plain", ', "exchange_modes = [", "exchange_mode_not_allowed"),
        ("min_organisations = 2", "min_organisations = 3", "too_few_organisations"),
        ("min_sites = 2", "min_sites = 2\nmax_rounds = 1", "too_many_rounds"),
        ("min_sites = 2", "min_sites = 2\nmax_steps = 3", "too_many_steps"),
        ("min_sites = 2", "min_sites = 2\nmax_patch_voxels = 4095", "patch_too_large"),
        ("min_sites = 2", "min_sites = 2\nmax_update_norm = 999.0", "norm_bound_too_large"),
        ("min_sites = 2", "min_sites = 2\nmax_hours_valid = 23.0", "valid_too_long"),
        ("allow_non_private = true", "allow_non_private = false", "non_private_not_allowed"),
    ],
)
def test_what_it_says_is_what_the_hospital_answers(line: str, other: str, code: str, site: Site) -> None:
    site.edit(lambda text: text.replace(line, other))
    assert codes(asked(site)) == [code]
    with pytest.raises(FedwardError, match=f"^{code}$"):
        site.open().accept(signed(document_of(JOB)))


@pytest.mark.parametrize(
    ("line", "job", "code"),
    [
        ("max_clip_norm = 0.5", private(), "clip_norm_too_large"),
        ("max_sampling_rate = 0.4", private(), "sampling_rate_too_large"),
        ("max_private_steps = 3", private(), "too_many_steps"),
        ("max_metric_releases = 0", private(metric_releases=1), "too_many_metric_releases"),
        ("epsilon = 4.0", private(noise_multiplier=1.0), "privacy_spent"),
        ("epsilon = 0.001", private(), "ledger_terms"),
    ],
)
def test_every_cap_on_a_private_job_is_asked(line: str, job: Any, code: str, site: Site) -> None:
    assert codes(asked(site, job)) == []
    site.edit(lambda text: text.replace("[privacy]", f"[privacy]\n{line}"))
    assert codes(asked(site, job)) == [code]


def test_it_says_that_own_models_stay_where_the_site_file_does_not_let_them_go(site: Site, tmp_path: Path) -> None:
    evaluation = EvaluationJob.model_validate(evaluation_job().model_dump() | {"local_models": True})
    assert codes(asked(site, evaluation)) == ["local_models_not_allowed"]
    job = tmp_path / "job.toml"
    text = (Path(__file__).parents[2] / "jobs" / "evaluation.toml").read_text()
    job.write_text(text.replace("local_models = false", "local_models = true").replace('"secure-sum"', '"plain"'))
    shown = CliRunner().invoke(app, ["job", "check", str(job), "--site", str(site.site_file)]).stdout
    assert "local_models_not_allowed" in shown
    assert "share_local_model is false" in " ".join(shown.split())
    line = "allow_non_private = true"
    site.edit(lambda text: text.replace(line, f"{line}\nshare_local_model = true"))
    assert codes(asked(site, evaluation)) == []


def test_a_certificate_that_the_hospital_does_not_follow_is_named(site: Site) -> None:
    assert codes(asked(site, certificate=ROOT.leaf("east"))) == ["unlisted_signer"]
    assert codes(asked(site, certificate=Authority("another").leaf("coordinator"))) == ["unlisted_signer"]
    late = forecast(Question(JOB, NOW + 400 * DAY, certificate=site.folder / "coordinator.crt"), site.site_file)
    assert codes(late)[:1] == ["unlisted_signer"]
    asked(site)
    expired = forecast(Question(JOB, NOW + 400 * DAY, certificate=site.folder / "coordinator.crt"), site.site_file)
    assert codes(expired) == ["expired_certificate"]


def test_the_weeks_jobs_and_the_patients_are_counted_where_the_hospitals_own_files_are(site: Site) -> None:
    site.edit(lambda text: text.replace("min_patients = 3", "min_patients = 50\nmax_jobs_per_week = 1"))
    found = asked(site, with_data=True)
    assert found.unasked == ("max_jobs_per_week", "min_patients", "delta", "what patients have spent")
    hospital = site.open()
    hospital.accept(signed(document_of(JOB)))
    hospital.database.close()
    assert codes(asked(site, with_data=True)) == ["too_many_jobs", "too_few_patients"]
    site.edit(lambda text: text.replace("[privacy]", "[privacy]\ndelta = 0.05"))
    assert "delta_too_large" in codes(asked(site, private(), with_data=True))


def test_it_says_that_a_person_will_be_asked(site: Site) -> None:
    site.edit(lambda text: text.replace("min_sites = 2", 'min_sites = 2\nneeds_approval = ["train"]'))
    assert asked(site).asks_a_person


def test_asking_about_a_private_job_begins_no_ledger(site: Site) -> None:
    site.open().database.close()
    assert codes(asked(site, private(), with_data=True)) == []
    assert not list((site.folder / "state").glob("ledger*"))
    site.edit(lambda text: text.replace("[privacy]", "[privacy]\nepsilon = 9.0"))
    assert site.open().ledger().terms.epsilon == 9.0, "its terms were not fixed by the question"
    assert codes(asked(site, private(), with_data=True)) == []


def test_asking_writes_nothing(site: Site) -> None:
    before = sorted(path for path in site.folder.rglob("*"))
    asked(site)
    assert set(site.folder.rglob("*")) - set(before) == {site.folder / "coordinator.crt"}


def test_several_hospitals_are_asked_at_once_and_each_gives_all_its_reasons(site: Site, tmp_path: Path) -> None:
    job = tmp_path / "job.toml"
    job.write_text((Path(__file__).parents[2] / "jobs" / "lung_nodule_segmentation.toml").read_text())
    strict = tmp_path / "strict.toml"
    strict.write_text('name = "east"\norganisation = "east"\n[[data]]\nkind = "dicom"\npath = "dicom"\n')
    words = ["job", "check", str(job), "--site", str(site.site_file), "--site", str(strict)]
    result = CliRunner().invoke(app, [*words, "--json"])
    assert result.exit_code == 1
    found = {one["site"]: {why["code"] for why in one["refusals"]} for one in json.loads(result.stdout)["sites"]}
    assert set(found) == set(SITES)
    assert {"non_private_not_allowed", "too_few_organisations", "invalid_settings"} <= found["east"]
    shown = CliRunner().invoke(app, words).stdout
    assert "east refuses: too_few_organisations" in shown
    assert "was not asked about" in shown
