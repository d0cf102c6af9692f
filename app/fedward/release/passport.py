"""The passport: what a model is, where it comes from and what it was promised about its patients."""

from __future__ import annotations

import hashlib
import math
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from fedward.errors import IdentityError, ReleaseRefused
from fedward.identity import canonical
from fedward.identity.document import JobDocument, Sha256
from fedward.release.gate import GateStatement
from fedward.settings.job import ExchangeMode, Input, TrainedNetwork, TrainedTask, TrainingJob
from fedward.settings.read import Name
from fedward.settings.site import Fingerprint


class SiteSpend(BaseModel):
    """What training cost any patient of one hospital at most, as the hospital's own ledger accounts for it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    epsilon: Annotated[float, Field(ge=0)]
    delta: Annotated[float, Field(gt=0, lt=1)]


class PrivacyStatement(BaseModel):
    """What a private model promises about the patients whom it was trained on.

    Attributes:
        unit: Whose presence is protected: one patient with all studies, added or removed.
        accountant: How the numbers were computed.
        sites: By hospital; caps are each hospital's own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    unit: Literal["patient"] = "patient"
    accountant: Literal["renyi/dp-accounting"] = "renyi/dp-accounting"
    sites: Annotated[dict[Name, SiteSpend], Field(min_length=1)]

    @property
    def epsilon(self) -> float:
        """The largest at any hospital."""
        return max(site.epsilon for site in self.sites.values())

    @property
    def delta(self) -> float:
        """The largest at any hospital."""
        return max(site.delta for site in self.sites.values())


class TrainedRange(BaseModel):
    """Between which values one trait of the training images lies, as far as the hospitals' counts tell.

    Attributes:
        trait: See :class:`fedward.imaging.traits.Trait`.
        unit: Of both numbers.
        low: None where the range is open.
        high: None where the range is open.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    trait: Name
    unit: Literal["mm", "HU", "stored", "deviations"]
    low: float | None
    high: float | None


class TrainedOn(BaseModel):
    """What the images were like that the model was trained on.

    Attributes:
        noised: Whether the hospitals' counts were noised; then a range holds what many patients have in common, and a
            trait without a range was seen in too few to tell.
        ranges: By trait.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    noised: bool
    ranges: tuple[TrainedRange, ...]


