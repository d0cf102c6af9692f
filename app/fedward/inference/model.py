"""A model that this site may run: the network with the facts that every report of it must state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from fedward.inference.own_record import Calibration, OwnRecord
from fedward.release.passport import TrainedOn
from fedward.settings.job import Input
from fedward.settings.tasks import AnyTask, Classification, Segmentation

if TYPE_CHECKING:
    import torch

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ModelFacts(BaseModel):
    """Which model, where it comes from, who vouches for it and what it promises about its patients.

    Attributes:
        name: The release's name.
        release_number: It rises with every release of that name.
        model_sha256: Of ``model.safetensors``.
        rounds: The global rounds that the model was trained for.
        participants: The hospitals that took part, by their names in the federation.
        private: True when its training, and that of every release that it stands on, was differentially private; then
            ``epsilon`` and ``delta`` bound what it shows of any one patient.
        stands_on: The releases from which it descends, the latest first.
        gate: Whether every hospital found it no worse than the release before; see the passport.
        signer: The subject of the release certificate.
        signed_at: When it was signed.
        signature_verified: True when this site checked the signature against the federation's root.
        validation_measure: What ``validation_score`` is, empty where there is none.
        validation_score: The model's score on the hospitals' validation patients, in [0, 1].
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    release_number: Annotated[int, Field(ge=1)]
    model_sha256: Sha256
    rounds: Annotated[int, Field(ge=0)]
    participants: tuple[str, ...]
    private: bool
    epsilon: Annotated[float, Field(gt=0)] | None = None
    delta: Annotated[float, Field(gt=0, lt=1)] | None = None
    stands_on: tuple[str, ...] = ()
    gate: Literal["first_release", "passed", "without_gate"] = "first_release"
    signer: str
    signed_at: AwareDatetime
    signature_verified: bool
    validation_measure: str = ""
    validation_score: Annotated[float, Field(ge=0, le=1)] | None = None

    @model_validator(mode="after")
    def _privacy_is_stated(self) -> Self:
        if self.private != (self.epsilon is not None and self.delta is not None):
            raise ValueError("a private model states epsilon and delta, another one neither")
        return self


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """An activated release, ready to run.

    Attributes:
        facts: What every report states.
        network: The network with its weights, in evaluation mode, on its device.
        input: The grid and the intensity scale that it was trained on.
        task: What it answers.
        patch_size: The window, voxels along ``(slice, row, column)`` of the model's grid.
        detector: For a classification of lesions, the segmentation whose lesions it judges; None for every other task
            and where it judges whole images.
        own: What this hospital found out about it on its own patients, its calibration among it; None where it did not.
        trained_on: What its training images were like; None where that is not known.
    """

    facts: ModelFacts
    network: torch.nn.Module
    input: Input
    task: AnyTask
    patch_size: tuple[int, int, int]
    detector: LoadedModel | None = None
    own: OwnRecord | None = None
    trained_on: TrainedOn | None = None

    @property
    def calibration(self) -> Calibration | None:
        """How this hospital turns its logits into probabilities; None leaves them as they are."""
        return self.own.calibration if self.own else None

    @property
    def outliner(self) -> LoadedModel | None:
        """The model that outlines what is found: this one, its detector, or none where whole images are judged."""
        return self.detector if isinstance(self.task, Classification) else self

    @property
    def outline(self) -> Segmentation | None:
        """What counts as found; None where whole images are judged."""
        return self.outliner.task.outline if self.outliner else None
