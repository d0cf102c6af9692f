"""The passport: what a model is, where it comes from and what it was promised about its patients."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from fedward.errors import IdentityError, ReleaseRefused
from fedward.identity import canonical
from fedward.identity.document import Sha256
from fedward.settings.job import ExchangeMode, Input, TrainedNetwork, TrainedTask
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
        trained_on: What its training images were like; None where no hospital said so.
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
    trained_on: TrainedOn | None = None
    stands_on: tuple[Name, ...] = ()
    signer: Fingerprint

    def content(self) -> bytes:
        """Give the canonical bytes of ``passport.json``."""
        return canonical.encode(self.model_dump(mode="json"))


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
