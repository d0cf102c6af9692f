"""The passport: what a model is, where it comes from and what it was promised about its patients."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from fedward.errors import IdentityError, ReleaseRefused
from fedward.identity import canonical
from fedward.identity.document import Sha256
from fedward.settings.job import ExchangeMode, Input, Segmentation, TrainedNetwork, TrainedTask
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
        privacy: What training promises; None where it was not differentially private.
        norms_at_site: Under FedBN: the norms' parameters in the file are those that the job began with, and each
            hospital that trained runs the model with its own; None for any other model.
        stands_on: What it was started from: releases, the latest first.
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
    norms_at_site: Literal[True] | None = None
    stands_on: tuple[Name, ...] = ()
    signer: Fingerprint

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


def reported_task(passport: Passport) -> Segmentation:
    """Give the task of a release whose answers a report can hold.

    Raises:
        ReleaseRefused: ``task_not_reported``: there is no report for such a task yet.
    """
    if not isinstance(passport.task, Segmentation):
        raise ReleaseRefused(
            "task_not_reported",
            f"{passport.name}-{passport.number} does {passport.task.kind}; reports are written of segmentation alone",
        )
    return passport.task
