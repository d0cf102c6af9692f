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
from fedward.release.package import Release, ReleaseParts, parameters_of
from fedward.release.passport import Passport, reported_task


def load_model(release: Release, *, runtime: Runtime) -> LoadedModel:
    """Build the release's network, fill it with its weights and place it on ``runtime``'s device.

    Raises:
        ReleaseRefused: ``altered_model``: the file's parameters are not this network's; ``task_not_reported``.
    """
    passport = release.passport
    task = reported_task(passport)
    module = build(passport.network, task=passport.task)
    write_weights(module, flat_weights(release.parts, passport))
    return LoadedModel(
        facts=facts_of(release),
        network=runtime.place_module(module).eval(),
        input=passport.input,
        task=task,
        patch_size=passport.patch_size,
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
