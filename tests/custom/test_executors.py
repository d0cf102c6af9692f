from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal

from fedward.errors import FedwardError, JobRefused, Stopped, UpdateRefused
from fedward.federation.consent import Consent, GivenModel
from fedward.hospital import Evaluated, RoundTask, TrainedRound
from fedward.identity.document import JobDocument, SignedJob, parse_document
from fedward.privacy.head import Head
from fedward.release.package import ReleaseParts
from fedward.settings.job import TrainingJob
from fedward_flare import exchange, models_exchange, tasks
from fedward_flare.exchange import GlobalModel
from fedward_flare.executors import EvaluationExecutor, InferenceExecutor, PublishExecutor, TrainExecutor
from fedward_flare.jobs import prepare
from fedward_flare.signed import encode_signed_job
from fedward_flare.workdir import Workdir

WEIGHTS = np.ones(4, dtype=np.float32)
HEAD = Head(7, "ab" * 32)


class StubHospital:
    """Answers with what it was asked, or raises what it was given."""

    def __init__(self, error: Exception | None = None, refusal: FedwardError | None = None) -> None:
        self.error, self.refusal = error, refusal
        self.site = SimpleNamespace(name="north")
        self.accepted = self.signers_checked = 0
        self.noted: list[tuple[str, dict[str, str | int]]] = []
        self.audit = SimpleNamespace(note=lambda kind, **facts: self.noted.append((kind, facts)))
        self.installed: list[ReleaseParts] = []

    def accept(self, signed: SignedJob) -> JobDocument:
        self.accepted += 1
        if self.refusal:
            raise self.refusal
        return parse_document(signed.document)

    def check_signer(self, signed: SignedJob) -> None:
        self.signers_checked += 1

    def train_round(self, task: RoundTask, *, should_stop: Callable[[], bool]) -> TrainedRound:
        if self.error:
            raise self.error
        if should_stop():
            raise Stopped("aborted", "told to")
        self.seen = task.seen
        metrics = {"validation_score": 0.5} if task.number > 1 else {}
        return TrainedRound(update=task.weights * np.float32(task.number), weight=10, metrics=metrics)

    def evaluate(self, task: RoundTask, *, should_stop: Callable[[], bool]) -> Evaluated:
        return Evaluated(weight=20, metrics={"validation_score": 0.25})

    def give_model(
        self, document: JobDocument, consents: tuple[Consent, ...], *, seen: Head | None, should_stop: object
    ) -> GivenModel:
        self.seen = seen
        return GivenModel(WEIGHTS, HEAD)

    def install(self, document: JobDocument, parts: ReleaseParts) -> None:
        self.installed.append(parts)

    def infer(self, document: JobDocument, *, should_stop: Callable[[], bool]) -> dict[str, int]:
        return {"findings": 15}


@pytest.fixture
def text(job: TrainingJob, workdir: Workdir) -> str:
    return encode_signed_job(prepare(job, workdir).signed)


@pytest.fixture
def site_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FEDWARD_SITE_FILE", str(tmp_path / "site.toml"))
    return tmp_path / "site.toml"


def executor_of(kind: type, text: str, hospital: StubHospital, monkeypatch: pytest.MonkeyPatch) -> TrainExecutor:
    monkeypatch.setattr(kind, "_open_hospital", lambda _: hospital)
    return kind(text)


def model(number: int = 2) -> Shareable:
    return exchange.pack_model(
        GlobalModel(number=number, weights=WEIGHTS, heads={"north": HEAD, "east": Head(1, "cd" * 32)})
    )


def do(executor: TrainExecutor, task: str, message: Shareable, signal: Signal | None = None) -> Shareable:
    return executor.execute(task, message, FLContext(), signal or Signal())


