"""The controllers of one task, with sites that are functions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from nvflare.apis.shareable import Shareable

from fedward.errors import JobRefused
from fedward.federation.record import JobRecord
from fedward.release.package import ReleaseParts, write_release
from fedward.settings.job import InferenceJob, PublishJob, Sites
from fedward_flare import exchange, tasks, words
from fedward_flare.jobs import prepare
from fedward_flare.once_controllers import InferenceController, PublishController
from fedward_flare.signed import encode_signed_job
from fedward_flare.workdir import Workdir
from stub_communicator import Answer, Site
from sum_cases import connect, run_job


@pytest.fixture
def run(workdir: Workdir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., JobRecord]:
    monkeypatch.setattr("fedward_flare.controllers.run_folder", lambda _: tmp_path)
    kinds = {"publish": PublishController, "infer": InferenceController}

    def make(job: PublishJob | InferenceJob, release: Path | None = None, **sites: Site) -> JobRecord:
        controller = kinds[job.kind](encode_signed_job(prepare(job, workdir, release=release).signed))
        connect(controller, sites)
        return run_job(controller, tmp_path)

    return make


def silent(task: str, message: Shareable) -> Answer:
    return None


def done(task: str, message: Shareable) -> Answer:
    return exchange.pack_done({"findings": 10} if task == tasks.INFER_TASK else None)


def test_inference_records_each_sites_counts_or_code(run: Callable[..., JobRecord]) -> None:
    job = InferenceJob(kind="infer", name="infer", sites=Sites(minimum=1, deadline_s=0.5))
    broken = words.failure(JobRefused("kind_not_allowed", ""))
    record = run(job, north=done, east=lambda *_: broken, south=silent)
    assert record.status == "completed"
    assert {site: outcome.code for site, outcome in record.sites.items()} == {
        "north": "done",
        "east": "kind_not_allowed",
        "south": "deadline_missed",
    }
    assert record.sites["north"].counts == {"findings": 10}


def test_publishing_sends_the_release_of_the_servers_application(
    run: Callable[..., JobRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = ReleaseParts(model=b"m", passport=b"p", signature=b"s")
    write_release(tmp_path / "app_server" / "release", parts)
    monkeypatch.setattr("fedward_flare.once_controllers.application_folder", lambda _: tmp_path / "app_server")
    seen: list[ReleaseParts] = []

    def site(task: str, message: Shareable) -> Answer:
        seen.append(exchange.unpack_release(message))
        return exchange.pack_done()

    job = PublishJob(kind="publish", name="publish", sites=Sites(minimum=3, deadline_s=5))
    record = run(job, release=tmp_path / "app_server" / "release", north=site, east=site, south=site)
    assert record.status == "completed"
    assert seen == [parts] * 3


def test_a_job_of_one_task_fails_below_its_minimum(run: Callable[..., JobRecord]) -> None:
    job = InferenceJob(kind="infer", name="infer", sites=Sites(minimum=3, deadline_s=0.3))
    record = run(job, north=done, east=done, south=silent)
    assert (record.status, record.code) == ("failed", "too_few_sites")
