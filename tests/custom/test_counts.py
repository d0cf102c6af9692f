"""A job that adds up one vector of each site: through the encrypted sum, and with what goes wrong on its way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nvflare.apis.shareable import Shareable

from evaluation_cases import evaluation_job, release_of
from fedward.errors import FederationError, FedwardError, JobRefused, ReleaseRefused, UpdateRefused
from fedward.evaluation.sheet import sheet_of
from fedward.evaluation_page.coordinator_page import read_outcome
from fedward.federation.secure_job import count_names, quantiser_of
from fedward.federation.secure_messages import Masked
from fedward.privacy.head import Head
from fedward.privacy.plan import Spent
from fedward.privacy.sealed import Answer
from fedward.release.package import read_parts, write_release
from fedward.settings.job import EvaluationJob
from fedward.site_ckks import SiteCkks
from fedward.site_counts import Counted, Counts
from fedward.site_sum import SiteSum
from fedward_flare import ckks_exchange, counts_exchange, sum_exchange, tasks, words
from fedward_flare.evaluation_controller import EvaluationController
from fedward_flare.jobs import about_release, prepare
from fedward_flare.results import EVALUATION, RESULT, keep_result
from fedward_flare.signed import encode_signed_job
from fedward_flare.workdir import Workdir
from sum_cases import EvaluationRun, answer_of, connect, serve
from tiny_federation import training_job

SITES = ("east", "north", "south")
SIZE = sheet_of("lesions").size
HEAD = Head(7, "ab" * 32)


@dataclass
class CountingSite:
    """A hospital that counts the same number everywhere, with its part in the sum unless the job is plain."""

    value: float
    model_sha256: str
    sum: SiteSum | SiteCkks | None = None
    total: Any = None
    rows: dict[str, Counts] = field(default_factory=dict)
    failure: Exception | None = None
    seen: list[np.ndarray] = field(default_factory=list)

    def answer(self, task: str, message: Shareable) -> Shareable | None:
        try:
            return self._answer(task, message)
        except FedwardError as error:
            return words.failure(error)

    def _answer(self, task: str, message: Shareable) -> Shareable:
        if task == tasks.COUNT_TASK:
            return self._counted(message)
        assert self.sum is not None
        answer = answer_of(self.sum, task, message)
        if answer is not None:
            return answer
        if task == tasks.TOTAL_TASK:
            return ckks_exchange.pack_total(self.total)
        assert isinstance(self.sum, SiteCkks)
        self.total = self.sum.decrypt(*ckks_exchange.unpack_sum(message))
        return ckks_exchange.pack_digest(self.total)

    def _counted(self, message: Shareable) -> Shareable:
        if self.failure:
            raise self.failure
        noised: Counts | Masked = np.full(SIZE, self.value)
        if self.sum is not None:
            values = dict.fromkeys(count_names(SIZE), self.value)
            noised = self.sum.masked(
                1, Answer(None, 10, values), model_sha256=self.model_sha256, boxes=sum_exchange.boxes_of(message)
            )
            self.seen += [noised.vector] if isinstance(noised, Masked) else []
        return counts_exchange.pack_counted(Counted(noised, Spent(1.5, 1e-5), 2.0, self.rows, HEAD))


@pytest.fixture
def released(workdir: Workdir) -> Workdir:
    write_release(workdir.releases / "ball-1", release_of(training_job()))
    return workdir


@pytest.fixture
def run(released: Workdir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., EvaluationRun]:
    serve(tmp_path, released, monkeypatch)

    def make(mode: str = "secure-sum", **of_site: dict[str, Any]) -> EvaluationRun:
        prepared = prepare(evaluation_job(mode=mode), released)
        job, document = prepared.document.job, prepared.document
        assert isinstance(job, EvaluationJob)
        assert document.release is not None
        quantiser = quantiser_of(job, size=SIZE, sites=3)
        sites = {}
        for place, name in enumerate(SITES):
            (tmp_path / name).mkdir()
            kind = SiteCkks if mode == "ckks" else SiteSum
            part = kind(released.site_file(name), document, job, quantiser, tmp_path / name, lambda: datetime.now(UTC))
            sites[name] = CountingSite(
                **{
                    "value": place + 0.5,
                    "model_sha256": document.release.model,
                    "sum": None if mode == "plain" else part,
                    **of_site.get(name, {}),
                }
            )
        controller = EvaluationController(encode_signed_job(prepared.signed))
        connect(controller, {name: sites[name].answer for name in SITES})
        return EvaluationRun(sites, controller, tmp_path)

    return make


@pytest.mark.parametrize("mode", ["secure-sum", "ckks", "plain"])
def test_the_sum_is_that_of_all_sites(run: Callable[..., EvaluationRun], mode: str) -> None:
    if mode == "ckks":
        pytest.importorskip("tenseal")
    done = run(mode)
    assert done.go().status == "completed"
    outcome = done.outcome()
    assert outcome.total == pytest.approx([0.5 + 1.5 + 2.5] * SIZE, abs=0.01)
    assert outcome.deviation == pytest.approx(2.0 * sheet_of("lesions").bound * np.sqrt(3))
    assert sorted(outcome.noise_multipliers) == list(SITES)
    assert outcome.rows == {}


def test_no_sites_counts_are_seen_on_their_way(run: Callable[..., EvaluationRun]) -> None:
    done = run()
    done.go()
    for site in done.sites.values():
        (vector,) = site.seen
        assert np.unique(vector).size > SIZE / 2, "the same count everywhere, and hardly two masked ones alike"


def test_a_row_that_a_site_shares_is_kept_by_name(run: Callable[..., EvaluationRun]) -> None:
    done = run(east={"rows": {"release": np.ones(SIZE)}})
    done.go()
    assert done.outcome().rows == {"east": {"release": (1.0,) * SIZE}}


@pytest.mark.parametrize("rows", [{"patients": np.ones(SIZE)}, {"release": -np.ones(SIZE)}])
def test_a_row_that_is_none_costs_the_sites_part(run: Callable[..., EvaluationRun], rows: dict[str, Counts]) -> None:
    done = run("plain", east={"rows": rows})
    assert done.go().sites["east"].code == "malformed_message"
    assert done.outcome().failures == {"east": "malformed_message"}


def test_a_site_that_refuses_is_named_and_the_others_are_summed(run: Callable[..., EvaluationRun]) -> None:
    done = run("plain", south={"failure": JobRefused("too_few_patients", "of a hospital's own")})
    assert done.go().status == "completed"
    assert done.outcome().total == pytest.approx([0.5 + 1.5] * SIZE)
    assert done.outcome().failures == {"south": "too_few_patients"}


def test_too_few_sites_end_the_job_without_an_outcome(run: Callable[..., EvaluationRun]) -> None:
    done = run(south={"failure": JobRefused("too_few_patients", "of a hospital's own")})
    record = done.go()
    assert (record.status, record.code) == ("failed", "too_few_sites")
    assert not (done.folder / RESULT / EVALUATION).exists()


def test_a_model_that_one_site_alone_has_is_not_summed(run: Callable[..., EvaluationRun]) -> None:
    done = run(east={"model_sha256": "0" * 64})
    assert done.go().sites["east"].code == "other_context"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("fedward.noised", np.full(SIZE, np.nan)),
        ("fedward.noised", np.ones(SIZE - 1)),
        ("fedward.noised", ["a"] * SIZE),
        ("fedward.noise_multiplier", "2"),
        ("fedward.noise_multiplier", float("inf")),
        ("fedward.rows", {"../x": np.ones(SIZE)}),
        ("fedward.rows", {f"row_{k}": np.ones(SIZE) for k in range(9)}),
        ("fedward.rows", {"release": "text"}),
        ("fedward.epsilon", "1"),
        ("fedward.head", None),
    ],
)
def test_an_answer_that_is_not_counts_is_refused(key: str, value: object) -> None:
    answer = counts_exchange.pack_counted(Counted(np.ones(SIZE), Spent(1.5, 1e-5), 2.0, {}, HEAD))
    assert counts_exchange.unpack_counted(answer, size=SIZE).spent == Spent(1.5, 1e-5)
    answer[key] = value
    with pytest.raises(UpdateRefused, match=r"malformed_message|not_finite"):
        counts_exchange.unpack_counted(answer, size=SIZE)


def test_the_latest_release_is_meant_where_no_number_stands(released: Workdir) -> None:
    job = evaluation_job().model_copy(update={"number": 0})
    settled, folder = about_release(job, released)
    assert (settled.number, folder.name) == (1, "ball-1")
    document = prepare(job, released).document
    assert document.release == read_parts(folder).hashes


@pytest.mark.parametrize(
    ("change", "kind", "code", "words"),
    [
        ({"number": 7}, ReleaseRefused, "not_installed", ("ball-7 is not in", "there is ball-1")),
        ({"release": "other", "number": 0}, ReleaseRefused, "not_installed", ("other is not in", "there is ball-1")),
        ({"task": "classification"}, JobRefused, "other_task", ("ball-1 does lesions",)),
    ],
)
def test_an_evaluation_of_what_the_coordinator_does_not_have_is_not_submitted(
    released: Workdir, change: dict[str, Any], kind: type[FedwardError], code: str, words: tuple[str, ...]
) -> None:
    with pytest.raises(kind, match=code) as caught:
        prepare(evaluation_job().model_copy(update=change), released)
    assert [word for word in words if word not in caught.value.detail] == []


@pytest.fixture
def downloaded(run: Callable[..., EvaluationRun], tmp_path: Path) -> Path:
    """What the server keeps of a job that is done."""
    run("plain", east={"rows": {"release": np.ones(SIZE)}}).go()
    folder = tmp_path / "downloaded"
    (folder / "workspace").mkdir(parents=True)
    (tmp_path / RESULT).rename(folder / "workspace" / RESULT)
    return folder


def test_the_coordinator_makes_the_page_from_the_numbers_that_came(downloaded: Path, released: Workdir) -> None:
    (downloaded / "workspace" / RESULT / "evaluation.html").write_text("the server's own page")
    finished = keep_result(downloaded, released, job_id="a" * 32, status="FINISHED:COMPLETED")
    assert finished.page is not None
    assert "the server's own page" not in finished.page.read_text()
    assert read_outcome((finished.folder / EVALUATION).read_bytes()).rows.keys() == {"east"}


def test_numbers_of_the_servers_own_making_make_no_page(downloaded: Path, released: Workdir) -> None:
    path = downloaded / "workspace" / RESULT / EVALUATION
    path.write_text(path.read_text().replace('"evaluation"', '"<script>"'))
    with pytest.raises(FederationError, match="job_failed"):
        keep_result(downloaded, released, job_id="b" * 32, status="FINISHED:COMPLETED")
    assert not (released.coordinator / "jobs" / ("b" * 32) / "evaluation.html").exists()
