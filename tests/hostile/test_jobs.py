"""Jobs that no coordinator of the site's choice signed, or that go beyond what the site allows, in a real federation.

All are submitted together, and every site answers each with its own code.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from nvflare.lighter.utils import load_crt_bytes

from fedward.acceptance import decide_on
from fedward.hospital import Hospital
from fedward.identity.document import JobDocument, SignedJob, new_job_document, sign_job
from fedward.identity.signing import load_private_key
from fedward.release.gate import FIRST_RELEASE
from fedward.release.make import make_release
from fedward.release.package import write_release
from fedward.settings.job import PublishJob, Sites, TrainingJob
from fedward.store.approvals import queued_jobs
from fedward_flare.job_config import SERVER_CONFIG
from fedward_flare.jobs import SERVER_APP, PreparedJob, export, prepare
from fedward_flare.results import FinishedJob
from tiny_federation import training_job
from trust_cases import inference_job

pytestmark = pytest.mark.federation

HOUR = timedelta(hours=1)
ONE_SITE = ("north",)


def document_of(job: Any, hostile: Any, *, sites: tuple[str, ...] = ONE_SITE, **more: Any) -> JobDocument:
    project = hostile.workdir.state().project
    return new_job_document(job, project=project, sites=sites, **{"now": datetime.now(UTC), **more})


def signed_by(name: str, job: Any, hostile: Any, **more: Any) -> PreparedJob:
    document = document_of(job, hostile, **more)
    signed = sign_job(document, private_key=hostile.key_of(name), certificate=hostile.certificate_of(name))
    return PreparedJob(document=document, signed=signed)


def submit(prepared: PreparedJob, hostile: Any) -> str:
    hostile.session.submit(prepared)
    return prepared.document.id


@dataclass(frozen=True)
class Outcome:
    codes: dict[str, str]
    status: str


@pytest.fixture(scope="module")
def honest(hostile: Any) -> tuple[PreparedJob, FinishedJob]:
    prepared = prepare(training_job(minimum=2, rounds=1, steps=1), hostile.workdir)
    return prepared, hostile.session.watch(submit(prepared, hostile), timeout_s=120)


def forged(hostile: Any) -> PreparedJob:
    """The coordinator's certificate and its signature of another job."""
    coordinator = hostile.workdir.state().coordinator
    true = signed_by(coordinator, training_job(minimum=1), hostile)
    other = signed_by(coordinator, training_job(minimum=1, rounds=1), hostile)
    signed = SignedJob(true.document.content(), other.signed.signature, true.signed.certificate)
    return replace(true, signed=signed)


def release_by_the_server(honest: tuple[PreparedJob, FinishedJob], hostile: Any, folder: Path) -> PreparedJob:
    prepared, finished = honest
    assert finished.model is not None
    certificate = load_crt_bytes(hostile.certificate_of("server"))
    parts = make_release(
        finished.model.read_bytes(),
        prepared.document,
        finished.record,
        number=1,
        gate=FIRST_RELEASE,
        now=datetime.now(UTC),
        key=load_private_key(hostile.key_of("server")),
        certificate=certificate,
    )
    write_release(folder / "release", parts, mode=0o755)
    sites = Sites(minimum=1, deadline_s=60, names=ONE_SITE)
    return prepare(PublishJob(kind="publish", name="publish", sites=sites), hostile.workdir, release=folder / "release")


@pytest.fixture(scope="module")
def outcomes(
    hostile: Any, honest: tuple[PreparedJob, FinishedJob], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Outcome]:
    coordinator, operator = hostile.workdir.state().coordinator, hostile.workdir.state().operator
    small = training_job(minimum=1, rounds=1)
    past = datetime.now(UTC) - HOUR * small.hours_valid - HOUR
    jobs = {
        "signed by the server": signed_by("server", small, hostile),
        "signed by a hospital": signed_by("east", small, hostile),
        "signed by an unlisted administrator": signed_by(operator, small, hostile),
        "forged": forged(hostile),
        "expired": signed_by(coordinator, small, hostile, now=past),
        "one site": signed_by(coordinator, small, hostile),
        "a norm out of bounds": prepare(beyond(exchange={"max_update_norm": 1e6}), hostile.workdir),
        "rounds out of bounds": prepare(beyond(training={"rounds": 501}), hostile.workdir),
        "a patch out of bounds": prepare(beyond(training={"patch_size": (256, 256, 256)}), hostile.workdir),
        "waits for a person": signed_by(coordinator, inference_job(), hostile, sites=("east",)),
        "another project": signed_by_project(coordinator, small, hostile),
        "release by the server": release_by_the_server(honest, hostile, tmp_path_factory.mktemp("release")),
    }
    ids = {name: submit(prepared, hostile) for name, prepared in jobs.items()}
    ids["replayed"] = submit_again(honest[0], hostile, tmp_path_factory.mktemp("replay") / "job")
    folder = tmp_path_factory.mktemp("model") / "job"
    ids["inference with a model"] = submit_with_a_model(
        signed_by(coordinator, inference_job(), hostile), hostile, folder
    )
    found = {}
    for name, job_id in ids.items():
        record = hostile.session.watch(job_id, timeout_s=170).record
        codes = {site: outcome.code for site, outcome in record.sites.items()} if record.sites else {}
        found[name] = Outcome(codes or dict(record.rounds[0].failures), record.status)
    return found


