"""A real federation at work: NVFLARE's own server and clients on this machine, with mutual TLS."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from fedward.errors import FederationError
from fedward.federation.record import JobRecord
from fedward.imaging.traits import trait_keys
from fedward.models.initial import initial_weights
from fedward.models.networks import build
from fedward.models.weights import flattened, layout_of
from fedward.release.package import read_parts, verify_release
from fedward.release.passport import TrainedOn
from fedward.report.document import Report
from fedward.settings.algorithms import FedBN, FedOpt, Scaffold
from fedward.settings.job import InferenceJob, PrivateTraining, PublishJob, Sites
from fedward.settings.site import read_site_settings
from fedward.site_own import OwnNumbers, norms_folder
from fedward.store.vault import Vault
from fedward.training.own import norms_of
from fedward_flare import processes
from fedward_flare.jobs import prepare
from fedward_flare.releases import release_job
from fedward_flare.results import FinishedJob
from fedward_flare.workdir import claimed
from tiny_federation import NAMES, PATIENTS, Federation, classifying, training_job

pytestmark = pytest.mark.federation

EVERYBODY = Sites(minimum=4, deadline_s=120)


@pytest.fixture(scope="module")
def finished(federation: Federation) -> FinishedJob:
    # A name of its own: the first release of a name passes the gate.
    return federation.run(training_job(mode="secure-sum").model_copy(update={"name": "detector"}))


def test_a_training_job_ends_with_a_record_a_model_and_curves(finished: FinishedJob, federation: Federation) -> None:
    record = finished.record
    assert record.status == "completed"
    assert finished.engine_status == "FINISHED:COMPLETED"
    assert [sorted(entry.weights) for entry in record.rounds] == [sorted(NAMES)] * 2
    assert all(entry.score is not None for entry in record.rounds), "every round is validated, the last one too"
    assert record.best_round in (1, 2)
    assert finished.model is not None
    assert load_file(finished.model)
    assert finished.tensorboard is not None
    assert finished.tensorboard.is_relative_to(federation.workdir.root / "tensorboard")
    assert list(finished.tensorboard.iterdir())


def publish(federation: Federation, finished: FinishedJob) -> None:
    """Release a job's model and bring it to every hospital, each of which activates what it installs."""
    job = PublishJob(kind="publish", name="publish", sites=EVERYBODY)
    prepared = prepare(job, federation.workdir, release=release_job(finished, federation.workdir))
    published = federation.session.watch(federation.session.submit(prepared), timeout_s=120)
    assert {site: outcome.code for site, outcome in published.record.sites.items()} == dict.fromkeys(NAMES, "done")


def infer(federation: Federation) -> JobRecord:
    prepared = prepare(InferenceJob(kind="infer", name="infer", sites=EVERYBODY), federation.workdir)
    record = federation.session.watch(federation.session.submit(prepared), timeout_s=180).record
    assert {site: outcome.code for site, outcome in record.sites.items()} == dict.fromkeys(NAMES, "done")
    return record


@pytest.fixture(scope="module")
def published(finished: FinishedJob, federation: Federation) -> None:
    publish(federation, finished)


@pytest.mark.usefixtures("published")
def test_a_released_model_is_installed_and_run_at_every_hospital(federation: Federation) -> None:
    assert all(sum(outcome.counts.values()) >= 10 for outcome in infer(federation).sites.values())


@pytest.mark.usefixtures("published")
def test_a_classifier_is_trained_over_an_encrypted_sum_by_an_adaptive_server_and_judges_what_the_other_model_finds(
    federation: Federation, edited_site: Callable[[str, str, str], None]
) -> None:
    adaptive = FedOpt(name="fedadam", server_learning_rate=0.01, adaptivity=1e-6)
    job = classifying(training_job(mode="secure-sum")).model_copy(update={"algorithm": adaptive, "name": "judge"})
    finished = federation.run(job)
    assert finished.record.status == "completed"
    assert [sorted(entry.weights) for entry in finished.record.rounds] == [sorted(NAMES)] * 2
    scores = [entry.score for entry in finished.record.rounds]
    assert all(score is not None and 0 <= score <= 1 for score in scores)
    assert finished.model is not None
    flat = flattened(layout_of(build(job.network, task=job.task)), load_file(finished.model))
    # Two local steps of 0.001 move a number by about 0.002 at most, and so would FedAvg; Adam's step is its own rate.
    assert np.abs(flat - initial_weights(job)).max() > 0.008

    for name in NAMES:
        edited_site(name, "[models]", '[inference]\nlesions_from = "detector"\n\n[models]')
    publish(federation, finished)
    infer(federation)
    for name in NAMES:
        files = list((federation.workdir.hospital(name) / "state" / "reports" / "judge-1").rglob("report.json"))
        reports = [Report.model_validate_json(file.read_text(encoding="utf-8")) for file in files]
        assert len(reports) == PATIENTS
        assert {(one.model.name, one.lesion_model.name, one.findings.task) for one in reports} == {
            ("judge", "detector", "classification")
        }


