"""Patient-level private training: what one patient can do to what leaves."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import opacus
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from fedward.errors import Stopped
from fedward.imaging.cases import SiteData
from fedward.models.initial import initial_weights
from fedward.models.networks import build
from fedward.models.runtime import Runtime
from fedward.privacy import metrics
from fedward.privacy.accounting import epsilon
from fedward.privacy.mechanisms import SampledGaussian
from fedward.randomness import Secret, add_noise
from fedward.settings.algorithms import FedProx
from fedward.settings.job import PrivateTraining, TrainingJob, UNet3D
from fedward.training import private
from fedward.training.batches import Placed
from fedward.training.optimiser import local_distance
from fedward.training.private import PatientCrops, PatientSum, train_private
from fedward.training.segmentation_loss import segmentation_loss
from fedward.training.task_loss import loss_of
from small_cases import job_with, studies_in
from training_cases import RUNTIME, site_data

CLIP = 0.1
ASKED = {"sampling_rate": 0.5, "noise_multiplier": 1.0, "clip_norm": CLIP, "expected_patients": 3}
NETWORKS = [
    UNet3D(name="unet3d", channels=(4, 8)),
    UNet3D(name="unet3d", channels=(4, 8), residual_units=0, norm="group"),
    UNet3D(name="unet3d", channels=(4, 8, 8), residual_units=2, dropout=0.3),
]


def private_job(network: UNet3D = NETWORKS[0], **asked: Any) -> TrainingJob:
    job = job_with()
    return job.model_copy(update={"network": network, "privacy": PrivateTraining(**{**ASKED, **asked})})


JOB = private_job(crops_per_patient=2)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> SiteData:
    folder = tmp_path_factory.mktemp("site")
    return site_data(folder, studies_in(folder / "dicom", 5), JOB)


def network_of(job: TrainingJob = JOB) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return build(job.network, task=job.task).train()


def patient(number: int, crops: int = 3, contrast: float = 1.0) -> PatientCrops:
    generator = torch.Generator().manual_seed(number)
    images = contrast * torch.rand((crops, 1, 8, 8, 8), generator=generator)
    labels = (torch.rand((crops, 1, 8, 8, 8), generator=generator) < 0.3).to(torch.uint8)
    return PatientCrops(images, labels, seed=number)


def summed(
    *patients: PatientCrops, clip: float = CLIP, batch: int = 8, job: TrainingJob = JOB, runtime: Runtime = RUNTIME
) -> np.ndarray:
    total = PatientSum(network_of(job), clip_norm=clip, loss=loss_of(job.task))
    for one in patients:
        total.add(one, batch_size=batch, runtime=runtime)
    return total.take()


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=4, unique=True), st.integers(1, 4), st.floats(0.01, 20.0))
def test_one_patient_changes_the_sum_by_at_most_the_clip_norm(numbers: list[int], crops: int, contrast: float) -> None:
    patients = [patient(number, crops, contrast) for number in numbers]
    change = np.linalg.norm(summed(*patients) - summed(*patients[:-1]))
    assert change <= CLIP


def test_a_gradient_beyond_the_clip_norm_changes_it_by_just_that() -> None:
    loud = patient(1)
    assert np.linalg.norm(summed(loud, clip=1e6)) > CLIP
    assert np.linalg.norm(summed(loud)) == pytest.approx(CLIP, rel=1e-5)


def test_a_gradient_below_the_clip_norm_stays_as_it_is() -> None:
    free = summed(patient(1), clip=1e6)
    np.testing.assert_array_equal(summed(patient(1), clip=1e5), free)


def test_clipping_each_crop_would_break_the_bound() -> None:
    """What systems do that protect the image: a patient of many crops then counts many times."""
    whole = patient(1)
    crops = [PatientCrops(whole.images[n : n + 1], whole.labels[n : n + 1], 0) for n in range(len(whole.images))]
    assert np.linalg.norm(summed(*crops)) > 1.5 * CLIP
    assert np.linalg.norm(summed(patient(1))) <= CLIP


@pytest.mark.parametrize("runtime", [RUNTIME, Runtime(autocast_dtype=torch.bfloat16)], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("network", NETWORKS, ids=["instance", "group", "dropout"])
def test_a_patients_gradient_is_the_same_alone_and_in_company(network: UNet3D, runtime: Runtime) -> None:
    job = private_job(network)
    together = summed(patient(1), patient(2), patient(3), job=job, runtime=runtime)
    alone = [summed(patient(number), job=job, runtime=runtime) for number in (1, 2, 3)]
    np.testing.assert_allclose(together, sum(alone), atol=1e-9)


def test_how_many_crops_go_through_at_a_time_changes_memory_alone() -> None:
    np.testing.assert_allclose(summed(patient(1), batch=1), summed(patient(1), batch=3), atol=1e-7)


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
def test_a_patients_mean_gradient_is_the_one_that_opacus_finds() -> None:
    module = network_of(private_job(NETWORKS[1]))
    watched = opacus.GradSampleModule(module)
    crops = patient(1)
    segmentation_loss(watched, crops.images, crops.labels, RUNTIME).backward()
    theirs = torch.cat([value.grad_sample.mean(0).flatten() for value in module.parameters()]).numpy()
    ours = summed(crops, clip=1e6, job=private_job(NETWORKS[1]))
    np.testing.assert_allclose(ours, theirs, atol=2e-6)


def test_a_gradient_that_is_not_finite_counts_as_zero() -> None:
    broken = PatientCrops(torch.full((1, 1, 8, 8, 8), float("nan")), torch.zeros((1, 1, 8, 8, 8)), 0)
    np.testing.assert_array_equal(summed(patient(1), broken), summed(patient(1)))


def nobody(_: Secret, count: int, rate: float) -> np.ndarray:
    assert 0 < rate <= 1
    return np.zeros(count, dtype=bool)


def run(data: SiteData, job: TrainingJob = JOB, **changes: Any) -> Any:
    options = {"round_number": 1, "runtime": RUNTIME, "noise_multiplier": 1.0, "secret": Secret(), **changes}
    return train_private(initial_weights(job), data, job, **options)


def test_two_runs_of_one_job_seed_differ(data: SiteData) -> None:
    assert (run(data).update != run(data).update).mean() > 0.9


def test_with_every_seeded_generator_set_alike_noise_and_samples_still_differ(data: SiteData) -> None:
    updates = []
    for _ in range(2):
        torch.manual_seed(0)
        np.random.seed(0)
        updates.append(run(data).update)
    assert (updates[0] != updates[1]).mean() > 0.9


def test_torch_and_opacus_draw_no_noise(data: SiteData, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: Any, **__: Any) -> None:
        raise AssertionError("noise and samples come from Secret alone")

    weights = initial_weights(JOB)
    module = network_of()
    monkeypatch.setattr(private, "build", lambda *_, **__: module)  # initial weights are drawn from a seed, as they may
    for name in ("normal", "randn", "rand", "bernoulli", "poisson", "multinomial", "randperm", "randn_like"):
        monkeypatch.setattr(torch, name, forbidden)
    for name in ("normal_", "bernoulli_", "exponential_", "cauchy_", "uniform_"):
        monkeypatch.setattr(torch.Tensor, name, forbidden)
    options = {"round_number": 1, "runtime": RUNTIME, "noise_multiplier": 1.0, "secret": Secret()}
    assert np.isfinite(train_private(weights, data, JOB, **options).update).all()


def test_fedprox_holds_a_private_site_near_the_global_model_too(data: SiteData) -> None:
    plain = private_job(sampling_rate=1.0)
    held = plain.model_copy(update={"algorithm": FedProx(name="fedprox", proximal=1000.0)})
    free, near = (np.linalg.norm(run(data, job, noise_multiplier=1e-6).update) for job in (plain, held))
    assert near < 0.8 * free


def test_a_correction_is_added_after_clipping_and_noise(data: SiteData) -> None:
    job = private_job(sampling_rate=1.0)
    training = job.training.model_copy(update={"optimiser": "sgd", "weight_decay": 0.0})
    job = job.model_copy(update={"training": training})
    # Far longer than any clipped gradient: were it clipped too, the update could not reach it.
    correction = np.full(initial_weights(job).size, 10.0, np.float32)
    steps = {"round_number": 1, "runtime": RUNTIME, "noise_multiplier": 1e-6}
    free, held = (
        train_private(initial_weights(job), data, job, **steps, secret=Secret(), correction=given).update
        for given in (None, correction)
    )
    moved = held - free
    assert np.abs(moved + local_distance(1, training) * 10).max() < 0.05 * local_distance(1, training) * 10


def test_nothing_that_takes_a_secret_takes_a_seed() -> None:
    for consumer in (train_private, metrics.noised_totals, add_noise, Secret.gaussian, Secret.bernoulli, Secret.round):
        assert not {"seed", "generator", "rng"} & set(inspect.signature(consumer).parameters)
    with pytest.raises(TypeError):
        Secret(7)  # type: ignore[call-arg]


def gradients(
    data: SiteData, monkeypatch: pytest.MonkeyPatch, noise_multiplier: float = 1e-6, **asked: Any
) -> list[np.ndarray]:
    """Give what each step hands to the optimiser."""
    handed: list[np.ndarray] = []
    real = PatientSum.hand_over

    def note(self: PatientSum, gradient: np.ndarray) -> None:
        handed.append(gradient)
        real(self, gradient)

    monkeypatch.setattr(PatientSum, "hand_over", note)
    run(data, private_job(**asked), noise_multiplier=noise_multiplier)
    return handed


def test_the_denominator_is_the_jobs_constant_whoever_is_drawn(data: SiteData, monkeypatch: pytest.MonkeyPatch) -> None:
    """With everybody drawn and every gradient clipped, twice the expected patients is half the step."""
    three = gradients(data, monkeypatch, sampling_rate=1.0, clip_norm=1e-3, expected_patients=3)[0]
    six = gradients(data, monkeypatch, sampling_rate=1.0, clip_norm=1e-3, expected_patients=6)[0]
    np.testing.assert_allclose(three, 2 * six, atol=1e-6)


def test_an_empty_sample_is_a_step_of_noise(data: SiteData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Secret, "bernoulli", nobody)
    result = run(data)
    assert result.optimiser_state.steps == JOB.training.steps_per_round
    assert (result.update != 0).mean() > 0.9
    assert result.loss == 0


def test_the_noise_has_the_promised_deviation(data: SiteData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Secret, "bernoulli", nobody)
    noise = np.concatenate(gradients(data, monkeypatch, noise_multiplier=2.0))
    assert noise.std() == pytest.approx(2.0 * CLIP / 3, rel=0.03)


def test_an_aborted_round_ends_at_the_next_patient(data: SiteData) -> None:
    with pytest.raises(Stopped, match="aborted"):
        run(data, private_job(sampling_rate=1.0), should_stop=lambda: True)


def test_a_job_without_privacy_is_not_trained_here(data: SiteData) -> None:
    with pytest.raises(ValueError, match="no privacy settings"):
        run(data, job_with())


def test_the_optimisers_state_goes_from_round_to_round(data: SiteData) -> None:
    first = run(data)
    second = run(data, round_number=2, optimiser_state=first.optimiser_state)
    assert second.optimiser_state.steps == 2 * JOB.training.steps_per_round


CANARIES = 2000
AUDIT_NOISE = 1.0
CONFIDENCE = 0.05


def _mean_answer(module: torch.nn.Module, batch: Placed, _runtime: Runtime) -> torch.Tensor:
    answer: torch.Tensor = module(batch[0]).mean()
    return answer


def audited_epsilon() -> float:
    """Audit one run of one step by canaries (Steinke, Nasr and Jagielski 2023): a lower bound on its epsilon.

    Each canary is a patient whose gradient lies along a coordinate of its own; a coin decides whether it takes part.
    Who sees the noisy sum guesses the coins of the most telling coordinates; so many right guesses need that epsilon.
    """
    coins = np.random.default_rng().random(CANARIES) < 0.5
    total = PatientSum(torch.nn.Linear(CANARIES, 1, bias=False), clip_norm=CLIP, loss=_mean_answer)
    images = torch.eye(CANARIES) * 10
    for index in np.flatnonzero(coins):
        crop = images[index : index + 1]
        total.add(PatientCrops(crop, torch.zeros(1), 0), batch_size=1, runtime=RUNTIME)
    deviation = AUDIT_NOISE * CLIP
    seen = add_noise(total.take(), Secret().gaussian(CANARIES, deviation), deviation=deviation) / CLIP - 0.5
    bound = 0.0
    for guesses in (50, 200, 400, 900, CANARIES):
        telling = np.argsort(-np.abs(seen))[:guesses]
        right = int(((seen[telling] > 0) == coins[telling]).sum())
        bound = max(bound, epsilon_needed(right, guesses))
    return bound


def epsilon_needed(right: int, guesses: int) -> float:
    """The smallest epsilon at which so many right guesses are no surprise; delta's share is far below a guess."""
    low, high = 0.0, 20.0
    for _ in range(40):
        middle = (low + high) / 2
        chance = 1 / (1 + math.exp(-middle))
        if binom.sf(right - 1, guesses, chance) < CONFIDENCE / 5:
            low = middle
        else:
            high = middle
    return low


CLAIMED = epsilon([SampledGaussian(1.0, AUDIT_NOISE, 1)], 1e-5)


def test_an_audit_finds_less_than_is_claimed_and_more_than_nothing() -> None:
    bounds = [audited_epsilon() for _ in range(3)]
    assert max(bounds) < CLAIMED
    assert np.median(bounds) > 0.3, "an audit that never finds anything proves nothing"


def test_the_audit_catches_noise_that_is_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Secret, "gaussian", lambda _, count, *__, **___: np.zeros(count))
    assert audited_epsilon() > CLAIMED


def test_the_audit_catches_a_clip_that_is_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "clamp", lambda *_, **__: torch.ones(()))
    assert audited_epsilon() > CLAIMED
