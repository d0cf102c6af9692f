"""From a verified release to a network that runs."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from fedward.errors import ModelError, ReleaseRefused
from fedward.inference.model import LoadedModel, ModelFacts
from fedward.models.networks import build
from fedward.models.norms import keeping_own, norm_mask
from fedward.models.runtime import Runtime
from fedward.models.weights import flattened, layout_of, write_weights
from fedward.release.package import Release, ReleaseParts, parameters_of
from fedward.release.passport import Passport, reported_task


def load_model(release: Release, *, runtime: Runtime, norms: NDArray[np.float32] | None = None) -> LoadedModel:
    """Build the release's network, fill it with its weights and place it on ``runtime``'s device.

    Args:
        release: Verified.
        runtime: Where and how the network runs.
        norms: This hospital's own norms' parameters, for a release that leaves them to the hospitals.

    Raises:
        ReleaseRefused: ``altered_model``: the file's parameters are not this network's; ``task_not_reported``;
            ``norms_missing``: it leaves the norms to the hospitals, and there are none.
        ModelError: ``wrong_layout``: the norms are another network's.
    """
    passport = release.passport
    task = reported_task(passport)
    module = build(passport.network, task=passport.task)
    write_weights(module, running_weights(release, norms))
    return LoadedModel(
        facts=facts_of(release),
        network=runtime.place_module(module).eval(),
        input=passport.input,
        task=task,
        patch_size=passport.patch_size,
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