class Ancestor(BaseModel):
    """A release in the line from which a model descends.

    Attributes:
        name, number, model_sha256, job_id, rounds, participants: As in that release's passport.
        privacy: What that release's own training promises; None where it was not differentially private.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: Name
    number: Annotated[int, Field(ge=1, le=10**9)]
    model_sha256: Sha256
    job_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    rounds: Annotated[int, Field(ge=0)]
    participants: tuple[Name, ...]
    privacy: PrivacyStatement | None = None


class Passport(BaseModel):
    """Everything that a site must know to run a model and to answer for it.

    Attributes:
        number: Rises with every release of ``name``.
        model_sha256: Of the file ``model.safetensors``.
        weights_sha256: Of the flat weights: what each site received in the job.
        layout_digest: Of the network's parameter names and shapes.
        job_sha256: Of the job's canonical document.
        rounds: The rounds that went into this model.
        metrics: The federation's own numbers: ``validation_score`` and ``validation_false_positives``, where known.
        exchange: Who could read one hospital's update on its way.
        privacy: What this job's training promises; None where it was not differentially private. What the model
            itself promises is its :attr:`line`'s.
        trained_on: What the images of this job's training were like; None where no hospital said so.
        norms_at_site: Under FedBN: the norms' parameters in the file are those that the job began with, and each
            hospital that trained runs the model with its own; None for any other model.
        stands_on: What it was started from: releases, the latest first.
        gate: Whether every site found it no worse than the release that ran there.
        signer: The fingerprint of the release certificate that signs this passport.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    format: Literal["fedward-passport/1"] = "fedward-passport/1"
    project: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    name: Name
    number: Annotated[int, Field(ge=1, le=10**9)]
    created: AwareDatetime
    task: TrainedTask
    input: Input
    network: TrainedNetwork
    patch_size: tuple[int, int, int]
    model_sha256: Sha256
    weights_sha256: Sha256
    layout_digest: Sha256
    job_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    job_sha256: Sha256
    rounds: Annotated[int, Field(ge=0)]
    participants: tuple[Name, ...]
    metrics: dict[Name, float] = Field(default_factory=dict)
    exchange: ExchangeMode
    privacy: PrivacyStatement | None = None
    trained_on: TrainedOn | None = None
    norms_at_site: Literal[True] | None = None
    stands_on: tuple[Ancestor, ...] = ()
    gate: GateStatement
    signer: Fingerprint

    @property
    def line(self) -> PrivacyStatement | None:
        """What the whole line promises: at each hospital the sums of epsilon and of delta over all its trainings.

        A patient may have been in every one of them (basic composition: Dwork and Roth 2014, theorem 3.16); the
        hospital's own ledger adds up more closely. None where one training of the line was not private.
        """
        trainings = (self.privacy, *(ancestor.privacy for ancestor in self.stands_on))
        private = [training for training in trainings if training is not None]
        if len(private) < len(trainings):
            return None
        sums: dict[str, SiteSpend] = {}
        for site, spent in (item for training in private for item in training.sites.items()):
            before = sums.get(site)
            sums[site] = SiteSpend(
                epsilon=spent.epsilon + (before.epsilon if before else 0.0),
                delta=min(spent.delta + (before.delta if before else 0.0), math.nextafter(1, 0)),
            )
        return PrivacyStatement(sites=sums)

    @property
    def trainings(self) -> frozenset[str]:
        """The ids of all jobs of the line: whose patients the model was trained on."""
        return frozenset({self.job_id, *(ancestor.job_id for ancestor in self.stands_on)})

    def descent(self) -> tuple[Ancestor, ...]:
        """Give the line of a model that starts from this one."""
        own = Ancestor(
            name=self.name,
            number=self.number,
            model_sha256=self.model_sha256,
            job_id=self.job_id,
            rounds=self.rounds,
            participants=self.participants,
            privacy=self.privacy,
        )
        return (own, *self.stands_on)

    def content(self) -> bytes:
        """Give the canonical bytes of ``passport.json``."""
        # What is not said of a model is not written: a passport from before there was such a thing reads as it did.
        unsaid = {"norms_at_site"} if self.norms_at_site is None else set()
        return canonical.encode(self.model_dump(mode="json", exclude=unsaid))


def parse_passport(content: bytes) -> Passport:
    """Read ``passport.json``.

    Raises:
        ReleaseRefused: ``altered_passport``: not canonical, or not a passport.
    """
    try:
        passport = Passport.model_validate(canonical.decode(content))
    except IdentityError as error:
        raise ReleaseRefused("altered_passport", f"passport.json: {error.detail}") from error
    except ValidationError as error:
        raise ReleaseRefused("altered_passport", f"passport.json is not a passport: {error}") from error
    if passport.content() != content:
        raise ReleaseRefused("altered_passport", "passport.json is not the canonical text of what it says")
    return passport


def check_parent(document: JobDocument, parent: Passport | None) -> None:
    """Refuse a passport that is not that of the release from which the job says that it starts.

    Raises:
        ReleaseRefused: ``wrong_descent``; ``norms_missing``: the release leaves its norms to each hospital.
    """
    start = document.job.start_from if isinstance(document.job, TrainingJob) else None
    named = (start.name, start.number) if start else None
    found = (parent.name, parent.number) if parent else None
    content = hashlib.sha256(parent.content()).hexdigest() if parent else None
    if named != found or (document.release.passport if document.release else None) != content:
        raise ReleaseRefused("wrong_descent", f"job {document.id} starts from {named}, the passport is of {found}")
    if parent is not None and parent.norms_at_site:
        raise ReleaseRefused(
            "norms_missing",
            f"{parent.name}-{parent.number} leaves its norms to each hospital: nothing whole to start from",
        )
