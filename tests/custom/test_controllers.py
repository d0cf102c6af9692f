"""The controllers with sites that are functions, so that every answer and every silence can be scripted."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nvflare.apis.client import Client
from nvflare.apis.controller_spec import ClientTask, Task
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal
from safetensors.numpy import load_file

from fedward.errors import JobRefused
from fedward.federation.record import JobRecord
from fedward.hospital import Evaluated, TrainedRound
from fedward.imaging.traits import trait_keys
from fedward.models.initial import initial_weights
from fedward.settings.algorithms import AnyAlgorithm, CoordinateMedian, FedAvgM, Scaffold
from fedward.settings.job import Sites, TrainingJob
from fedward_flare import exchange, tasks, words
from fedward_flare.controllers import JobController
from fedward_flare.jobs import prepare
from fedward_flare.progress import PROGRESS_TOPIC, parse_progress
from fedward_flare.results import RESULT
from fedward_flare.signed import encode_signed_job
from fedward_flare.training_controller import TrainController
from fedward_flare.workdir import Workdir
from stub_communicator import Answer, Site, StubCommunicator

SITES = ("east", "north", "south")


class StubEngine:
    def __init__(self) -> None:
        self.commands: dict[str, Any] = {}

    def register_app_command(self, topic: str, function: Any) -> None:
        self.commands[topic] = function


class Bench:
    """One controller at work: what it was asked to do, and what it wrote."""

    def __init__(self, controller: JobController, folder: Path, sites: dict[str, Site]) -> None:
        self.controller, self.folder = controller, folder
        self.panics: list[str] = []
        controller._engine = StubEngine()
        controller.communicator = self.communicator = StubCommunicator(sites)
        controller.system_panic = lambda reason, _: self.panics.append(reason)

    def run(self, signal: Signal | None = None) -> JobRecord:
        self.controller.start_controller(FLContext())
        self.controller.control_flow(signal or Signal(), FLContext())
        return JobRecord.model_validate_json((self.folder / RESULT / "result.json").read_bytes())


@pytest.fixture
def bench(workdir: Workdir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Bench]:
    monkeypatch.setattr("fedward_flare.controllers.run_folder", lambda _: tmp_path)
    monkeypatch.setattr("fedward_flare.summing_controller.server_folder", lambda _: tmp_path / "server")

    def make(job: TrainingJob, **sites: Site) -> Bench:
        text = encode_signed_job(prepare(job, workdir).signed)
        return Bench(TrainController(text), tmp_path, {name: sites.get(name, trainer()) for name in SITES})

    return make


def trainer(step: float = 0.01, weight: int = 10, scores: tuple[float, ...] = ()) -> Site:
    """A site whose update is ``step`` everywhere and whose score of the model of round n is ``scores[n - 1]``."""

    def answer(task: str, message: Shareable) -> Answer:
        model = exchange.unpack_model(message)
        score = {"validation_score": scores[model.number - 2]} if scores and model.number > 1 else {}
        if task == tasks.EVALUATE_TASK:
            return exchange.pack_evaluated(Evaluated(weight=weight, metrics=score))
        update = np.full(model.weights.size, step, dtype=np.float32)
        return exchange.pack_trained(TrainedRound(update=update, weight=weight, metrics=score))

    return answer


def failing(*rounds: int) -> Site:
    good = trainer()

    def answer(task: str, message: Shareable) -> Answer:
        if exchange.unpack_model(message).number in rounds:
            return words.failure(JobRefused("too_few_patients", "3"))
        return good(task, message)

    return answer


def silent(task: str, message: Shareable) -> Answer:
    return None


def with_deadline(job: TrainingJob, deadline_s: float, minimum: int = 2) -> TrainingJob:
    return job.model_copy(update={"sites": Sites(minimum=minimum, deadline_s=deadline_s)})


def kept_model(bench: Bench) -> np.ndarray:
    parameters = load_file(bench.folder / RESULT / "model.safetensors")
    return np.concatenate([parameters[name].ravel() for name in sorted(parameters)])


def test_each_round_adds_the_mean_weighted_by_the_sites_public_weights(
    job: TrainingJob, bench: Callable[..., Bench]
) -> None:
    one = bench(job, north=trainer(step=0.04, weight=20), east=trainer(step=0.0), south=trainer(step=0.0))
    record = one.run()
    assert record.status == "completed"
    assert [entry.weights for entry in record.rounds] == [{"north": 20, "east": 10, "south": 10}] * 2
    start = np.sort(initial_weights(job))
    # Two rounds of 0.04 * 20 / 40.
    np.testing.assert_allclose(np.sort(kept_model(one)), start + 0.04, atol=1e-6)


def with_algorithm(job: TrainingJob, algorithm: AnyAlgorithm) -> TrainingJob:
    return job.model_copy(update={"algorithm": algorithm})


def test_an_algorithms_state_goes_on_from_round_to_round(job: TrainingJob, bench: Callable[..., Bench]) -> None:
    one = bench(with_algorithm(job, FedAvgM(name="fedavgm", momentum=0.5)))
    assert one.run().status == "completed"
    # Every mean update is 0.01: the velocity is 0.01 after the first round and 0.5 * 0.01 + 0.01 after the second.
    np.testing.assert_allclose(np.sort(kept_model(one)), np.sort(initial_weights(job)) + 0.025, atol=1e-6)


def test_a_median_leaves_out_the_site_that_is_far_off(job: TrainingJob, bench: Callable[..., Bench]) -> None:
    job = job.model_copy(update={"exchange": job.exchange.model_copy(update={"max_update_norm": 1e6})})
    far_off = {"north": trainer(step=50.0, weight=1000), "south": trainer(step=0.02)}
    one = bench(with_algorithm(job, CoordinateMedian(name="median")), **far_off)
    record = one.run()
    assert set(record.rounds[0].weights) == set(SITES)
    np.testing.assert_allclose(np.sort(kept_model(one)), np.sort(initial_weights(job)) + 0.04, atol=1e-6)


def test_scaffold_sends_the_servers_control_and_which_round_of_each_site_is_in_it(
    job: TrainingJob, bench: Callable[..., Bench]
) -> None:
    training = job.training.model_copy(update={"optimiser": "sgd", "rounds": 3, "schedule": "constant"})
    job = with_algorithm(job.model_copy(update={"training": training}), Scaffold(name="scaffold"))
    seen: dict[int, exchange.GlobalModel] = {}
    fails_twice = failing(1, 2)

    def south(task: str, message: Shareable) -> Answer:
        model = exchange.unpack_model(message)
        seen[model.number] = model
        return fails_twice(task, message)

    record = bench(job, north=trainer(step=0.04, weight=20), south=south).run()
    assert record.status == "completed"
    controls = {number: model.control for number, model in seen.items()}
    assert controls[4] is None, "the closing validation trains nothing"
    assert [controls[number].counted for number in (1, 2, 3)] == [{}, {"north": 1, "east": 1}, {"north": 2, "east": 2}]
    assert not controls[1].numbers.any()
    # The mean update is 0.03 in either round, and two steps of 1e-3 are a distance of 0.002: -0.03 / 0.002.
    np.testing.assert_allclose(controls[2].numbers, -15, rtol=1e-5)
    np.testing.assert_allclose(controls[3].numbers, -15, rtol=1e-5)


def with_patience(job: TrainingJob, rounds: int, patience: int | None) -> TrainingJob:
    return job.model_copy(update={"training": job.training.model_copy(update={"rounds": rounds, "patience": patience})})


def test_a_job_that_stops_getting_better_ends_with_its_best_model(
    job: TrainingJob, bench: Callable[..., Bench]
) -> None:
    scores = (0.5, 0.8, 0.3, 0.2, 0.1, 0.1, 0.1, 0.1)
    record = bench(with_patience(job, 8, 2), **{name: trainer(scores=scores) for name in SITES}).run()
    # Round 5 is where the model of round 4, the second one after the best, is scored.
    assert (record.status, record.best_round, len(record.rounds)) == ("completed", 2, 5)
    assert record.rounds[-1].score == pytest.approx(0.1), "the last model is validated too"


@pytest.mark.parametrize("patience", [None, 7])
def test_without_patience_or_with_enough_of_it_every_round_is_done(
    patience: int | None, job: TrainingJob, bench: Callable[..., Bench]
) -> None:
    scores = (0.5, 0.8, 0.3, 0.2, 0.1, 0.1, 0.1, 0.1)
    record = bench(with_patience(job, 8, patience), **{name: trainer(scores=scores) for name in SITES}).run()
    assert (len(record.rounds), record.best_round) == (8, 2)


def test_without_any_score_no_patience_runs_out(job: TrainingJob, bench: Callable[..., Bench]) -> None:
    assert len(bench(with_patience(job, 5, 1)).run().rounds) == 5


def test_the_model_with_the_best_score_is_kept_and_named_by_its_hash(
    job: TrainingJob, bench: Callable[..., Bench]
) -> None:
    falling = {name: trainer(scores=(0.8, 0.3)) for name in SITES}
    one = bench(job, **falling)
    record = one.run()
    assert (record.best_round, record.best_score) == (1, 0.8)
    assert [entry.score for entry in record.rounds] == [pytest.approx(0.8), pytest.approx(0.3)]
    after_one_round = initial_weights(job) + np.float32(0.01)
    assert record.weights_sha256 == hashlib.sha256(after_one_round.tobytes()).hexdigest()
    np.testing.assert_allclose(np.sort(kept_model(one)), np.sort(after_one_round), atol=1e-6)


def test_the_last_round_is_validated_too(job: TrainingJob, bench: Callable[..., Bench]) -> None:
    one = bench(job, **{name: trainer(scores=(0.1, 0.9)) for name in SITES})
    record = one.run()
    assert record.best_round == 2
    assert [name for name, _ in one.communicator.asked] == [tasks.TRAIN_TASK, tasks.TRAIN_TASK, tasks.EVALUATE_TASK]


def test_without_any_shared_score_the_last_model_is_kept(job: TrainingJob, bench: Callable[..., Bench]) -> None:
    record = bench(job).run()
    assert (record.best_round, record.best_score) == (2, None)


def test_numbers_of_a_site_that_shares_none_are_not_in_the_record(
    job: TrainingJob, bench: Callable[..., Bench]
) -> None:
    record = bench(job, north=trainer(scores=(0.5, 0.6))).run()
    assert set(record.rounds[0].metrics.get("east", {})) == set()
    assert record.rounds[0].metrics["north"] == {"validation_score": 0.5}


def test_what_training_images_are_like_is_added_up_in_the_first_round_over_the_sites_that_say_so(
    job: TrainingJob, bench: Callable[..., Bench]
) -> None:
    key = trait_keys(job.input)[4]

    def telling(count: float) -> Site:
        good = trainer()

        def answer(task: str, message: Shareable) -> Answer:
            told = good(task, message)
            if task == tasks.TRAIN_TASK and told is not None:
                told["fedward.metrics"] = {key: count, "trained_nonsense": 7.0}
            return told

        return answer

    record = bench(job, north=telling(3.0), east=telling(4.0)).run()
    assert record.trained_on == {name: 7.0 * (name == key) for name in trait_keys(job.input)}
    assert bench(job).run().trained_on == {}


def test_a_sites_error_costs_its_contribution_of_that_round_alone(
    job: TrainingJob, bench: Callable[..., Bench]
) -> None:
    record = bench(job, south=failing(1)).run()
    assert record.status == "completed"
    assert record.rounds[0].failures == {"south": "too_few_patients"}
    assert set(record.rounds[1].weights) == set(SITES)


@pytest.mark.parametrize(
    ("update", "code"),
    [(np.nan, "not_finite"), (np.inf, "not_finite"), (1.0, "norm_exceeded")],
)
def test_a_bad_update_is_its_sites_failure(
    update: float, code: str, job: TrainingJob, bench: Callable[..., Bench]
) -> None:
    record = bench(job, south=trainer(step=update)).run()
    assert record.status == "completed"
    assert [entry.failures for entry in record.rounds] == [{"south": code}] * 2


def test_a_silent_site_is_waited_for_once(job: TrainingJob, bench: Callable[..., Bench]) -> None:
    job = with_deadline(job, 0.6)
    one = bench(job, south=silent)
    started_s = time.monotonic()
    record = one.run()
    assert record.status == "completed"
    assert [entry.failures for entry in record.rounds] == [{"south": "deadline_missed"}] * 2
    assert record.rounds[0].seconds >= 0.6
    assert record.rounds[1].seconds < 0.5
    assert time.monotonic() - started_s < 5
    assert all(targets == SITES for _, targets in one.communicator.asked), "a silent site may come back"


def test_a_site_that_answered_late_is_waited_for_again(job: TrainingJob, bench: Callable[..., Bench]) -> None:
    job = with_deadline(job, 0.6)
    job = job.model_copy(update={"training": job.training.model_copy(update={"rounds": 3})})
    holder: list[Bench] = []

    def south(task: str, message: Shareable) -> Answer:
        if exchange.unpack_model(message).number < 3:
            return None
        time.sleep(0.3)  # the others answer at once: only a round that waits for this site has it
        return trainer()(task, message)

    def east(task: str, message: Shareable) -> Answer:
        if exchange.unpack_model(message).number == 2:
            late = (Client("south", "token"), tasks.TRAIN_TASK, "id", Shareable(), FLContext())
            holder[0].controller.process_result_of_unknown_task(*late)
        return trainer()(task, message)

    holder.append(bench(job, south=south, east=east))
    record = holder[0].run()
    assert record.rounds[0].failures == {"south": "deadline_missed"}
    assert record.rounds[1].seconds < 0.5
    assert "south" in record.rounds[2].weights


def test_an_answer_between_the_deadline_and_the_end_of_the_task_changes_no_round_and_is_heard(
    job: TrainingJob, bench: Callable[..., Bench]
) -> None:
    cancelled: list[Task] = []

    def south(task: str, message: Shareable) -> Answer:
        if exchange.unpack_model(message).number == 1:
            return None
        time.sleep(0.3)  # the others answer at once: only a round that waits for this site has it
        return trainer()(task, message)

    def cancel(task: Task, *_: object) -> None:
        cancelled.append(task)
        if len(cancelled) == 1:
            late = ClientTask(Client("south", "token"), task)
            late.result = trainer()(task.name, task.data)
            task.result_received_cb(client_task=late, fl_ctx=FLContext())

    one = bench(with_deadline(job, 0.6), south=south)
    one.communicator.cancel_task = cancel
    record = one.run()
    assert record.rounds[0].failures == {"south": "deadline_missed"}
    assert set(record.rounds[0].weights) == {"east", "north"}
    assert "south" in record.rounds[1].weights


def test_too_few_sites_fail_the_job_with_a_record_of_why(job: TrainingJob, bench: Callable[..., Bench]) -> None:
    one = bench(job, south=failing(2), east=failing(2))
    record = one.run()
    assert (record.status, record.code) == ("failed", "too_few_sites")
    assert one.panics == ["too_few_sites"]
    assert record.rounds[1].failures == {"south": "too_few_patients", "east": "too_few_patients"}


def test_an_aborted_job_says_so_within_a_second(job: TrainingJob, bench: Callable[..., Bench]) -> None:
    signal = Signal()
    job = with_deadline(job, 60)
    threading.Timer(0.2, signal.trigger, args=("abort",)).start()
    started_s = time.monotonic()
    record = bench(job, south=silent).run(signal)
    assert (record.status, record.code) == ("aborted", "aborted")
    assert time.monotonic() - started_s < 2


def test_the_curves_of_the_whole_federation_are_written(job: TrainingJob, bench: Callable[..., Bench]) -> None:
    one = bench(job, **{name: trainer(scores=(0.1, 0.2)) for name in SITES})
    one.run()
    assert list((one.folder / RESULT / "tensorboard").glob("events.out.tfevents.*"))


def test_whoever_watches_gets_the_record_as_it_stands(job: TrainingJob, bench: Callable[..., Bench]) -> None:
    one = bench(job)
    record = one.run()
    answer = one.controller._engine.commands[PROGRESS_TOPIC](PROGRESS_TOPIC, {}, FLContext())
    assert parse_progress(answer) == record
    assert parse_progress({}) is None
    assert parse_progress({"record": {"status": "splendid"}}) is None