def beyond(**changes: dict[str, Any]) -> TrainingJob:
    """Give a job with a number that no bound of the sites allows."""
    job = training_job(minimum=2, rounds=1)
    parts = {part: getattr(job, part).model_copy(update=numbers) for part, numbers in changes.items()}
    return job.model_copy(update=parts)


def submit_again(prepared: PreparedJob, hostile: Any, folder: Path, *, name: str = "f" * 32) -> str:
    """Submit a job's very document under another of the engine's names."""
    export(prepared, folder)
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**meta, "name": f"again.{name}"}))
    hostile.session.submit_folder(folder)
    return name


def submit_with_a_model(prepared: PreparedJob, hostile: Any, folder: Path) -> str:
    """Submit an inference job whose server sends its own model with the task."""
    config = export(prepared, folder) / SERVER_APP / "config" / SERVER_CONFIG
    content = json.loads(config.read_text())
    content["workflows"][0]["path"] = "malicious_server.ModelBringingController"
    config.write_text(json.dumps(content))
    hostile.session.submit_folder(folder)
    return prepared.document.id


def signed_by_project(name: str, job: TrainingJob, hostile: Any) -> PreparedJob:
    document = new_job_document(job, project="another", sites=ONE_SITE, now=datetime.now(UTC))
    signed = sign_job(document, private_key=hostile.key_of(name), certificate=hostile.certificate_of(name))
    return PreparedJob(document=document, signed=signed)


EXPECTED = {
    "signed by the server": "unlisted_signer",
    "signed by a hospital": "unlisted_signer",
    "signed by an unlisted administrator": "unlisted_signer",
    "forged": "bad_signature",
    "expired": "expired_job",
    "one site": "too_few_sites",
    "a norm out of bounds": "norm_bound_too_large",
    "rounds out of bounds": "too_many_rounds",
    "a patch out of bounds": "patch_too_large",
    "waits for a person": "awaiting_approval",
    "inference with a model": "foreign_model",
    "another project": "wrong_project",
    "release by the server": "wrong_subject",
    "replayed": "repeated_job",
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_job_that_the_site_must_not_follow_is_refused_by_its_code(name: str, outcomes: dict[str, Outcome]) -> None:
    assert set(outcomes[name].codes.values()) == {EXPECTED[name]}
    assert outcomes[name].status == "failed"


@pytest.mark.parametrize("code", sorted(set(EXPECTED.values())))
def test_the_refusal_stands_in_the_hospitals_audit(code: str, outcomes: dict[str, Outcome], hostile: Any) -> None:
    assert hostile.has_noted(code, site="east" if code == "awaiting_approval" else "north")


def test_a_job_that_a_person_has_approved_passes_and_no_other(
    outcomes: dict[str, Outcome], hostile: Any, tmp_path: Path
) -> None:
    hospital = Hospital.open(hostile.workdir.site_file("east"))
    (waiting,) = queued_jobs(hospital.database)
    decide_on(waiting.digest, "approved", audit=hospital.audit, now=hospital.clock())
    hospital.database.close()
    coordinator = hostile.workdir.state().coordinator
    signature = sign_job(
        waiting.document, private_key=hostile.key_of(coordinator), certificate=hostile.certificate_of(coordinator)
    )
    again = submit_again(PreparedJob(waiting.document, signature), hostile, tmp_path / "job", name="e" * 32)
    other = submit(signed_by(coordinator, inference_job(), hostile, sites=("east",)), hostile)
    found = {name: hostile.session.watch(name, timeout_s=170).record.sites["east"].code for name in (again, other)}
    assert found == {again: "no_active_model", other: "awaiting_approval"}, (
        "the first has gone as far as the hospital's model"
    )
    done = [line.facts["done"] for line in hostile.audit_of("east") if line.kind == "approval"]
    assert done == ["asked", "approved", "asked"]


def test_the_audit_says_what_left_in_the_honest_job_and_nothing_of_the_others(
    outcomes: dict[str, Outcome], honest: tuple[PreparedJob, FinishedJob], hostile: Any
) -> None:
    sent = [line.facts for line in hostile.audit_of("north") if line.kind == "sent"]
    assert {facts["job"] for facts in sent} == {honest[0].document.id}
    assert [facts["message"] for facts in sent] == ["fedward_train", "fedward_evaluate"]
    assert int(sent[0]["bytes"]) > 4 * 1000
