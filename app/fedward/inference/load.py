"""From a verified release to a network that runs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fedward.errors import ModelError, ReleaseRefused
from fedward.inference.model import LoadedModel, ModelFacts
from fedward.inference.own_record import OwnRecord, read_own_record
from fedward.models.networks import build
from fedward.models.norms import keeping_own, norm_mask
from fedward.models.runtime import Runtime, choose_runtime
from fedward.models.weights import flattened, layout_of, write_weights
from fedward.release.detector import check_detector
from fedward.release.package import Release, ReleaseParts, parameters_of
from fedward.release.passport import Passport
from fedward.settings.site import Compute, SiteSettings

#: Windows at a time; the micro-benchmark measures a step of this size.
_BATCH = 4


@dataclass(frozen=True, eq=False)
class Chosen:
    """The releases that run together.

    Attributes:
        release: The one that answers.
        detector: For a classification of lesions, the segmentation whose lesions it judges.
        own: What the hospital found out about them.
        others: For an ensemble, other releases of the one's name.
        norms: By the model's hash, this hospital's own norms' parameters for each release that leaves them to it.
    """

    release: Release
    detector: Release | None = None
    own: OwnRecord | None = None
    others: tuple[Release, ...] = ()
    norms: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def alone(self, other: Release) -> Chosen:
        """Give another of these releases by itself."""
        return Chosen(other, norms=self.norms)


def choose_at(site: SiteSettings, release: Release, detector: Release | None) -> Chosen:
    """Put the releases together with what the hospital found out about them.

    Raises:
        StoreError: ``cannot_read``: that record is damaged.
    """
    passport = release.passport
    own = read_own_record(
        site.state,
        name=passport.name,
        number=passport.number,
        model_sha256=passport.model_sha256,
        detector_sha256=detector.passport.model_sha256 if detector else None,
    )
    return Chosen(release, detector, own)


def load_chosen(chosen: Chosen, compute: Compute) -> tuple[LoadedModel, Runtime]:
    """Choose how the releases run on this machine, and load them.

    Raises:
        ReleaseRefused: ``no_lesion_source``: what should find the lesions that a classification judges cannot, or is
            missing, or is not needed; and as :func:`load_model`.
    """
    check_detector(chosen.detector.passport if chosen.detector else None, of=chosen.release.passport)
    # What slides over whole volumes takes the time: the machine is asked about that.
    passport = (chosen.detector or chosen.release).passport
    runtime = choose_runtime(
        compute, network=passport.network, task=passport.task, patch_size=passport.patch_size, batch_size=_BATCH
    )
    return load_model(chosen, runtime=runtime), runtime


def load_model(chosen: Chosen, *, runtime: Runtime) -> LoadedModel:
    """Build the release's network, fill it with its weights and place it on ``runtime``'s device.

    Raises:
        ReleaseRefused: ``altered_model``: the file's parameters are not this network's; ``norms_missing``: it leaves
            the norms to the hospitals, and there are none.
        ModelError: ``wrong_layout``: the norms are another network's.
    """
    release, detector, passport = chosen.release, chosen.detector, chosen.release.passport
    module = build(passport.network, task=passport.task)
    write_weights(module, running_weights(release, chosen.norms.get(passport.model_sha256)))
    return LoadedModel(
        facts=facts_of(release),
        network=runtime.place_module(module).eval(),
        input=passport.input,
        task=passport.task,
        patch_size=passport.patch_size,
        detector=load_model(chosen.alone(detector), runtime=runtime) if detector else None,
        own=chosen.own,
        trained_on=passport.trained_on,
    )


def running_weights(release: Release, norms: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """Give the flat weights that a hospital runs a release with: the file's, with its own norms where it leaves them.

    Raises:
        ReleaseRefused, ModelError: see :func:`load_model`.
    """
    passport = release.passport
    weights = flat_weights(release.parts, passport)
    if not passport.norms_at_site:
        return weights
    if norms is None:
        raise ReleaseRefused("norms_missing", f"{passport.name}-{passport.number} runs with a hospital's own norms")
    return keeping_own(weights, norms, norm_mask(build(passport.network, task=passport.task)))


def facts_of(release: Release) -> ModelFacts:
    """Give what every report states of its model."""
    passport = release.passport
    return ModelFacts(
        name=passport.name,
        release_number=passport.number,
        model_sha256=passport.model_sha256,
        rounds=passport.rounds,
        participants=passport.participants,
        private=passport.line is not None,
        epsilon=passport.line.epsilon if passport.line else None,
        delta=passport.line.delta if passport.line else None,
        stands_on=tuple(f"{one.name}-{one.number}" for one in passport.stands_on),
        gate=passport.gate.outcome,
        signer=release.signer.subject,
        signed_at=passport.created,
        signature_verified=release.signer.is_verified,
        validation_measure=passport.task.measure if "validation_score" in passport.metrics else "",
        validation_score=passport.metrics.get("validation_score"),
    )


def flat_weights(parts: ReleaseParts, passport: Passport) -> NDArray[np.float32]:
    """Give the weights in ``model.safetensors`` as one flat float32 array in the network's layout.

    Raises:
        ReleaseRefused: ``altered_model``: the layout is not the passport's, or the parameters are not the network's.
    """
    layout = layout_of(build(passport.network, task=passport.task))
    if layout.digest != passport.layout_digest:
        raise ReleaseRefused("altered_model", "the passport's layout is not that of its network")
    try:
        return flattened(layout, parameters_of(parts.model))
    except ModelError as error:
        raise ReleaseRefused("altered_model", f"the model file does not fit its network: {error.detail}") from error


def weights_sha256(parts: ReleaseParts, passport: Passport) -> str:
    """Give the SHA-256 of the flat weights that the model file really holds, as a site witnessed them in the job."""
    return hashlib.sha256(flat_weights(parts, passport).tobytes()).hexdigest()
