"""A hospital's tasks from the signed job to the reports, without any engine."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from fedward.errors import IdentityError, JobRefused, ReleaseRefused, StoreError
from fedward.evaluation.ranges import covered_ranges
from fedward.federation.averaging import apply_update
from fedward.hospital import Hospital, RoundTask
from fedward.identity.document import JobDocument
from fedward.imaging.traits import trait_keys
from fedward.models.initial import initial_weights
from fedward.release.passport import parse_passport
from fedward.report.document import Report
from fedward.settings.job import TrainingJob
from fedward.store.releases import active_release
from hospital_cases import Site, Trained, document_of, make_site, publishing, signed, signer, train_at
from tiny_federation import classifying, multitasking, training_job
from trust_cases import NOW, inference_job

JOB = training_job(rounds=2, minimum=2)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path)


def test_what_training_images_are_like_leaves_a_job_without_privacy_only_where_the_site_file_lists_it(
    site: Site,
) -> None:
    def given() -> Mapping[str, float]:
        hospital, document = site.open(), document_of(JOB)
        hospital.accept(signed(document))
        return hospital.train_round(RoundTask(document, 1, initial_weights(JOB))).metrics

    assert given() == {}
    site.edit(lambda text: text.replace('"validation_cases"]', '"validation_cases", "training_ranges"]'))
    counts = given()
    assert set(counts) == set(trait_keys(JOB.input))
    spacings = [value for key, value in counts.items() if "slice_spacing" in key]
    assert counts["trained_slice_spacing_07"] == sum(spacings), "all are 2 mm"
    ranges = {one.trait: (one.low, one.high) for one in covered_ranges(counts, JOB.input, deviation=0)}
    assert ranges["slice_spacing"] == (1.75, 2.25)
    assert (ranges["middle_intensity"][1] or 0) <= -550, "blocks of -700 HU"


def train(hospital: Hospital, job: TrainingJob = JOB) -> Trained:
    trained = train_at(hospital, job)
    assert [round_.weight for round_ in trained.rounds] == [10, 10]
    return trained


def first_round(document: JobDocument, weights: np.ndarray) -> RoundTask:
    return RoundTask(document=document, number=1, weights=weights)


def test_from_the_signed_job_to_the_reports(site: Site) -> None:
    site.edit(lambda text: text.replace("auto_activate = true", "auto_activate = false"))
    hospital = site.open()
    trained = train(hospital)
    assert [round_.weight for round_ in trained.rounds] == [10, 10]
    assert [set(round_.metrics) for round_ in trained.rounds] == [set(), {"validation_score", "validation_cases"}]
    assert not list((site.folder / "state" / "jobs").iterdir())

    parts = trained.release()
    document = hospital.accept(signed(publishing(parts)))
    hospital.install(document, parts)
    inference = hospital.accept(signed(document_of(inference_job())))
    with pytest.raises(ReleaseRefused, match="no_active_model"):
        hospital.infer(inference)
    assert hospital.activate("ball-1") == ("ball", 1)
    counts = hospital.infer(inference)
    reports = site.folder / "state" / "reports" / "ball-1"
    assert len(list(reports.rglob("report.json"))) == len(list(reports.rglob("report.html"))) == 12
    assert counts["refused"] == 0
    assert all(count % 5 == 0 for count in counts.values())


def publish(hospital: Hospital, job: TrainingJob) -> None:
    """Train a job at the hospital and bring it the release."""
    trained = train(hospital, job)
    assert set(trained.rounds[1].metrics) == {"validation_score", "validation_cases"}
    parts = trained.release()
    passport = parse_passport(parts.passport)
    assert (passport.task, passport.network) == (job.task, job.network)
    hospital.install(hospital.accept(signed(publishing(parts))), parts)


def test_a_report_holds_the_second_look_that_the_site_file_asks_for(site: Site) -> None:
    site.edit(lambda text: text.replace('"validation_cases"]', '"validation_cases", "training_ranges"]'))
    site.edit(lambda text: text + "[inference]\npasses = 3\nsecond_read_above = 0.01\n")
    hospital = site.open()
    job = JOB.model_copy(update={"network": JOB.network.model_copy(update={"dropout": 0.3})})
    publish(hospital, job)
    hospital.infer(hospital.accept(signed(document_of(inference_job()))))
    reports = reports_of(site, "ball-1")
    assert {(report.doubt.method, report.doubt.answers) for report in reports} == {("dropout", 3)}
    assert {report.likeness.known_from for report in reports} == {"exact"}
    assert all(report.likeness.outside == () for report in reports), "they were trained on scans like these"
    with_lesions = [report for report in reports if report.findings.lesions]
    assert with_lesions, "the model marks something"
    for report in with_lesions:
        count = min(12, len(report.findings.lesions))
        assert [one.number for one in report.doubt.findings] == list(range(1, count + 1))
        assert [one.number for one in report.explanations] == list(range(1, count + 1))
        assert report.doubt.second_reads


def test_an_ensemble_asks_the_releases_that_ran_here(site: Site) -> None:
    site.edit(lambda text: text + '[inference]\nuncertainty = "ensemble"\nexplanation = "none"\n')
    hospital = site.open()
    trained = train(hospital, JOB)
    for number in (1, 2):
        parts = trained.release(number)
        hospital.install(hospital.accept(signed(publishing(parts))), parts)
    hospital.activate("ball-2")
    hospital.infer(hospital.accept(signed(document_of(inference_job()))))
    first, second = (reports_of(site, f"ball-{number}") for number in (1, 2))
    assert (len(first), len(second)) == (0, 12)
    assert {(report.doubt.method, report.doubt.answers) for report in second} == {("ensemble", 2)}
    assert not any(one.outline_deviation for report in second for one in report.doubt.findings), "the same weights"
    hospital.roll_back()
    hospital.infer(hospital.accept(signed(document_of(inference_job()))))
    assert {report.doubt.reason for report in reports_of(site, "ball-1")} == {"one_release"}, "not what was taken back"


def reports_of(site: Site, release: str) -> list[Report]:
    """Read every report of a release."""
    files = sorted((site.folder / "state" / "reports" / release).rglob("report.json"))
    return [Report.model_validate_json(file.read_text(encoding="utf-8")) for file in files]


def test_a_multi_task_release_runs_and_judges_every_lesion_that_it_outlines(site: Site) -> None:
    hospital = site.open()
    publish(hospital, multitasking(JOB))
    assert active_release(hospital.database).number == 1, "the site file activates what it installs"
    counts = hospital.infer(hospital.accept(signed(document_of(inference_job()))))
    assert counts["refused"] == 0
    reports = reports_of(site, "ball-1")
    assert len(reports) == 12
    assert {report.findings.task for report in reports} == {"multitask"}
    lesions = [lesion for report in reports for lesion in report.findings.lesions]
    assert all(lesion.assessment.diameter_mm is not None for lesion in lesions)
    assert all(
        [each.class_name for each in lesion.assessment.probabilities] == ["nodule", "other"] for lesion in lesions
    )


def test_a_classification_judges_the_lesions_of_the_segmentation_that_the_site_file_names(site: Site) -> None:
    site.edit(lambda text: text + '[inference]\nlesions_from = "ball"\n')
    hospital = site.open()
    publish(hospital, classifying(JOB).model_copy(update={"name": "judge"}))
    with pytest.raises(ReleaseRefused, match="no_active_model"):
        active_release(hospital.database)
    with pytest.raises(ReleaseRefused, match="no_lesion_source") as refused:
        hospital.activate("judge-1")
    assert "names ball" in refused.value.detail
    publish(hospital, JOB)
    assert hospital.activate("judge-1") == ("judge", 1)
    counts = hospital.infer(hospital.accept(signed(document_of(inference_job()))))
    assert counts["refused"] == 0
    reports = reports_of(site, "judge-1")
    assert len(reports) == 12
    assert {(report.findings.task, report.model.name, report.lesion_model.name) for report in reports} == {
        ("classification", "judge", "ball")
    }


def test_a_classification_of_places_without_a_segmentation_stays_a_candidate(site: Site) -> None:
    hospital = site.open()
    publish(hospital, classifying(JOB))
    with pytest.raises(ReleaseRefused, match="no_active_model"):
        active_release(hospital.database)
    with pytest.raises(ReleaseRefused, match="no_lesion_source") as refused:
        hospital.activate("ball-1")
    assert "lesions_from names none" in refused.value.detail


def second_round(site: Site, *, forget: bool = False) -> np.ndarray:
    """The update of a job's second round in a process that did not do the first one."""
    hospital = site.open()
    document = hospital.accept(signed(document_of(JOB)))
    weights = initial_weights(JOB)
    first = hospital.train_round(first_round(document, weights))
    again = site.open()
    again.accept(signed(document))
    if forget:
        (site.folder / "state" / "jobs" / document.id / "optimiser-1.state").unlink()
    return again.train_round(RoundTask(document, 2, apply_update(weights, first.update))).update


