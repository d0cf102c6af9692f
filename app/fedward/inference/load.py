"""From a verified release to a network that runs."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from fedward.errors import ModelError, ReleaseRefused
from fedward.inference.model import LoadedModel, ModelFacts
from fedward.models.networks import build
from fedward.models.runtime import Runtime
from fedward.models.weights import flattened, layout_of, write_weights
from fedward.release.detector import check_detector
from fedward.release.package import Release, ReleaseParts, parameters_of
from fedward.release.passport import Passport


def load_model(release: Release, *, runtime: Runtime, detector: Release | None = None) -> LoadedModel:
    """Build the release's network, fill it with its weights and place it on ``runtime``'s device.

    Args:
        release: The model that answers.
        runtime: Where it runs.
        detector: For a classification of lesions, the segmentation whose lesions it judges.

    Raises:
        ReleaseRefused: ``altered_model``: the file's parameters are not this network's; ``no_lesion_source``: what
            should find the lesions cannot, or ``release`` needs nothing of the kind.
    """
    passport = release.passport
    if detector is not None:
        check_detector(detector.passport, of=passport)
    module = build(passport.network, task=passport.task)
    write_weights(module, flat_weights(release.parts, passport))
    return LoadedModel(
        facts=facts_of(release),
        network=runtime.place_module(module).eval(),
        input=passport.input,
        task=passport.task,
        patch_size=passport.patch_size,
        detector=load_model(detector, runtime=runtime) if detector else None,
        trained_on=passport.trained_on,
    )


def facts_of(release: Release) -> ModelFacts:
    """Give what every report states of its model."""
    passport = release.passport
    return ModelFacts(
        name=passport.name,
        release_number=passport.number,
        model_sha256=passport.model_sha256,
        rounds=passport.rounds,
        participants=passport.participants,
        private=passport.privacy is not None,
        epsilon=passport.privacy.epsilon if passport.privacy else None,
        delta=passport.privacy.delta if passport.privacy else None,
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
