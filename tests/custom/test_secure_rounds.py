"""The encrypted sum as controller and hospitals carry it: real keys, real masks, and sites that can be scripted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nvflare.apis.shareable import Shareable
from safetensors.numpy import load_file

from fedward.errors import FedwardError
from fedward.federation.record import JobRecord
from fedward.federation.secure_job import quantiser_of, sums_at_the_end
from fedward.hospital import Evaluated, TrainedRound
from fedward.identity.document import JobDocument
from fedward.imaging.traits import trait_keys
from fedward.models.initial import initial_weights
from fedward.privacy.sealed import Answer
from fedward.settings.job import Exchange, PrivateTraining, Sites, TrainingJob
from fedward.site_sum import SiteSum
from fedward_flare import exchange, sum_exchange, tasks, words
from fedward_flare.jobs import prepare
from fedward_flare.results import RESULT
from fedward_flare.signed import encode_signed_job
from fedward_flare.training_controller import TrainController
from fedward_flare.workdir import Workdir
from sum_cases import answer_of, connect, run_job, serve

SITES = ("east", "north", "south")
Deed = Callable[["Hospital", str, Shareable], None]


@dataclass
class Hospital:
    """A hospital whose update is ``step`` everywhere; ``before`` may do harm before a message is answered."""

    sum: SiteSum
    step: float = 0.01
    weight: int = 10
    before: Deed = lambda *_: None
    updates: list[np.ndarray] = field(default_factory=list)

    def answer(self, task: str, message: Shareable) -> Shareable | None:
        try:
            self.before(self, task, message)
            return self._answer(task, message)
        except FedwardError as error:
            return words.failure(error)
        except Silent:
            return None

    def _answer(self, task: str, message: Shareable) -> Shareable:
        answer = answer_of(self.sum, task, message)
        return self._trained(task, message) if answer is None else answer

    def _trained(self, task: str, message: Shareable) -> Shareable:
        model, boxes = exchange.unpack_model(message), sum_exchange.boxes_of(message)
        update = np.full(model.weights.size, self.step, np.float32) if task == tasks.TRAIN_TASK else None
        totals = dict.fromkeys(self.sum.quantiser.metrics, 4.5)
        answer = Answer(update, self.weight, totals)
        if task == tasks.EVALUATE_TASK and not sums_at_the_end(self.sum.job):
            return exchange.pack_evaluated(Evaluated(self.weight, {}))
        digest = exchange_digest(model.weights)
        masked = self.sum.masked(model.number, answer, model_sha256=digest, boxes=boxes)
        self.updates.append(masked.vector)
        if task == tasks.EVALUATE_TASK:
            return exchange.pack_evaluated(Evaluated(self.weight, {}, masked=masked))
        return exchange.pack_trained(TrainedRound(masked, self.weight, {}))


class Silent(Exception):
    """A site that does not answer."""


def exchange_digest(weights: np.ndarray) -> str:
    import hashlib

    return hashlib.sha256(weights.tobytes()).hexdigest()


@dataclass
class Run:
    """One job, its hospitals and what came of it."""

    document: JobDocument
    hospitals: dict[str, Hospital]
    controller: TrainController
    folder: Path

    def go(self) -> JobRecord:
        return run_job(self.controller, self.folder)

    def model(self) -> np.ndarray:
        parameters = load_file(self.folder / RESULT / "model.safetensors")
        return np.concatenate([parameters[name].ravel() for name in sorted(parameters)])


@pytest.fixture
def run(workdir: Workdir, job: TrainingJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    serve(tmp_path, workdir, monkeypatch)

    def make(deadline_s: float = 20.0, privacy: PrivateTraining | None = None, **hospitals: dict[str, Any]) -> Run:
        asked = job.model_copy(
            update={
                "exchange": Exchange(mode="secure-sum", max_update_norm=10.0),
                "sites": Sites(minimum=3, deadline_s=deadline_s),
                "privacy": privacy,
            }
        )
        prepared = prepare(asked, workdir)
        quantiser = quantiser_of(asked, size=initial_weights(asked).size, sites=3)
        made = {
            name: Hospital(
                SiteSum(
                    workdir.site_file(name),
                    prepared.document,
                    asked,
                    quantiser,
                    tmp_path / name,
                    lambda: datetime.now(UTC),
                ),
                **hospitals.get(name, {}),
            )
            for name in SITES
        }
        for name in SITES:
            (tmp_path / name).mkdir()
        controller = TrainController(encode_signed_job(prepared.signed))
        connect(controller, {name: made[name].answer for name in SITES})
        return Run(prepared.document, made, controller, tmp_path)

    return make


def once(task: str, deed: Deed) -> Deed:
    """Do ``deed`` at the first message of this kind."""
    left = [1]

    def before(hospital: Hospital, found: str, message: Shareable) -> None:
        if found == task and left:
            left.pop()
            deed(hospital, found, message)

    return before


def be_silent(*_: Any) -> None:
    raise Silent


def lose_everything(hospital: Hospital, *_: Any) -> None:
    for path in hospital.sum.folder.iterdir():
        path.unlink()


def expected(run: Run, mean: float) -> np.ndarray:
    return np.sort(initial_weights(run.controller._job)) + np.float32(mean)


def test_the_model_moves_by_the_weighted_mean_that_the_server_cannot_see(run: Callable[..., Run]) -> None:
    one = run(north={"step": 0.04, "weight": 20}, east={"step": 0.0}, south={"step": 0.0})
    record = one.go()
    assert (record.status, record.code) == ("completed", None)
    assert [entry.weights for entry in record.rounds] == [{"north": 20, "east": 10, "south": 10}] * 2
    np.testing.assert_allclose(np.sort(one.model()), expected(one, 0.04), atol=1e-5)


def test_two_identical_updates_leave_as_unrelated_vectors(run: Callable[..., Run]) -> None:
    one = run()
    one.go()
    first, second = one.hospitals["north"].updates
    size = first.size
    for a, b in ((first, second), (first, one.hospitals["east"].updates[0])):
        assert abs(np.corrcoef(a.astype(float), b.astype(float))[0, 1]) < 5 / np.sqrt(size)
    assert np.unique(first).size > 0.99 * size, "a constant update leaves no trace of being constant"


def test_noised_totals_travel_inside_the_sum_and_choose_the_model(run: Callable[..., Run]) -> None:
    privacy = PrivateTraining(
        sampling_rate=0.5, noise_multiplier=1.0, clip_norm=1.0, expected_patients=4, metric_releases=2
    )
    record = run(privacy=privacy).go()
    assert record.status == "completed"
    assert [entry.score for entry in record.rounds] == [pytest.approx(1.0, abs=1e-4)] * 2, "4.5 of 4.5 at every site"
    assert all(entry.metrics == {name: {} for name in SITES} for entry in record.rounds)


def test_counts_of_training_images_travel_inside_the_sum_of_the_first_round(run: Callable[..., Run]) -> None:
    privacy = PrivateTraining(
        sampling_rate=0.5, noise_multiplier=1.0, clip_norm=1.0, expected_patients=4, range_noise_multiplier=2.0
    )
    one = run(privacy=privacy)
    record = one.go()
    assert record.status == "completed"
    assert set(record.trained_on) == set(trait_keys(one.controller._job.input))
    assert list(record.trained_on.values()) == pytest.approx([3 * 4.5] * len(record.trained_on), abs=1e-3)
    assert all(entry.metrics == {name: {} for name in SITES} for entry in record.rounds[:1])


@pytest.mark.parametrize("task", [tasks.VOTE_TOPIC, tasks.OPEN_TOPIC])
def test_a_site_that_is_lost_after_its_vector_makes_the_round_begin_again_with_the_same_update(
    run: Callable[..., Run], task: str
) -> None:
    one = run(north={"before": once(task, be_silent)})
    record = one.go()
    assert (record.status, record.code) == ("completed", None)
    assert [sorted(entry.weights) for entry in record.rounds] == [sorted(SITES)] * 2
    np.testing.assert_allclose(np.sort(one.model()), expected(one, 0.02), atol=1e-5)


def test_a_site_that_lost_its_keys_gets_fresh_ones(run: Callable[..., Run]) -> None:
    one = run(north={"before": once(tasks.VOTE_TOPIC, lose_everything)})
    record = one.go()
    assert record.status == "completed"
    np.testing.assert_allclose(np.sort(one.model()), expected(one, 0.02), atol=1e-5)


def test_below_the_threshold_nothing_is_opened(run: Callable[..., Run]) -> None:
    one = run(deadline_s=1.0, north={"before": lambda _, task, __: be_silent() if task == tasks.TRAIN_TASK else None})
    record = one.go()
    assert (record.status, record.code) == ("failed", "too_few_sites")
    assert not (one.folder / RESULT / "model.safetensors").exists()


def test_a_site_that_was_told_another_model_makes_the_round_fail(run: Callable[..., Run]) -> None:
    def another_model(_: Hospital, task: str, message: Shareable) -> None:
        if task == tasks.TRAIN_TASK:
            message["fedward.weights"] = message["fedward.weights"] + np.float32(1e-3)

    one = run(north={"before": lambda h, t, m: another_model(h, t, m)})
    record = one.go()
    assert record.status == "failed"
    assert not (one.folder / RESULT / "model.safetensors").exists()


def test_the_servers_folder_holds_no_vector_of_a_site(run: Callable[..., Run]) -> None:
    one = run()
    one.go()
    vectors = [vector.tobytes() for hospital in one.hospitals.values() for vector in hospital.updates]
    for path in (*(one.folder / "server").rglob("*"), *(one.folder / RESULT).rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            assert all(vector[:64] not in content for vector in vectors), path.name
