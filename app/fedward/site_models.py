"""The hospitals' own models in an evaluation: whether this one's may leave, and whether the others' are what they say.

A model that a hospital trained alone has no privacy: it leaves only where the site file says so, only after every
hospital of the job has signed the same, and its patients' ledger says infinite.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from fedward.errors import JobRefused, UpdateRefused
from fedward.evaluation.kept_alone import OwnModel, own_model
from fedward.federation.consent import Consent, OwnModels, Weights, consent_to, hash_model, read_consents
from fedward.identity.document import JobDocument
from fedward.identity.trusted import roster_of, signer_of
from fedward.models.networks import build
from fedward.models.weights import layout_of
from fedward.release.passport import Passport
from fedward.settings.job import EvaluationJob
from fedward.settings.site import SiteSettings, read_site_settings, require_identity


@dataclass(frozen=True, eq=False)
class SiteModels:
    """This hospital's part in trying the hospitals' own models on everybody's patients.

    Attributes:
        site: The hospital's own settings.
        site_file: Read anew at each task: what it no longer allows does not leave.
        document: The accepted job.
        job: What it says.
        passport: Of the evaluated release: the models are of its network.
        clock: Gives the time.
    """

    site: SiteSettings
    site_file: Path
    document: JobDocument
    job: EvaluationJob
    passport: Passport
    clock: Callable[[], datetime]

    def own(self) -> OwnModel | None:
        """Give the model that this hospital trained alone for the release's name, if there is one of its network.

        The file may be written anew at any time: a task asks once, and acts on what it got.

        Raises:
            StoreError: ``cannot_read``.
        """
        passport = self.passport
        return own_model(self.site.state, passport.name, network=passport.network, task=passport.task)

    def agree(self) -> Consent:
        """Sign that this hospital's own model may go to all hospitals of the job, and which model that is.

        Raises:
            JobRefused: ``local_models_not_allowed``.
            UpdateRefused: the model must not leave.
            IdentityError: ``unreadable_key``.
        """
        site, own = self._allowing(), self.own()
        if own is not None:
            self._check(own.weights)
        signer = signer_of(require_identity(site), name=site.name)
        return consent_to(self.document, signer, model_sha256=_hash_of(own))

    def agreed(self, consents: Sequence[Consent], own: OwnModel | None) -> Mapping[str, str | None]:
        """Give the hash of each hospital's own model, None where it has none.

        Raises:
            JobRefused: ``local_models_not_allowed``, ``not_all_agreed``; ``model_changed``: this hospital's own is not
                the one that it has signed.
            IdentityError: a hospital's yes cannot be trusted.
        """
        identity = require_identity(self._allowing())
        agreed = read_consents(consents, self.document, roster=roster_of(identity), now=self.clock())
        if agreed[self.site.name] != _hash_of(own):
            raise JobRefused("model_changed", "this hospital's own model is another one since it was agreed on")
        return agreed

    def others(self, brought: OwnModels, own: OwnModel | None) -> Mapping[str, Weights]:
        """Give the other hospitals' models that the server has brought, checked.

        Raises:
            JobRefused: ``foreign_model``: the job asks for none; ``model_changed``: one is not what its hospital has
                signed; and as :meth:`agreed`.
            UpdateRefused: ``wrong_layout`` or ``not_finite``: it is none of the release's network.
            IdentityError: a hospital's yes cannot be trusted.
        """
        if not self.job.local_models:
            if brought.consents or brought.models:
                raise JobRefused("foreign_model", "the server brings models, and the job asks for none")
            return {}
        agreed = self.agreed(brought.consents, own)
        for name, weights in sorted(brought.models.items()):
            if agreed.get(name) != hash_model(weights):
                raise JobRefused("model_changed", f"the model under the name {name!r} is not what a hospital signed")
            self._check(weights)
        return {name: weights for name, weights in sorted(brought.models.items()) if name != self.site.name}

    def _allowing(self) -> SiteSettings:
        """Read the site file again, and refuse where it, or the job, has no own model leave."""
        site = read_site_settings(self.site_file)
        if not (self.job.local_models and site.privacy.share_local_model):
            raise JobRefused("local_models_not_allowed", "no hospital's own model leaves: see [privacy]")
        return site

    def _check(self, weights: Weights) -> None:
        size = layout_of(build(self.passport.network, task=self.passport.task)).size
        if weights.dtype != np.float32 or weights.shape != (size,):
            raise UpdateRefused("wrong_layout", f"expected float32 ({size},), found {weights.dtype} {weights.shape}")
        if not np.isfinite(weights).all():
            raise UpdateRefused("not_finite", "a hospital's own model holds NaN or infinite values")


def _hash_of(own: OwnModel | None) -> str | None:
    return None if own is None else hash_model(own.weights)
