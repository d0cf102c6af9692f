"""What a hospital decides: its data, its identity, and the bounds on any job.

The site file lies outside the federation's kit, is readable by its owner alone, and its path stands in the service's
environment as ``FEDWARD_SITE_FILE``. Relative paths in it are taken from its own folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fedward.errors import SettingsError
from fedward.settings.job import ExchangeMode, Modality
from fedward.settings.read import Name, Settings, read_settings

#: SHA-256 of a certificate's DER encoding.
Fingerprint = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
NamePatterns = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=64)], ...], Field(min_length=1)]
Share = Annotated[float, Field(ge=0, lt=1)]

#: The name of the key of what is encrypted at rest, beside the site file.
STORAGE_KEY = "storage.key"

JobKind = Literal["train", "gate", "publish", "infer", "evaluate"]

#: The numbers that a site may let the coordinator see: of validation; ``training_ranges``: counts of what its training
#: images are like; and ``evaluation``: its row of exact counts in an evaluation.
ShareableMetric = Literal[
    "validation_score", "validation_false_positives", "validation_cases", "training_ranges", "evaluation"
]


class DicomSource(Settings):
    """A folder tree of DICOM files: images, SEG and RTSTRUCT mixed as they come.

    ``classes`` maps a job's class to the segment labels or ROI names of this hospital (shell patterns, any case);
    ``mask_path`` may hold NIfTI masks named ``SERIESUID.nii.gz``, which stand before any SEG or RTSTRUCT of the series:
    value k is the k-th of ``classes``, of the job's classes where the table is empty. ``image_classes`` may be a table
    (see :mod:`fedward.dicom.image_classes`) of whole series' classes, by their series instance UIDs.
    """

    kind: Literal["dicom"]
    path: Path
    classes: dict[Name, NamePatterns] = Field(default_factory=dict)
    mask_path: Path | None = None
    image_classes: Path | None = None


class NiftiSource(Settings):
    """A folder of NIfTI images and one of labels under the same file names; the label values number the classes.

    A file's patient is its name before the first match of ``patient_separator`` (the whole stem when that is empty).
    ``image_classes`` may be a table (see :mod:`fedward.dicom.image_classes`) of whole images' classes, by their file
    names without ``image_suffix``.
    """

    kind: Literal["nifti"]
    images: Path
    labels: Path | None = None
    image_classes: Path | None = None
    modality: Modality
    classes: dict[Name, Annotated[int, Field(ge=1, le=255)]] = Field(default_factory=dict)
    image_suffix: Annotated[str, Field(max_length=32)] = ".nii.gz"
    label_suffix: Annotated[str, Field(max_length=32)] = ".nii.gz"
    patient_separator: Annotated[str, Field(max_length=4)] = ""


class PeerHospital(Settings):
    """A line of the roster: a hospital whose part in an encrypted sum this one accepts."""

    name: Name
    organisation: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,64}$")]
    fingerprint: Fingerprint


class Identity(Settings):
    """Whom this hospital trusts, and how it signs.

    Attributes:
        project: The federation.
        root_certificate: Its authority's.
        coordinators: Who may sign jobs.
        revoked: Who may not, nor take part, whatever stands elsewhere.
        certificate: This hospital's own.
        private_key: Its key.
        hospitals: The roster, this hospital included; an encrypted sum is made with these alone.
    """

    project: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    root_certificate: Path
    coordinators: tuple[Fingerprint, ...] = ()
    revoked: tuple[Fingerprint, ...] = ()
    certificate: Path | None = None
    private_key: Path | None = None
    hospitals: tuple[PeerHospital, ...] = ()

    @model_validator(mode="after")
    def _members_differ(self) -> Self:
        for kind in ("name", "fingerprint"):
            found = [getattr(hospital, kind) for hospital in self.hospitals]
            if len(set(found)) != len(found):
                raise ValueError(f"two hospitals of the roster share a {kind}")
        return self


class Bounds(Settings):
    """The largest job that this hospital takes part in; anything beyond is refused before a file is read.

    ``min_patients`` is the smallest cohort: with fewer training patients there is no training, with fewer validation
    patients none of a private job's validation totals leave, with fewer test patients no evaluation's counts.
    ``min_sites`` and ``min_organisations`` hold for every sum that an update or a count enters; the roster says which
    organisation a hospital belongs to, and who is not in it, or revoked, counts for nothing. ``max_hours_valid`` is how
    long (h) a signed job may be used; of all kinds together at most ``max_jobs_per_week`` are taken in any seven days.
    A job of a kind in ``needs_approval`` waits for a person here.
    """

    kinds: tuple[JobKind, ...] = ("train", "gate", "publish", "infer", "evaluate")
    networks: tuple[Name, ...] = ("unet3d",)
    exchange_modes: tuple[ExchangeMode, ...] = ("secure-sum",)
    min_sites: Annotated[int, Field(ge=1)] = 3
    min_organisations: Annotated[int, Field(ge=1)] = 3
    min_patients: Annotated[int, Field(ge=1)] = 10
    max_rounds: Annotated[int, Field(ge=1)] = 500
    max_steps: Annotated[int, Field(ge=1)] = 100_000
    max_patch_voxels: Annotated[int, Field(ge=1)] = 160**3
    max_update_norm: Annotated[float, Field(gt=0)] = 1000.0
    max_hours_valid: Annotated[float, Field(gt=0)] = 168.0
    max_jobs_per_week: Annotated[int, Field(ge=0)] = 100
    needs_approval: tuple[Name, ...] = ()

    @model_validator(mode="after")
    def _only_what_is_taken_waits(self) -> Self:
        if unknown := sorted(set(self.needs_approval) - set(self.kinds)):
            raise ValueError(f"needs_approval must be among kinds, which do not list {', '.join(unknown)}")
        return self

    @property
    def organisations_in_a_sum(self) -> int:
        """How many organisations an encrypted sum must hold: each site of the minimum belongs to another one."""
        return max(self.min_sites, self.min_organisations)


class Privacy(Settings):
    """What each patient of this hospital is promised, and what may leave although it is not differentially private.

    ``epsilon``, ``delta`` and ``renyi_order`` hold for a patient's lifetime here and are fixed when the ledger is
    opened; the others bound each job. ``allow_non_private``, ``share_metrics`` and ``share_local_model`` are off unless
    turned on.

    Attributes:
        epsilon: The cap.
        delta: The probability with which the promise may fail; a job is refused above 1 / (10 x its patients).
        renyi_order: The order at which the ledger adds up costs.
        min_noise_multiplier: A job that asks for less noise gets this much.
        max_clip_norm: Of one patient's gradient.
        max_sampling_rate: Of a step's sample.
        max_private_steps: Optimiser steps of a private job.
        max_metric_releases: How many times a private job's noised totals may leave: of validation, and once of what
            the training images are like; 0 also refuses gates.
        allow_non_private: Whether training without privacy may run; the ledger then notes an infinite epsilon, and the
            cap bounds the private jobs beside it.
        share_metrics: The exact numbers of training without privacy that the coordinator may see, and whether it may
            see the exact counts of an evaluation; those leave only where ``allow_non_private`` is on.
        share_local_model: Whether the model that was trained here alone may go to the server and the other hospitals
            of an evaluation that asks for it; the ledger then notes an infinite epsilon for who trained it.
        merged_ids: Patient key by patient key: the first is the second's other id, so both are one patient.
    """

    epsilon: Annotated[float, Field(gt=0, le=1000)] = 8.0
    delta: Annotated[float, Field(gt=0, lt=0.1)] = 1e-5
    renyi_order: Annotated[int, Field(ge=2, le=64)] = 4
    min_noise_multiplier: Annotated[float, Field(gt=0, le=1e4)] = 0.5
    max_clip_norm: Annotated[float, Field(gt=0)] = 10.0
    max_sampling_rate: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_private_steps: Annotated[int, Field(ge=0)] = 20_000
    max_metric_releases: Annotated[int, Field(ge=0)] = 20
    allow_non_private: bool = False
    share_metrics: tuple[ShareableMetric, ...] = ()
    share_local_model: bool = False
    merged_ids: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _own_model_is_not_private(self) -> Self:
        if self.share_local_model and not self.allow_non_private:
            raise ValueError(
                "share_local_model needs allow_non_private = true: such a model was trained without privacy"
            )
        return self

    @model_validator(mode="after")
    def _leads_to_one_id(self) -> Self:
        if chained := sorted(set(self.merged_ids) & set(self.merged_ids.values())):
            raise ValueError(f"{len(chained)} of the merged ids are merged into another that is itself merged")
        return self


class Split(Settings):
    """The shares of patients kept for validation and testing; fixed for the site, so that no job moves a patient."""

    validation: Share = 0.15
    test: Share = 0.15

    @model_validator(mode="after")
    def _leaves_training(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError(f"validation and test must leave patients to train on ({self.validation} + {self.test})")
        return self


class Compute(Settings):
    """What the hospital's machine gives to the work.

    Attributes:
        threads: 0 leaves the choice to PyTorch.
        compile: Whether networks are compiled (``torch.compile``, which needs a C++ compiler) before they train;
            ``auto`` compiles at a job's start, measures, and goes on compiled where that is clearly faster.
    """

    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:[0-9]+)?)$")] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: Annotated[int, Field(ge=0, le=256)] = 0
    compile: Literal["off", "auto", "on"] = "off"
    memory_cases: Annotated[int, Field(ge=1)] = 200


class Models(Settings):
    """How a new release becomes the running one: by a person at the site, or, where the gate lets it, by itself."""

    auto_activate: bool = False


class Inference(Settings):
    """Which of the hospital's studies a federated inference job runs over, and what its reports say beside findings.

    Attributes:
        studies: All, or only those of the patients kept for testing.
        lesions_from: A segmentation release that was activated here, by its name without the number: its latest
            activated one finds the lesions that an active classification of places judges.
        uncertainty: How the model's doubt is measured: by passes with dropout, by the releases of the model's name that
            were activated here, or not at all.
        passes: Of Monte-Carlo dropout; more take longer, and only around what was found.
        second_read_above: A finding whose probability varies by more than this standard deviation over the passes, or
            over the releases, is marked for a second read.
        explanation: What shows where an answer comes from: Grad-CAM (a transformer's attention in its place),
            integrated gradients (the optional extra ``explain``), or nothing.
    """

    studies: Literal["all", "held_out"] = "all"
    lesions_from: Annotated[str, Field(pattern=r"^([a-z0-9_-]{1,64})?$")] = ""
    uncertainty: Literal["dropout", "ensemble", "none"] = "dropout"
    passes: Annotated[int, Field(ge=2, le=200)] = 20
    second_read_above: Annotated[float, Field(gt=0, le=0.5)] = 0.15
    explanation: Literal["grad_cam", "integrated_gradients", "none"] = "grad_cam"


class SiteSettings(Settings):
    """A whole site file. ``database`` is a PostgreSQL URL; empty keeps SQLite in the ``state`` folder.

    ``storage_key`` is the file of the key that encrypts the ``state`` folder's prepared cases and sealed updates; by
    default it lies beside the site file.
    """

    name: Name
    organisation: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,64}$")]
    state: Path = Path("state")
    storage_key: Path | None = None
    database: Annotated[str, Field(pattern=r"^(postgresql\+pg8000://.{1,500})?$")] = ""
    data: Annotated[tuple[Annotated[DicomSource | NiftiSource, Field(discriminator="kind")], ...], Field(min_length=1)]
    identity: Identity | None = None
    bounds: Bounds = Bounds()
    privacy: Privacy = Privacy()
    split: Split = Split()
    compute: Compute = Compute()
    models: Models = Models()
    inference: Inference = Inference()

    @property
    def sealing_key(self) -> Path:
        """Where the key lies under which prepared cases and sealed updates are encrypted; made on first use."""
        return self.storage_key or self.state.parent / STORAGE_KEY

    def patient_of(self, patient_key: str) -> str:
        """Give the key under which a patient is known here, whichever of the merged ids a study carries."""
        return self.privacy.merged_ids.get(patient_key, patient_key)


def read_site_settings(path: Path) -> SiteSettings:
    """Read the site file at ``path``; its relative paths become absolute from its own folder.

    Raises:
        SettingsError: the file is missing or has faults, all of them in ``detail``.
    """
    site = read_settings(path, SiteSettings)
    folder = path.resolve().parent

    def data_from(source: DicomSource | NiftiSource) -> DicomSource | NiftiSource:
        optional = ("mask_path", "image_classes") if isinstance(source, DicomSource) else ("labels", "image_classes")
        paths = {name: folder / path for name in optional if (path := getattr(source, name))}
        paths |= (
            {"path": folder / source.path} if isinstance(source, DicomSource) else {"images": folder / source.images}
        )
        return source.model_copy(update=paths)

    identity = site.identity
    if identity:
        paths = {"root_certificate": folder / identity.root_certificate}
        for name in ("certificate", "private_key"):
            path = getattr(identity, name)
            paths |= {name: folder / path} if path else {}
        identity = identity.model_copy(update=paths)
    return site.model_copy(
        update={
            "state": folder / site.state,
            "storage_key": folder / (site.storage_key or STORAGE_KEY),
            "data": tuple(data_from(source) for source in site.data),
            "identity": identity,
        }
    )


def require_identity(site: SiteSettings) -> Identity:
    """Give the site's trust settings.

    Raises:
        SettingsError: the site file has no ``[identity]``, so nobody can be trusted.
    """
    if site.identity is None:
        raise SettingsError("invalid_settings", f"the site file of {site.name} has no [identity] section")
    return site.identity