def test_one_task_validates_and_trains(text: str, site_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hospital = StubHospital()
    executor = executor_of(TrainExecutor, text, hospital, monkeypatch)
    trained = exchange.unpack_trained(do(executor, tasks.TRAIN_TASK, model(number=3)))
    np.testing.assert_array_equal(trained.update, WEIGHTS * 3)
    assert trained.metrics == {"validation_score": 0.5}
    assert hospital.seen == HEAD, "a site is told what the server knows of its own ledger"
    do(executor, tasks.TRAIN_TASK, model(number=4))
    assert hospital.accepted == 1, "a job is accepted once in a process, not once a round"
    assert hospital.signers_checked == 2, "the site file may revoke its signer between two rounds"


def test_who_gives_its_own_model_is_told_what_the_server_knows_of_its_ledger(
    text: str, site_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hospital = StubHospital()
    executor = executor_of(EvaluationExecutor, text, hospital, monkeypatch)
    message = models_exchange.pack_consents((), {"north": HEAD, "east": Head(1, "cd" * 32)})
    given = models_exchange.unpack_local_model(do(executor, tasks.GIVE_TASK, message))
    assert hospital.seen == HEAD
    assert given is not None
    assert given.head == HEAD


def test_what_leaves_and_what_is_refused_stands_in_the_audit(
    text: str, site_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hospital = StubHospital()
    executor = executor_of(TrainExecutor, text, hospital, monkeypatch)
    do(executor, tasks.TRAIN_TASK, model())
    hospital.error = JobRefused("privacy_spent", "nobody can afford it")
    do(executor, tasks.TRAIN_TASK, model())
    hospital.error = RuntimeError("/archive/patient")
    do(executor, tasks.TRAIN_TASK, model())
    (kind, sent), *refusals = hospital.noted
    assert (kind, sent["message"]) == ("sent", tasks.TRAIN_TASK)
    assert WEIGHTS.nbytes < int(sent["bytes"]) < WEIGHTS.nbytes + 400
    assert refusals == [
        ("refusal", {"what": tasks.TRAIN_TASK, "code": code}) for code in ("privacy_spent", "internal_error")
    ]


def test_the_closing_task_only_validates(text: str, site_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executor = executor_of(TrainExecutor, text, StubHospital(), monkeypatch)
    evaluated = exchange.unpack_evaluated(do(executor, tasks.EVALUATE_TASK, model()))
    assert (evaluated.weight, evaluated.metrics) == (20, {"validation_score": 0.25})


def test_a_release_reaches_the_hospital_as_bytes(text: str, site_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hospital = StubHospital()
    parts = ReleaseParts(model=b"m", passport=b"p", signature=b"s")
    answer = do(
        executor_of(PublishExecutor, text, hospital, monkeypatch), tasks.PUBLISH_TASK, exchange.pack_release(parts)
    )
    assert hospital.installed == [parts]
    assert exchange.failure_of(answer) is None


def test_inference_gives_counts_alone(text: str, site_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executor = executor_of(InferenceExecutor, text, StubHospital(), monkeypatch)
    assert exchange.unpack_counts(do(executor, tasks.INFER_TASK, Shareable())) == {"findings": 15}


def test_inference_with_a_model_of_the_servers_is_refused_and_noted(
    text: str, site_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hospital = StubHospital()
    executor = executor_of(InferenceExecutor, text, hospital, monkeypatch)
    for brought in (exchange.pack_model(GlobalModel(1, WEIGHTS)), Shareable({"anything": 0})):
        assert exchange.failure_of(do(executor, tasks.INFER_TASK, brought)) == "foreign_model"
    assert ("refusal", {"what": tasks.INFER_TASK, "code": "foreign_model"}) in hospital.noted


@pytest.mark.parametrize(
    ("hospital", "code"),
    [
        (StubHospital(error=UpdateRefused("not_finite", "NaN after step 3")), "not_finite"),
        (StubHospital(refusal=JobRefused("too_many_rounds", "at most 1")), "too_many_rounds"),
        (StubHospital(error=MemoryError("patient 4711")), "internal_error"),
    ],
    ids=["training", "refusal", "unforeseen"],
)
def test_an_error_leaves_as_a_code_and_is_told_in_the_sites_own_log(
    hospital: StubHospital, code: str, text: str, site_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = do(executor_of(TrainExecutor, text, hospital, monkeypatch), tasks.TRAIN_TASK, model())
    assert exchange.failure_of(answer) == code
    assert "4711" not in str(answer)
    log = site_file.parent / "errors.log"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    told = log.read_text()
    if code == "internal_error":
        assert "Traceback" in told
        assert "patient 4711" in told
    else:
        assert code in told


def test_a_malformed_task_never_reaches_the_hospital(
    text: str, site_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hospital = StubHospital()
    answer = do(executor_of(TrainExecutor, text, hospital, monkeypatch), tasks.TRAIN_TASK, Shareable())
    assert exchange.failure_of(answer) == "malformed_message"
    assert hospital.accepted == 0


def test_the_abort_signal_stops_training(text: str, site_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signal = Signal()
    signal.trigger("abort")
    answer = do(executor_of(TrainExecutor, text, StubHospital(), monkeypatch), tasks.TRAIN_TASK, model(), signal)
    assert exchange.failure_of(answer) == "aborted"


def test_a_site_without_a_site_file_refuses(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEDWARD_SITE_FILE", raising=False)
    assert exchange.failure_of(do(TrainExecutor(text), tasks.TRAIN_TASK, model())) == "missing_file"


def test_an_argument_that_is_no_signed_job_is_refused(site_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executor = executor_of(TrainExecutor, "bm90IGEgam9i", StubHospital(), monkeypatch)
    assert exchange.failure_of(do(executor, tasks.TRAIN_TASK, model())) == "not_canonical"
