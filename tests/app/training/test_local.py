from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fedward.errors import ModelError, SourceError, Stopped
from fedward.imaging.cases import SiteData
from fedward.models.initial import initial_weights
from fedward.models.networks import build
from fedward.models.runtime import Runtime
from fedward.models.sliding_window import predict_image
from fedward.models.weights import write_weights
from fedward.settings.algorithms import FedProx
from fedward.settings.job import TrainingJob
from fedward.training import batches as batches_module
from fedward.training.local import LocalResult, train
from fedward.training.optimiser import local_distance
from small_cases import job_with, site_at, studies_in
from training_cases import RUNTIME, site_data, trained

JOB = job_with(augmentation={"noise": 0.05})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> SiteData:
    folder = tmp_path_factory.mktemp("site")
    return site_data(folder, studies_in(folder / "dicom", 5), JOB)


def one_round(data: SiteData, number: int = 1, **changes: object) -> LocalResult:
    return train(initial_weights(JOB), data, JOB, round_number=number, runtime=RUNTIME, **changes)


def test_the_same_arguments_give_the_same_update_bit_for_bit(data: SiteData) -> None:
    first, again = one_round(data), one_round(data)
    np.testing.assert_array_equal(first.update, again.update)
    np.testing.assert_array_equal(first.optimiser_state.second_moment, again.optimiser_state.second_moment)
    assert first.loss == again.loss


def test_dropout_too_comes_from_the_seed(data: SiteData) -> None:
    job = JOB.model_copy(update={"network": JOB.network.model_copy(update={"dropout": 0.3})})
    weights = initial_weights(job)
    updates = [train(weights, data, job, round_number=1, runtime=RUNTIME).update for _ in range(2)]
    np.testing.assert_array_equal(*updates)


def test_another_round_sees_other_patches(data: SiteData) -> None:
    assert (one_round(data, 2).update != one_round(data, 3).update).any()


def test_the_update_is_after_minus_before(data: SiteData) -> None:
    result = one_round(data)
    assert result.update.dtype == np.float32
    assert result.update.shape == initial_weights(JOB).shape
    # AdamW's first steps move each weight by about the learning rate: 0.005, 0.01, 0.01 in this round.
    assert 0.001 < np.abs(result.update).mean() < 0.03
    assert result.optimiser_state.steps == 3


def test_rounds_with_a_kept_state_equal_one_long_round(data: SiteData) -> None:
    long = job_with(rounds=2, steps_per_round=6, augmentation={"noise": 0.05})
    short = job_with(rounds=4, steps_per_round=3, augmentation={"noise": 0.05})
    start = initial_weights(long)
    expected = train(start, data, long, round_number=1, runtime=RUNTIME)
    first = train(start, data, short, round_number=1, runtime=RUNTIME)
    second = train(
        start + first.update, data, short, round_number=2, runtime=RUNTIME, optimiser_state=first.optimiser_state
    )
    # Biases before a norm have no gradient but rounding noise, which AdamW makes as large as any other step.
    difference = np.linalg.norm(first.update + second.update - expected.update)
    assert difference < 0.02 * np.linalg.norm(expected.update)


def test_it_learns_to_find_the_ball(data: SiteData) -> None:
    job = job_with(rounds=8, steps_per_round=15, batch_size=2)
    weights, losses = trained(data, job, rounds=8)
    module = build(job.network, task=job.task)
    write_weights(module, weights)
    case = data.train[0]
    truth = case.truth()
    found = predict_image(module, case.image(), case.source, job.training.patch_size, runtime=RUNTIME).labels
    assert losses[-1] < 0.5 * losses[0]
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.8


def test_fedprox_holds_a_site_near_the_global_model(data: SiteData) -> None:
    start = initial_weights(JOB)

    def moved(proximal: float) -> np.ndarray:
        job = JOB.model_copy(update={"algorithm": FedProx(name="fedprox", proximal=proximal)})
        return train(start, data, job, round_number=1, runtime=RUNTIME).update

    free = one_round(data).update
    np.testing.assert_array_equal(moved(0.0), free)
    assert np.linalg.norm(moved(100.0)) < 0.7 * np.linalg.norm(free)


def plain(**training: object) -> TrainingJob:
    settings = {"optimiser": "sgd", "schedule": "constant", "weight_decay": 0.0, "warmup_steps": 0}
    return job_with(learning_rate=0.5, **settings, **training)