def test_scaffold_sums_under_encryption_with_one_control_for_all_hospitals(federation: Federation) -> None:
    job = training_job(mode="secure-sum", steps=3)
    training = job.training.model_copy(update={"optimiser": "sgd", "learning_rate": 0.1, "schedule": "constant"})
    job = job.model_copy(update={"algorithm": Scaffold(name="scaffold"), "training": training})
    finished = federation.run(job)
    # The hospitals sign the hash of model and control: a hospital with another one would be in no sum.
    assert finished.record.status == "completed"
    assert [sorted(entry.weights) for entry in finished.record.rounds] == [sorted(NAMES)] * 2
    assert all(not entry.failures for entry in finished.record.rounds)


def test_each_hospital_keeps_its_own_norms_and_runs_the_release_with_them(federation: Federation) -> None:
    job = training_job(mode="secure-sum").model_copy(update={"algorithm": FedBN(name="fedbn"), "name": "own_norms"})
    finished = federation.run(job)
    assert finished.record.status == "completed"
    assert finished.model is not None
    flat, mask = flattened(layout_of(build(job.network, task=job.task)), load_file(finished.model)), norms_of(job)
    start = initial_weights(job)
    np.testing.assert_array_equal(flat[mask], start[mask])
    assert (flat[~mask] != start[~mask]).mean() > 0.9
    sites = [read_site_settings(federation.workdir.site_file(name)) for name in NAMES]
    own = [
        OwnNumbers(norms_folder(site.state, finished.record.id), Vault.open(site.sealing_key)).after(2)
        for site in sites
    ]
    assert len({numbers.tobytes() for numbers in own}) == len(NAMES)
    release = release_job(finished, federation.workdir)
    everybody = Sites(minimum=4, deadline_s=120)
    publish = prepare(PublishJob(kind="publish", name="publish", sites=everybody), federation.workdir, release=release)
    infer = prepare(InferenceJob(kind="infer", name="infer", sites=everybody), federation.workdir)
    for one in (publish, infer):
        record = federation.session.watch(federation.session.submit(one), timeout_s=180).record
        assert {site: outcome.code for site, outcome in record.sites.items()} == dict.fromkeys(NAMES, "done")


def test_a_private_job_is_charged_at_every_hospital_until_the_cap_refuses(federation: Federation) -> None:
    asked = PrivateTraining(
        sampling_rate=0.5,
        noise_multiplier=1.0,
        clip_norm=1.0,
        expected_patients=4,
        metric_releases=2,
        range_noise_multiplier=10.0,
    )
    job = training_job(mode="secure-sum").model_copy(update={"privacy": asked})
    first = federation.run(job)
    spent = [{site: one.epsilon for site, one in entry.privacy.items()} for entry in first.record.rounds]
    assert first.record.status == "completed"
    assert [sorted(of_round) for of_round in spent] == [sorted(NAMES)] * 2
    assert 0 < spent[0]["north"] < spent[1]["north"] <= 8
    release = verify_release(read_parts(release_job(first, federation.workdir, without_gate=True)))
    assert release.passport.privacy is not None
    assert release.passport.privacy.epsilon == spent[1]["north"]
    assert set(first.record.trained_on) == set(trait_keys(job.input)), "what the images are like was in the sum"
    assert release.passport.trained_on == TrainedOn(noised=True, ranges=()), "too few patients to tell under the noise"
    heads = json.loads((federation.workdir.root / "server" / "ledger-heads.json").read_text())
    assert sorted(heads) == sorted(NAMES)
    records = [first.record]
    while records[-1].status == "completed" and len(records) < 5:
        records.append(federation.run(job).record)
    assert records[-1].rounds[-1].failures == dict.fromkeys(NAMES, "privacy_spent")


