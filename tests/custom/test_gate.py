"""The gate's way over the engine, and what a coordinator may then release."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal
from typer.testing import CliRunner

from fedward.errors import JobRefused, ReleaseRefused, UpdateRefused
from fedward.federation.record import JobRecord
from fedward.identity.document import JobDocument, parse_document
from fedward.models.initial import initial_weights
from fedward.release.gate import CandidateFiles
from fedward.release.package import read_parts, verify_release
from fedward.release.passport import Passport
from fedward.settings.job import StartFrom, TrainingJob
from fedward_flare import exchange, tasks, words
from fedward_flare.cli import app
from fedward_flare.executors import GateExecutor
from fedward_flare.jobs import DOCUMENT, export, prepare
from fedward_flare.once_controllers import GateController
from fedward_flare.releases import gate_lets_pass, kept_job, release_job
from fedward_flare.results import RESULT, FinishedJob, read_record
from fedward_flare.signed import encode_signed_job
from fedward_flare.training_controller import TrainController
from fedward_flare.workdir import Workdir
from gate_cases import GATE, SITES, answer, finished, gate_of
from stub_communicator import Answer, StubCommunicator


@pytest.fixture(autouse=True)
def _no_jobs_of_others(workdir: Workdir) -> None:
    for folder in (workdir.coordinator / "jobs", workdir.releases):
        shutil.rmtree(folder, ignore_errors=True)


def passport_of(folder: Path) -> Passport:
    return verify_release(read_parts(folder)).passport


def test_the_first_release_of_a_name_needs_no_gate(job: TrainingJob, workdir: Workdir) -> None:
    assert passport_of(release_job(finished(job, workdir), workdir)).gate.outcome == "first_release"


def test_the_next_one_is_refused_without_a_gate(job: TrainingJob, workdir: Workdir) -> None:
    release_job(finished(job, workdir), workdir)
    second = finished(job, workdir)
    with pytest.raises(ReleaseRefused, match="gate_missing"):
        release_job(second, workdir)
    gate_of(second, workdir)
    with pytest.raises(ReleaseRefused, match="gate_missing"):  # it has no result yet
        release_job(second, workdir)
    other = finished(job, workdir)
    answer(gate_of(other, workdir), workdir)
    with pytest.raises(ReleaseRefused, match="gate_missing"):  # another job's gate
        release_job(second, workdir)


def test_the_verdict_stands_in_the_signed_passport(job: TrainingJob, workdir: Workdir) -> None:
    release_job(finished(job, workdir), workdir)
    second = finished(job, workdir)
    gate = gate_of(second, workdir)
    answer(gate, workdir)
    stated = passport_of(release_job(second, workdir)).gate
    assert (stated.outcome, stated.job_id, stated.margin, stated.attempts) == ("passed", gate.document.id, 0.05, 1)
    assert stated.sites == dict.fromkeys(SITES, "non_inferior")


def test_everybody_can_read_the_verdict_and_the_line(job: TrainingJob, workdir: Workdir) -> None:
    release_job(finished(job, workdir), workdir)
    second = finished(warm(job), workdir)
    answer(gate_of(second, workdir), workdir)
    folder = str(release_job(second, workdir))
    shown = json.loads(CliRunner().invoke(app, ["model", "show", folder, "--json"]).stdout)
    assert shown["passport"]["gate"]["sites"] == dict.fromkeys(SITES, "non_inferior")
    assert [(one["name"], one["number"]) for one in shown["passport"]["stands_on"]] == [("tiny", 1)]
    assert shown["line"] is None
    assert "privacy of the whole line" in CliRunner().invoke(app, ["model", "show", folder]).stdout


def test_whoever_watches_a_gate_is_told_whether_the_model_passes(job: TrainingJob, workdir: Workdir) -> None:
    for codes, passes in (({}, True), ({"east": "not_shown"}, False)):
        gate = gate_of(finished(job, workdir), workdir)
        answer(gate, workdir, **codes)
        folder = workdir.job(gate.document.id)
        record = read_record(folder)
        assert record is not None
        assert gate_lets_pass(FinishedJob(gate.document.id, record, "", folder, None), workdir) == passes


def test_one_hospital_that_is_against_it_blocks_the_release(job: TrainingJob, workdir: Workdir) -> None:
    release_job(finished(job, workdir), workdir)
    second = finished(job, workdir)
    answer(gate_of(second, workdir), workdir, south="not_shown")
    with pytest.raises(ReleaseRefused, match="gate_blocked") as caught:
        release_job(second, workdir)
    assert "south not_shown" in caught.value.detail


def test_a_release_around_the_gate_says_so_and_what_the_gate_said(job: TrainingJob, workdir: Workdir) -> None:
    release_job(finished(job, workdir), workdir)
    second = finished(job, workdir)
    assert passport_of(release_job(second, workdir, without_gate=True)).gate.sites == {}
    answer(gate_of(second, workdir), workdir, south="not_shown")
    stated = passport_of(release_job(second, workdir, without_gate=True)).gate
    assert (stated.outcome, stated.sites["south"]) == ("without_gate", "not_shown")


def test_the_latest_gate_counts_and_the_passport_tells_how_often_it_was_asked(
    job: TrainingJob, workdir: Workdir
) -> None:
    release_job(finished(job, workdir), workdir)
    second = finished(job, workdir)
    first = gate_of(second, workdir)
    answer(first, workdir, south="not_shown")
    later = gate_of(second, workdir)
    assert later.document.created - first.document.created < timedelta(minutes=1)
    answer(later, workdir)
    assert passport_of(release_job(second, workdir)).gate.attempts == 2


def test_a_gate_brings_the_candidate_to_the_servers_application_alone(
    job: TrainingJob, workdir: Workdir, tmp_path: Path
) -> None:
    trained = finished(job, workdir)
    folder = export(gate_of(trained, workdir), tmp_path / "job")
    assert {str(path.relative_to(folder)) for path in folder.rglob("*.safetensors")} == {
        "server_app/candidate/model.safetensors"
    }
    carried = parse_document((folder / "server_app" / "candidate" / DOCUMENT).read_bytes())
    assert carried.id == trained.id
    assert {path.name for path in (folder / "site_app").rglob("*") if path.is_file()} == {"config_fed_client.json"}


def test_a_gate_needs_a_trained_model_and_no_other_job_takes_one(
    job: TrainingJob, workdir: Workdir, tmp_path: Path
) -> None:
    with pytest.raises(ReleaseRefused, match="missing_part"):
        prepare(GATE, workdir)
    with pytest.raises(ReleaseRefused, match="missing_part"):
        prepare(job, workdir, candidate=finished(job, workdir).folder)
    with pytest.raises(ReleaseRefused, match="unfinished_job"):
        prepare(GATE, workdir, candidate=tmp_path)


class Engine:
    def register_app_command(self, topic: str, function: object) -> None:
        """Nobody watches."""


def says(bit: object) -> Answer:
    message = Shareable()
    message.update({"fedward.non_inferior": bit})
    return message


def test_the_controller_records_each_sites_bit_or_code_and_forged_ones_as_none(
    job: TrainingJob, workdir: Workdir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = gate_of(finished(job, workdir), workdir)
    export(prepared, tmp_path / "job")
    monkeypatch.setattr("fedward_flare.once_controllers.application_folder", lambda _: tmp_path / "job" / "server_app")
    monkeypatch.setattr("fedward_flare.controllers.run_folder", lambda _: tmp_path)
    controller = GateController(encode_signed_job(prepared.signed))
    controller._engine = Engine()
    seen: list[CandidateFiles] = []

    def east(task: str, message: Shareable) -> Answer:
        seen.append(exchange.unpack_candidate(message))
        return exchange.pack_bit(True)

    forged = words.failure(JobRefused("too_few_patients", ""))
    forged["fedward.error"] = "non_inferior"
    sites = {"east": east, "north": lambda *_: says("yes"), "south": lambda *_: forged}
    controller.communicator = StubCommunicator(sites)
    controller.start_controller(FLContext())
    controller.control_flow(Signal(), FLContext())
    record = JobRecord.model_validate_json((tmp_path / RESULT / "result.json").read_bytes())
    assert record.status == "completed"
    assert {site: outcome.code for site, outcome in record.sites.items()} == {
        "east": "non_inferior",
        "north": "malformed_message",
        "south": "internal_error",
    }
    assert parse_document(seen[0].document).job == job


def test_one_bit_is_all_that_leaves(
    job: TrainingJob, workdir: Workdir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDWARD_SITE_FILE", str(tmp_path / "site.toml"))
    prepared = gate_of(finished(job, workdir), workdir)

    class Hospital:
        def accept(self, signed: object) -> JobDocument:
            return prepared.document

        class audit:  # noqa: N801
            @staticmethod
            def note(*_: object, **__: object) -> None:
                """Nobody reads."""

    monkeypatch.setattr(GateExecutor, "_open_hospital", lambda _: Hospital())
    monkeypatch.setattr("fedward.gating.gate", lambda *_, **__: True)
    message = exchange.pack_candidate(CandidateFiles(model=b"m", document=b"d"))
    executor = GateExecutor(encode_signed_job(prepared.signed))
    left = executor.execute(tasks.GATE_TASK, message, FLContext(), Signal())
    ours = {key: value for key, value in left.items() if key.startswith("fedward.")}
    assert ours == {"fedward.non_inferior": True}
    assert set(left) - set(ours) <= set(Shareable())


@pytest.mark.parametrize("bit", [1, 0.7, "true", None, [True]])
def test_an_answer_that_is_no_bit_is_refused(bit: object) -> None:
    with pytest.raises(UpdateRefused, match="malformed_message"):
        exchange.unpack_bit(says(bit))


def warm(job: TrainingJob) -> TrainingJob:
    return job.model_copy(update={"start_from": StartFrom(name="tiny", number=1)})


def test_a_job_that_starts_from_a_release_carries_it_to_the_server_and_its_line_into_the_passport(
    job: TrainingJob, workdir: Workdir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = finished(job, workdir)
    parent = passport_of(release_job(first, workdir))
    prepared = prepare(warm(job), workdir)
    assert prepared.document.release == read_parts(workdir.releases / "tiny-1").hashes
    export(prepared, tmp_path / "job")
    folder = tmp_path / "job" / "server_app"
    monkeypatch.setattr("fedward_flare.training_controller.application_folder", lambda _: folder)
    controller = TrainController(encode_signed_job(prepared.signed))
    np.testing.assert_array_equal(controller._first_weights(FLContext()), initial_weights(job) + np.float32(0.25))
    second = finished(warm(job), workdir)
    assert kept_job(second.id, workdir).release == workdir.releases / "tiny-1"
    released = passport_of(release_job(second, workdir, without_gate=True))
    assert released.stands_on == parent.descent()
    assert released.created <= datetime.now(UTC)


def test_a_job_cannot_start_from_a_release_that_the_coordinator_does_not_have(
    job: TrainingJob, workdir: Workdir, tmp_path: Path
) -> None:
    with pytest.raises(ReleaseRefused, match="missing_part"):
        prepare(warm(job), workdir)
    folder = release_job(finished(job, workdir), workdir)
    other = job.model_copy(update={"start_from": StartFrom(name="tiny", number=2)})
    with pytest.raises(ReleaseRefused, match="wrong_descent"):
        prepare(other, workdir, release=folder)