def test_gathered_batches_take_the_mean_of_the_steps_that_each_would_take(data: SiteData) -> None:
    single, gathered = plain(rounds=2, steps_per_round=1), plain(rounds=1, steps_per_round=1, batches_per_step=2)
    start = initial_weights(single)
    first, second = (train(start, data, single, round_number=n, runtime=RUNTIME) for n in (1, 2))
    both = train(start, data, gathered, round_number=1, runtime=RUNTIME)
    size = np.linalg.norm(both.update)
    assert np.linalg.norm(first.update - second.update) > 0.1 * size
    assert np.linalg.norm((first.update + second.update) / 2 - both.update) < 1e-3 * size
    assert both.loss == pytest.approx((first.loss + second.loss) / 2, rel=1e-5)


def test_every_round_gathers_batches_that_no_other_round_has_seen(
    data: SiteData, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    kept = batches_module.draw

    def noted(*arguments: object, step: int, **named: object) -> object:
        drawn.append(step)
        return kept(*arguments, step=step, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(batches_module, "draw", noted)
    job = plain(rounds=2, steps_per_round=2, batches_per_step=3)
    for number in (1, 2):
        train(initial_weights(job), data, job, round_number=number, runtime=RUNTIME)
    assert drawn == list(range(12))


def test_no_step_is_longer_than_the_bound_on_the_gradient_allows(data: SiteData) -> None:
    def moved(bound: float | None) -> float:
        job = plain(rounds=1, steps_per_round=1, max_gradient_norm=bound)
        return float(np.linalg.norm(train(initial_weights(job), data, job, round_number=1, runtime=RUNTIME).update))

    free = moved(None) / 0.5
    assert moved(free / 10) == pytest.approx(0.5 * free / 10, rel=1e-3)
    assert moved(free * 10) == pytest.approx(0.5 * free, rel=1e-3)


def test_a_correction_is_added_to_every_gradient_beyond_the_bound(data: SiteData) -> None:
    job = plain(rounds=1, steps_per_round=3, max_gradient_norm=1e-6)
    start = initial_weights(job)
    correction = np.linspace(-1, 1, start.size, dtype=np.float32)
    update = train(start, data, job, round_number=1, runtime=RUNTIME, correction=correction).update
    np.testing.assert_allclose(update, -local_distance(1, job.training) * correction, atol=1e-5)


def test_a_compiled_network_takes_the_same_steps(data: SiteData, monkeypatch: pytest.MonkeyPatch) -> None:
    # Captured as one graph but run by PyTorch as it is: making C++ of it takes half a minute.
    graphs: list[int] = []

    def backend(graph: torch.fx.GraphModule, _: object) -> object:
        graphs.append(len(graph.graph.nodes))
        return graph.forward

    kept = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **named: kept(self, backend=backend, **named))
    compiled = train(initial_weights(JOB), data, JOB, round_number=1, runtime=Runtime(is_compiled=True))
    assert len(graphs) == 1, "patches of one size need one graph"
    np.testing.assert_allclose(compiled.loss, one_round(data).loss, rtol=1e-4)


def test_bfloat16_gives_nearly_the_same_update(data: SiteData) -> None:
    exact = one_round(data)
    fast = train(initial_weights(JOB), data, JOB, round_number=1, runtime=Runtime(autocast_dtype=torch.bfloat16))
    assert fast.loss == pytest.approx(exact.loss, rel=0.02)
    cosine = np.dot(fast.update, exact.update) / np.linalg.norm(fast.update) / np.linalg.norm(exact.update)
    assert cosine > 0.8


def test_an_abort_is_heard_between_steps(data: SiteData) -> None:
    steps: list[int] = []
    with pytest.raises(Stopped, match="aborted"):
        one_round(data, should_stop=lambda: len(steps) == 2, progress=lambda done, _: steps.append(done))
    assert steps == [1, 2]


def test_training_leaves_pytorchs_generator_alone(data: SiteData) -> None:
    before = torch.get_rng_state()
    one_round(data)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("number", [0, 5])
def test_a_round_beyond_the_job_is_refused(data: SiteData, number: int) -> None:
    with pytest.raises(ValueError, match="rounds 1 to 4"):
        one_round(data, number)


def test_another_networks_weights_are_refused(data: SiteData) -> None:
    with pytest.raises(ModelError, match="wrong_layout"):
        train(np.zeros(5, np.float32), data, JOB, round_number=1, runtime=RUNTIME)


def test_a_site_with_nothing_to_train_on_says_so(tmp_path: Path) -> None:
    site = site_at(tmp_path, split={"validation": 0.0, "test": 0.999999})
    empty = SiteData.prepare(studies_in(tmp_path / "dicom", 2), site, JOB)
    with pytest.raises(SourceError, match="no_labelled_case"):
        one_round(empty)