def test_a_hospitals_no_costs_its_own_contribution(
    federation: Federation, edited_site: Callable[[str, str, str], None]
) -> None:
    edited_site("west", "min_sites = 2", "min_sites = 2\nmax_rounds = 1")
    trusted = federation.workdir.site_file("east").read_text().split("coordinators = [")[1].split("]")[0]
    edited_site("east", trusted, f'"sha256:{"0" * 64}"')
    record = federation.run(training_job(minimum=2)).record
    assert record.status == "completed"
    assert [entry.failures for entry in record.rounds] == [{"west": "too_many_rounds", "east": "unlisted_signer"}] * 2
    assert "max_rounds is 1" in (federation.workdir.hospital("west") / "errors.log").read_text()


def test_below_the_minimum_the_job_fails_with_each_sites_code(
    federation: Federation, edited_site: Callable[[str, str, str], None]
) -> None:
    edited_site("west", "min_patients = 3", "min_patients = 1000")
    record = federation.run(training_job(minimum=4)).record
    assert (record.status, record.code) == ("failed", "too_few_sites")
    assert record.rounds[0].failures == {"west": "too_few_patients"}


def in_second_round(federation: Federation, job_id: str, site: str) -> psutil.Process:
    """Wait until ``site`` has done its first round and give its job's process, which is in the second."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for process in processes.running(federation.workdir.state().mark):
            with contextlib.suppress(psutil.Error):
                command = process.cmdline()
                if "nvflare.private.fed.app.client.worker_process" in command and site in command:
                    state = federation.workdir.hospital(site) / "state" / "jobs" / job_id
                    if list(state.glob("optimiser-*.state")):
                        return process
        time.sleep(0.05)
    raise AssertionError(f"the job's process at {site} did not do a round")


def test_a_job_process_that_is_killed_in_a_round_is_replaced(federation: Federation) -> None:
    job_id = federation.submit(training_job(steps=50, rounds=3, mode="secure-sum"))
    process = in_second_round(federation, job_id, "south")
    process.kill()
    record = federation.session.watch(job_id, timeout_s=180).record
    assert record.status == "completed"
    assert [sorted(entry.weights) for entry in record.rounds] == [sorted(NAMES)] * 3


def test_an_aborted_job_stops_and_says_so(federation: Federation) -> None:
    job_id = federation.submit(training_job(steps=50, rounds=500))
    in_second_round(federation, job_id, "north")
    federation.session.abort(job_id)
    aborted = federation.session.watch(job_id, timeout_s=60)
    assert (aborted.record.status, aborted.engine_status) == ("aborted", "FINISHED:ABORTED")


def test_every_listener_is_on_loopback(federation: Federation) -> None:
    listening = [
        connection.laddr.ip
        for process in processes.running(federation.workdir.state().mark)
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= 1 + len(NAMES)
    assert set(listening) == {"127.0.0.1"}


def test_a_second_federation_in_the_same_folder_is_refused(federation: Federation) -> None:
    with pytest.raises(FederationError, match="workdir_in_use"), claimed(federation.workdir.root):
        pass


def test_a_whole_site_that_is_killed_in_a_round_does_not_stop_the_job(federation: Federation) -> None:
    job_id = federation.submit(training_job(steps=50, rounds=3, deadline_s=45, mode="secure-sum"))
    in_second_round(federation, job_id, "west")
    kill_site(federation, "west")
    record = federation.session.watch(job_id, timeout_s=180).record
    assert record.status == "completed"
    assert record.rounds[-1].failures == {"west": "deadline_missed"}
    assert all({"north", "east", "south"} <= set(entry.weights) for entry in record.rounds)
    late = [entry.seconds for entry in record.rounds if entry.failures]
    assert all(seconds < 40 for seconds in late[1:]), "a dead site costs one deadline, not one a round"


def kill_site(federation: Federation, name: str) -> None:
    for process in processes.running(federation.workdir.state().mark):
        with contextlib.suppress(psutil.Error):
            if process.environ().get("FEDWARD_SITE_FILE") == str(federation.workdir.site_file(name)):
                process.kill()
