"""What a coordinator proposes: numbers and names, nothing else.

A job selects no patients, studies or dates and names no class, path, host or command. The kinds: ``train``, ``gate``
(is a trained model no worse than the release that runs?), ``publish`` (bring a signed release to the sites), ``infer``
(run the model that each site activated) and ``evaluate`` (count how well an installed release does on each site's
held-out patients).
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fedward.settings.algorithms import FEDAVG, AnyAlgorithm, algorithm_faults, site_faults
from fedward.settings.networks import AnyNetwork, fit_faults
from fedward.settings.networks import UNet3D as UNet3D
from fedward.settings.read import Name, Settings, SpacingMm
from fedward.settings.tasks import AnyTask, Classification, MultiTask
from fedward.settings.tasks import Segmentation as Segmentation

PositiveInt = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Modality = Literal["CT", "MR", "PT"]

#: What a job may train, and with what.
TrainedTask = Annotated[AnyTask, Field(discriminator="kind")]
TrainedNetwork = Annotated[AnyNetwork, Field(discriminator="name")]


class Window(Settings):
    """Clip to ``[low, high]`` (HU for CT) and scale to [0, 1]."""

    kind: Literal["window"]
    low: float
    high: float

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low must lie below high ({self.low} and {self.high})")
        return self


class ZScore(Settings):
    """Subtract the volume's mean and divide by its standard deviation (MR, PET)."""

    kind: Literal["zscore"]


class Input(Settings):
    """What the network sees: one modality on one grid with one intensity scale."""

    modality: Modality
    spacing_mm: SpacingMm
    intensity: Annotated[Window | ZScore, Field(discriminator="kind")]


class Augmentation(Settings):
    """Random changes of a training patch; each is drawn anew for every patch."""

    flip: bool = True
    rotate_90: bool = False
    scale_intensity: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    shift_intensity: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    noise: Annotated[float, Field(ge=0, le=0.5)] = 0.0


class Training(Settings):
    """One site's optimiser steps: ``rounds`` times ``steps_per_round``, one learning-rate schedule over all of them.

    Attributes:
        batches_per_step: Batches of ``batch_size`` patches whose gradients one step averages: a larger batch in the
            memory of a small one.
        optimiser: ``sgd`` is plain gradient descent, which remembers nothing from step to step.
        learning_rate: The largest; reached after ``warmup_steps`` of linear rise.
        schedule: What the rate does from there to the job's last step: half a cosine down to 0, a power of 0.9 of what
            is left (``polynomial``), or nothing.
        max_gradient_norm: The largest Euclidean norm of a step's gradient; a longer one is shortened to it.
        patience: The job ends early once so many rounds brought no better validation score; None never does.
    """

    rounds: Annotated[int, Field(gt=0, le=10_000)]
    steps_per_round: Annotated[int, Field(gt=0, le=100_000)]
    batch_size: Annotated[int, Field(gt=0, le=256)]
    batches_per_step: Annotated[int, Field(gt=0, le=64)] = 1
    patch_size: tuple[PositiveInt, PositiveInt, PositiveInt]
    positive_share: Share = 0.5
    optimiser: Literal["adamw", "sgd"] = "adamw"
    learning_rate: Annotated[float, Field(gt=0, le=1)]
    schedule: Literal["cosine", "polynomial", "constant"] = "cosine"
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 1e-5
    max_gradient_norm: Annotated[float, Field(gt=0, le=1e6)] | None = None
    patience: Annotated[int, Field(gt=0, le=10_000)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    augmentation: Augmentation = Augmentation()

    @property
    def total_steps(self) -> int:
        """Optimiser steps of one site over the whole job."""
        return self.rounds * self.steps_per_round

    @property
    def patch_voxels(self) -> int:
        """Voxels in one patch."""
        return math.prod(self.patch_size)


class PrivateTraining(Settings):
    """Patient-level differential privacy: every step sums the clipped mean gradients of a random sample of patients.

    All are constants of the job, never computed from a hospital's patients. A hospital may add noise, never take any
    away; its ledger decides whether its patients can afford the job. ``training.batch_size`` bounds the crops that go
    through the network at a time, which changes memory and no result.

    Attributes:
        sampling_rate: Each patient is in a step's sample with this probability.
        noise_multiplier: The noise's standard deviation over ``clip_norm``.
        clip_norm: The largest Euclidean norm of one patient's mean gradient.
        expected_patients: The constant by which each noisy sum is divided.
        crops_per_patient: Crops of a patient whose gradients are averaged before clipping (augmentation multiplicity,
            De et al. 2022).
        metric_releases: How many times over the job the hospitals' noised validation totals leave; the last time is
            the closing validation.
        metric_noise_multiplier: Their noise's standard deviation over the largest share of one patient.
        range_noise_multiplier: The same of the counts that say what the training images are like (spacing,
            intensities), which leave once; where it is not given, they do not.
    """

    sampling_rate: Annotated[float, Field(gt=0, le=1)]
    noise_multiplier: Annotated[float, Field(gt=0, le=1e4)]
    clip_norm: Annotated[float, Field(gt=0, le=1e3)]
    expected_patients: Annotated[int, Field(ge=1, le=1_000_000)]
    crops_per_patient: Annotated[int, Field(ge=1, le=256)] = 1
    metric_releases: Annotated[int, Field(ge=0, le=10_000)] = 0
    metric_noise_multiplier: Annotated[float, Field(gt=0, le=1e4)] = 10.0
    range_noise_multiplier: Annotated[float, Field(gt=0, le=1e4)] | None = None

    @property
    def all_releases(self) -> int:
        """How many times noised counts of patients leave over the job."""
        return self.metric_releases + (self.range_noise_multiplier is not None)


#: ``secure-sum``: the server adds up updates that it cannot read, with fewer than a threshold of hospitals on its side;
#: ``ckks``: so with no hospital on its side, as all hospitals hold one key; ``plain``: it sees each hospital's update.
ExchangeMode = Literal["secure-sum", "ckks", "plain"]

#: No encrypted sum of fewer hospitals is ever opened.
SMALLEST_SUM = 3


class Exchange(Settings):
    """How updates travel and what bounds them.

    Attributes:
        mode: Who can read one hospital's update.
        max_update_norm: The largest Euclidean norm of an update.
        clip: The largest magnitude of one of its numbers that enters an encrypted sum; larger ones are cut.
        weight_cap: The largest weight of a site.
    """

    mode: ExchangeMode = "secure-sum"
    max_update_norm: Annotated[float, Field(gt=0, le=1e6)]
    clip: Annotated[float, Field(gt=0, le=1e3)] = 1.0
    weight_cap: Annotated[int, Field(ge=10, le=100_000)] = 1000


class Sites(Settings):
    """Who is asked, how many must answer, and how long a round waits for them.

    Empty ``names`` asks every site of the federation.
    """

    names: tuple[Name, ...] = ()
    minimum: Annotated[int, Field(ge=1, le=1000)] = 3
    deadline_s: Annotated[float, Field(gt=0, le=86_400)] = 600.0

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"names must differ, got {list(self.names)}")
        if self.names and self.minimum > len(self.names):
            raise ValueError(f"minimum must be at most the number of names, got {self.minimum} of {len(self.names)}")
        return self


