"""The server's side of trying each hospital's own model on everybody's patients: nothing is asked before all agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nvflare.apis.shareable import Shareable

from evaluation_cases import evaluation_job, release_of
from fedward.errors import FederationError, FedwardError, JobRefused, SumRefused, UpdateRefused
from fedward.evaluation.outcome import model_of
from fedward.evaluation.sheet import sheet_of
from fedward.federation.consent import Consent, GivenModel, Weights, consent_to, hash_model
from fedward.identity.document import JobDocument
from fedward.identity.trusted import signer_of
from fedward.privacy.head import Head
from fedward.privacy.plan import Spent
from fedward.release.package import write_release
from fedward.settings.job import EvaluationJob
from fedward.settings.site import read_site_settings, require_identity
from fedward.site_counts import Counted
from fedward_flare import counts_exchange, exchange, models_exchange, tasks, words
from fedward_flare.demo import require_completed
from fedward_flare.evaluation_controller import EvaluationController
from fedward_flare.heads import HEADS, SeenHeads
from fedward_flare.jobs import prepare
from fedward_flare.results import EVALUATION, RESULT, FinishedJob
from fedward_flare.signed import encode_signed_job
from fedward_flare.workdir import Workdir
from sum_cases import EvaluationRun, connect, serve
from tiny_federation import training_job

SITES = ("east", "north", "south")
SIZE = sheet_of("lesions").size
NAMES = words.Names(frozenset(SITES))
HEAD = Head(5, "cd" * 32)
HEADED = {"fedward.head": (HEAD.length, HEAD.keyed_hash)}


@dataclass
class GivingSite:
    """A hospital that agrees, gives its own model, and counts each model's first weight on its one patient.

    Attributes:
        consent: What it signs.
        model: Its own.
        failures: By task, why it does not do it; None for silence.
        row: What it sends in the place of what it counts.
        tasks: What it was asked.
        brought: The models that it was brought.
        seen: What it was told of its ledger when it was asked for its model.
    """

    consent: Consent
    model: Weights | None
    failures: dict[str, Exception | None] = field(default_factory=dict)
    row: dict[str, np.ndarray] | None = None
    tasks: list[str] = field(default_factory=list)
    brought: dict[str, Weights] = field(default_factory=dict)
    seen: Head | None = None

    def answer(self, task: str, message: Shareable) -> Shareable | None:
        self.tasks.append(task)
        if task in self.failures:
            failure = self.failures[task]
            return None if failure is None else words.failure(failure)
        return words.passed(task, self._answer(task, message), NAMES)

    def _answer(self, task: str, message: Shareable) -> Shareable:
        if task == tasks.AGREE_TASK:
            return models_exchange.pack_consent(self.consent)
        if task == tasks.GIVE_TASK:
            assert {one.site for one in models_exchange.unpack_consents(message)} == set(SITES)
            self.seen = exchange.read_seen(message, site=self.consent.site)
            return models_exchange.pack_local_model(None if self.model is None else GivenModel(self.model, HEAD))
        self.brought = dict(models_exchange.read_own_models(message).models)
        rows = {
            model_of(name): np.full(SIZE, float(weights[0]))
            for name, weights in self.brought.items()
            if name != self.consent.site
        }
        rows = {"release": np.ones(SIZE), **rows} if self.row is None else self.row
        return counts_exchange.pack_counted(Counted(np.ones(SIZE), Spent(1.5, 1e-5), 2.0, rows, Head(7, "ab" * 32)))


@pytest.fixture
def run(workdir: Workdir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., EvaluationRun]:
    if not (workdir.releases / "ball-1").exists():
        write_release(workdir.releases / "ball-1", release_of(training_job()))
    serve(tmp_path, workdir, monkeypatch)

    def make(*, deadline_s: float = 20.0, **of_site: dict[str, Any]) -> EvaluationRun:
        asked = evaluation_job().model_dump() | {
            "local_models": True,
            "sites": {"minimum": 2, "deadline_s": deadline_s},
        }
        prepared = prepare(EvaluationJob.model_validate(asked), workdir)
        sites = {}
        for place, name in enumerate(SITES):
            own = {"model": np.full(4, place + 0.5, np.float32), **of_site.get(name, {})}
            consent = yes_of(workdir, prepared.document, name, own["model"])
            sites[name] = GivingSite(consent=consent, **own)
        controller = EvaluationController(encode_signed_job(prepared.signed))
        connect(controller, {name: sites[name].answer for name in SITES})
        return EvaluationRun(sites, controller, tmp_path)

    return make


def yes_of(workdir: Workdir, document: JobDocument, name: str, model: Weights | None) -> Consent:
    signer = signer_of(require_identity(read_site_settings(workdir.site_file(name))), name=name)
    return consent_to(document, signer, model_sha256=None if model is None else hash_model(model))


def test_every_hospital_gets_every_model_and_the_matrix_is_kept_by_names(run: Callable[..., EvaluationRun]) -> None:
    done = run(south={"model": None})
    assert done.go().status == "completed"
    for site in done.sites.values():
        assert site.tasks == [tasks.AGREE_TASK, tasks.GIVE_TASK, tasks.COUNT_TASK]
        assert {name: model.tolist() for name, model in site.brought.items()} == {"east": [0.5] * 4, "north": [1.5] * 4}
    outcome = done.outcome()
    assert outcome.not_given == {"south": "no_own_model"}
    assert outcome.local_models == {"east": done.sites["east"].consent.model_sha256} | {
        "north": done.sites["north"].consent.model_sha256
    }
    found = {site: {name: row[0] for name, row in rows.items()} for site, rows in outcome.rows.items()}
    assert found == {
        "east": {"release": 1.0, "of north": 1.5},
        "north": {"release": 1.0, "of east": 0.5},
        "south": {"release": 1.0, "of east": 0.5, "of north": 1.5},
    }


@pytest.mark.parametrize(
    "failure", [JobRefused("local_models_not_allowed", "of a hospital's own"), None], ids=["refused", "silent"]
)
def test_one_hospital_without_a_yes_keeps_everybodys_model_at_home(
    run: Callable[..., EvaluationRun], workdir: Workdir, failure: Exception | None
) -> None:
    done = run(deadline_s=1.0 if failure is None else 20.0, south={"failures": {tasks.AGREE_TASK: failure}})
    record = done.go()
    assert (record.status, record.code) == ("failed", "not_all_agreed")
    code = "deadline_missed" if failure is None else "local_models_not_allowed"
    assert record.sites["south"].code == code
    with pytest.raises(FederationError, match="job_failed") as caught:
        require_completed(FinishedJob(record.id, record, "", done.folder, None), workdir)
    assert f"not_all_agreed; south: {code})" in caught.value.detail
    assert {task for site in done.sites.values() for task in site.tasks} == {tasks.AGREE_TASK}
    assert not (done.folder / RESULT / EVALUATION).exists()


def test_each_hospital_is_told_before_it_gives_what_is_known_of_its_ledger_and_tells_what_it_became(
    run: Callable[..., EvaluationRun],
) -> None:
    done = run(south={"model": None}, north={"failures": {tasks.COUNT_TASK: JobRefused("wrong_round", "of a test")}})
    known = SeenHeads(done.folder / "server" / HEADS)
    known.note("east", Head(3, "ab" * 32))
    done.go()
    assert done.sites["east"].seen == Head(3, "ab" * 32)
    assert done.sites["north"].seen is None
    assert SeenHeads(done.folder / "server" / HEADS).known["north"] == HEAD, "it is known though no counts came"


def test_a_hospital_that_fails_to_give_its_model_costs_its_column_alone(run: Callable[..., EvaluationRun]) -> None:
    done = run(north={"failures": {tasks.GIVE_TASK: JobRefused("too_few_patients", "of a hospital's own")}})
    assert done.go().status == "completed"
    assert set(done.outcome().local_models or {}) == {"east", "south"}
    assert set(done.outcome().rows["north"]) == {"release", "of east", "of south"}
    assert done.outcome().not_given == {"north": "too_few_patients"}


@pytest.mark.parametrize("model", [np.ones(4, np.float32), np.full(4, np.nan, np.float32)])
def test_a_model_that_is_not_the_signed_one_goes_to_nobody(run: Callable[..., EvaluationRun], model: Weights) -> None:
    done = run()
    done.sites["east"].model = model
    assert done.go().status == "completed"
    assert {name for site in done.sites.values() for name in site.brought} == {"north", "south"}
    assert set(done.outcome().not_given) == {"east"}


@pytest.mark.parametrize(
    "row",
    [
        {"release": np.ones(SIZE), "of north": np.ones(SIZE)},
        {"release": np.ones(SIZE), "of north": -np.ones(SIZE), "of south": np.ones(SIZE)},
        {"release": np.ones(SIZE), **{f"of {name}": np.ones(SIZE) for name in ("a", "b", "c")}},
    ],
)
def test_rows_that_do_not_fit_the_models_cost_the_sites_part(
    run: Callable[..., EvaluationRun], row: dict[str, np.ndarray]
) -> None:
    done = run(east={"row": row})
    assert done.go().sites["east"].code == "malformed_message"
    assert set(done.outcome().rows) == {"north", "south"}


def test_a_job_that_asks_for_no_models_asks_for_no_yes(run: Callable[..., EvaluationRun], workdir: Workdir) -> None:
    done = run()
    plain = prepare(evaluation_job(), workdir)
    controller = EvaluationController(encode_signed_job(plain.signed))
    connect(controller, {name: site.answer for name, site in done.sites.items()})
    replace(done, controller=controller).go()
    assert done.outcome().local_models is None
    assert {tuple(site.tasks) for site in done.sites.values()} == {(tasks.COUNT_TASK,)}


@pytest.mark.parametrize(
    ("read", "content"),
    [
        (models_exchange.unpack_consent, {}),
        (models_exchange.unpack_consent, {"fedward.consent": "text"}),
        (models_exchange.unpack_consent, {"fedward.consent": b"{}"}),
        (models_exchange.unpack_consents, {"fedward.consents": "text"}),
        (models_exchange.unpack_consents, {"fedward.consents": [7]}),
        (models_exchange.unpack_local_model, {"fedward.local_model": [1.0], **HEADED}),
        (models_exchange.unpack_local_model, {"fedward.local_model": np.ones(4), **HEADED}),
        (models_exchange.unpack_local_model, {"fedward.local_model": np.ones((2, 2), np.float32), **HEADED}),
        (models_exchange.unpack_local_model, {"fedward.local_model": np.full(4, np.inf, np.float32), **HEADED}),
        (models_exchange.unpack_local_model, {"fedward.local_model": np.ones(4, np.float32)}),
        (models_exchange.unpack_local_model, {"fedward.local_model": np.ones(4, np.float32), "fedward.head": "text"}),
        (models_exchange.read_own_models, {"fedward.local_models": [np.ones(4, np.float32)]}),
        (models_exchange.read_own_models, {"fedward.local_models": {7: np.ones(4, np.float32)}}),
        (models_exchange.read_own_models, {"fedward.local_models": {"east": np.full(4, np.nan, np.float32)}}),
        (models_exchange.read_own_models, {"fedward.local_models": {"east": b"weights"}}),
    ],
)
def test_a_message_that_is_none_is_refused(read: Callable[[Shareable], object], content: dict[str, Any]) -> None:
    message = Shareable()
    message.update(content)
    kinds: tuple[type[FedwardError], ...] = (UpdateRefused, SumRefused)
    with pytest.raises(kinds, match=r"malformed_message|not_finite"):
        read(message)