def test_a_restarted_process_carries_the_optimiser_on(site: Site) -> None:
    at_once = train(site.open()).rounds[1].update
    np.testing.assert_array_equal(second_round(site), at_once)
    afresh = second_round(site, forget=True)
    assert not np.array_equal(afresh, at_once), "the second round must go on with what the first one left"


def test_a_round_that_is_asked_again_gives_the_sealed_update_and_trains_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    hospital = site.open()
    document = hospital.accept(signed(document_of(JOB)))
    task = first_round(document, initial_weights(JOB))
    first = hospital.train_round(task)
    again = site.open()
    again.accept(signed(document))
    monkeypatch.setattr("fedward.site_training.train", lambda *_, **__: pytest.fail("it trained again"))
    np.testing.assert_array_equal(again.train_round(task).update, first.update)


def test_another_model_for_a_known_round_is_refused(site: Site) -> None:
    hospital = site.open()
    document = hospital.accept(signed(document_of(JOB)))
    weights = initial_weights(JOB)
    hospital.train_round(first_round(document, weights))
    with pytest.raises(JobRefused, match="model_changed"):
        hospital.train_round(first_round(document, weights + 1))


def test_a_job_that_has_ended_here_does_not_run_again(site: Site) -> None:
    hospital = site.open()
    trained = train(hospital)
    with pytest.raises(JobRefused, match="repeated_job"):
        hospital.accept(signed(trained.document))


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("min_patients = 3", "min_patients = 13", "too_few_patients"),
        ("allow_non_private = true", "allow_non_private = false", "non_private_not_allowed"),
        ('exchange_modes = ["plain", "secure-sum", "ckks"]', "exchange_modes = []", "exchange_mode_not_allowed"),
        ("min_sites = 2", "min_sites = 3", "too_few_sites"),
    ],
)
def test_the_site_file_disposes(site: Site, old: str, new: str, code: str) -> None:
    site.edit(lambda text: text.replace(old, new))
    with pytest.raises(JobRefused, match=code):
        train(site.open())