class _Job(Settings):
    name: Name
    description: Annotated[str, Field(max_length=400)] = ""
    hours_valid: Annotated[float, Field(gt=0, le=24 * 31)] = 24.0
    sites: Sites = Sites()


class StartFrom(Settings):
    """The release whose model training begins with; the signed document holds the hashes of its files."""

    name: Name
    number: Annotated[int, Field(ge=1, le=10**9)]


class TrainingJob(_Job):
    """Train one network over all sites and keep the best global model.

    ``algorithm`` says how the sites' updates become the next model; FedAvg where the job is silent. Without
    ``start_from`` the first weights are drawn from the job's seed.
    """

    kind: Literal["train"]
    input: Input
    task: TrainedTask
    network: TrainedNetwork
    training: Training
    exchange: Exchange
    algorithm: Annotated[AnyAlgorithm, Field(discriminator="name")] = FEDAVG
    privacy: PrivateTraining | None = None
    start_from: StartFrom | None = None

    @model_validator(mode="after")
    def _network_fits_task_and_patch(self) -> Self:
        faults = fit_faults(self.network, self.task, self.training.patch_size)
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @model_validator(mode="after")
    def _labels_tell_the_classes_apart(self) -> Self:
        if isinstance(self.task, Classification) and self.task.of == "place" and len(self.task.classes) != 2:
            raise ValueError(
                f"task.classes must be two, got {len(self.task.classes)}: a place's class is whether the voxel at its "
                "centre is labelled"
            )
        if isinstance(self.task, MultiTask) and self.task.positive not in self.task.classes:
            raise ValueError(
                f"task.positive must be one of the classes {list(self.task.classes)}, got {self.task.positive}: a "
                "lesion's class is what says whether it is positive"
            )
        return self

    @model_validator(mode="after")
    def _algorithm_can_run(self) -> Self:
        faults = (
            *algorithm_faults(self.algorithm, exchange_mode=self.exchange.mode),
            *site_faults(self.algorithm, optimiser=self.training.optimiser),
        )
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @model_validator(mode="after")
    def _sum_hides(self) -> Self:
        if self.exchange.mode != "plain" and self.sites.minimum < SMALLEST_SUM:
            raise ValueError(f"sites.minimum must be at least {SMALLEST_SUM} for an encrypted sum")
        return self

    @model_validator(mode="after")
    def _private_steps_clip_and_gather_by_patient(self) -> Self:
        training = self.training
        if self.privacy and (training.max_gradient_norm is not None or training.batches_per_step > 1):
            raise ValueError(
                "training.max_gradient_norm and training.batches_per_step are of training without privacy: a private "
                "step clips each patient's gradient to privacy.clip_norm and gathers all patients of its sample"
            )
        return self

    @model_validator(mode="after")
    def _releases_fit_the_rounds(self) -> Self:
        if self.privacy and self.privacy.metric_releases > self.training.rounds:
            raise ValueError(
                f"privacy.metric_releases must be at most the number of rounds, got {self.privacy.metric_releases} "
                f"of {self.training.rounds}"
            )
        return self

    def is_validated(self, round_number: int) -> bool:
        """Whether the sites' numbers on the model that a round ended with leave them.

        Without privacy all do. With it, ``metric_releases`` of them do, evenly spread; the last one is among them.
        """
        if self.privacy is None:
            return 1 <= round_number <= self.training.rounds
        rounds, releases = self.training.rounds, self.privacy.metric_releases
        return round_number in {rounds * number // releases for number in range(1, releases + 1)}


class GateJob(_Job):
    """Ask every site for one bit: is a finished training job's model non-inferior to the release that runs there?

    Attributes:
        margin: So much may the mean score of a site's held-out patients fall, in units of the score.
        confidence: One-sided: with a model that is worse by exactly the margin a site errs this seldom.
        noise_multiplier: The noise's standard deviation over the largest share of one patient.
        cannot_say: What a site means for the release that has too few patients, or none with privacy left.
    """

    kind: Literal["gate"]
    margin: Annotated[float, Field(gt=0, le=0.5)]
    confidence: Annotated[float, Field(ge=0.5, le=0.999)] = 0.95
    noise_multiplier: Annotated[float, Field(gt=0, le=1e4)] = 2.0
    cannot_say: Literal["block", "pass"] = "block"


class PublishJob(_Job):
    """Bring one signed release to every site."""

    kind: Literal["publish"]


class InferenceJob(_Job):
    """Ask every site to run its active model over its own studies and write the reports there."""

    kind: Literal["infer"]


#: What a release is evaluated as: a detector of lesions, a segmenter of whole structures, a classifier of places, or
#: both at once.
EvaluatedTask = Literal["lesions", "structures", "classification", "multitask"]


class CountsExchange(Settings):
    """How the sites' noised counts travel; see :data:`ExchangeMode`."""

    mode: ExchangeMode = "secure-sum"


class CountsPrivacy(Settings):
    """The noise on each count that leaves a site: its standard deviation over the largest share of one patient."""

    noise_multiplier: Annotated[float, Field(gt=0, le=1e4)]


class EvaluationJob(_Job):
    """Ask every site to count how well a release that it has installed does on its held-out patients.

    Attributes:
        release: The name of the release.
        number: Its number; 0 stands for the latest that the coordinator has, and is settled when the job is signed.
        task: What the release does.
        operating_point: The probability from which on a place or a lesion counts as positive; the histograms' bins
            know it to the nearest twentieth.
        exchange: Who may read one site's noised counts.
        privacy: How much noise they carry.
        local_models: Whether the sites' own models go to all of them, to be tried on everybody's patients: in plain
            mode alone, and only when every site file allows it.
    """

    kind: Literal["evaluate"]
    release: Name
    number: Annotated[int, Field(ge=0, le=10**9)] = 0
    task: EvaluatedTask
    operating_point: Annotated[float, Field(gt=0, lt=1)] = 0.5
    exchange: CountsExchange = CountsExchange()
    privacy: CountsPrivacy
    local_models: bool = False

    @model_validator(mode="after")
    def _own_models_travel_in_plain_mode_alone(self) -> Self:
        if self.local_models and self.exchange.mode != "plain":
            raise ValueError(
                f"local_models must be false unless exchange.mode is plain, got {self.exchange.mode}: the server sees "
                "each hospital's own model"
            )
        return self

    @model_validator(mode="after")
    def _sum_hides(self) -> Self:
        if self.exchange.mode != "plain" and self.sites.minimum < SMALLEST_SUM:
            raise ValueError(f"sites.minimum must be at least {SMALLEST_SUM} for an encrypted sum")
        return self


#: The jobs whose answers are added up.
SummedJob = TrainingJob | EvaluationJob

Job = Annotated[TrainingJob | GateJob | PublishJob | InferenceJob | EvaluationJob, Field(discriminator="kind")]