def test_a_signer_who_is_revoked_during_the_job_is_refused_at_the_next_round(site: Site) -> None:
    hospital = site.open()
    job = signed(document_of(JOB))
    hospital.accept(job)
    hospital.check_signer(job)
    site.edit(lambda text: text + f'revoked = ["{signer()}"]\n')
    with pytest.raises(IdentityError, match="revoked_signer"):
        hospital.check_signer(job)


def test_a_site_file_that_others_may_read_is_refused(site: Site) -> None:
    site.site_file.chmod(0o644)
    with pytest.raises(StoreError, match="unsafe_permissions"):
        Hospital.open(site.site_file)


def test_a_process_that_opened_a_hospital_leaves_no_core_dump(site: Site) -> None:
    site.open()
    assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)


def test_a_model_that_this_hospital_never_received_is_not_installed(site: Site) -> None:
    hospital = site.open()
    trained = train(hospital)
    other = Trained(trained.document, trained.rounds, trained.weights + np.float32(0.5)).release()
    with pytest.raises(ReleaseRefused, match="not_witnessed"):
        hospital.install_parts(other)
    assert not (site.folder / "state" / "models").exists()


def test_a_release_other_than_the_signed_one_is_not_installed(site: Site) -> None:
    hospital = site.open()
    trained = train(hospital)
    document = hospital.accept(signed(publishing(trained.release())))
    with pytest.raises(JobRefused, match="model_changed"):
        hospital.install(document, trained.release(number=2))


def test_a_roll_back_checks_the_model_that_it_goes_back_to(site: Site) -> None:
    hospital = site.open()
    trained = train(hospital)
    for number in (1, 2):
        hospital.install_parts(trained.release(number))
    assert hospital.activate("ball-2") == ("ball", 2)
    assert hospital.roll_back() == ("ball", 1)
    assert hospital.activate("ball-2") == ("ball", 2)
    model = site.folder / "state" / "models" / "ball-1" / "model.safetensors"
    content = bytearray(model.read_bytes())
    content[-1] ^= 1
    model.chmod(0o600)
    model.write_bytes(content)
    with pytest.raises(ReleaseRefused, match="altered_model"):
        hospital.roll_back()
    assert active_release(hospital.database).number == 2, "a refused roll-back changes nothing"


def test_a_certificate_that_expires_stops_installation_only(site: Site) -> None:
    hospital = site.open()
    trained = train(hospital)
    hospital.install_parts(trained.release(1))
    hospital.clock = lambda: NOW + timedelta(days=20_000)
    with pytest.raises(ReleaseRefused, match="expired_certificate"):
        hospital.install_parts(trained.release(2))
    assert hospital.activate("ball-1") == ("ball", 1)
