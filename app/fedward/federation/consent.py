"""What the hospitals of a job sign before any of them lets its own model leave: yes, and which model it is.

Each of them reads all the others' by its own roster. So a server can neither leave a hospital out, nor say yes for it,
nor exchange a model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from fedward.errors import JobRefused
from fedward.federation.secure_messages import Hex, Value
from fedward.identity import canonical
from fedward.identity.document import JobDocument
from fedward.identity.roster import Roster, Signer, verify_by
from fedward.privacy.head import Head

Weights = NDArray[np.float32]

CONSENT_PURPOSE = "local-model"


class Consent(Value):
    """A hospital's yes to one job.

    Attributes:
        site: Whose.
        model_sha256: Of its own model; None where it has none.
        signature: Over :func:`consent_content`.
        certificate: PEM.
    """

    site: str
    model_sha256: Hex | None
    signature: bytes
    certificate: bytes


@dataclass(frozen=True, eq=False)
class GivenModel:
    """A hospital's own model on its way out.

    Attributes:
        weights: Flat float32.
        head: Of the site's privacy ledger, for the server to remember.
    """

    weights: Weights
    head: Head


@dataclass(frozen=True, eq=False)
class OwnModels:
    """What the server brings to every hospital.

    Attributes:
        consents: All of them.
        models: By hospital, its own model, flat float32.
    """

    consents: tuple[Consent, ...] = ()
    models: Mapping[str, Weights] = field(default_factory=dict)


#: What a job brings that does not ask for them.
NO_MODELS = OwnModels()


def consent_content(document: JobDocument, site: str, *, model_sha256: str | None) -> bytes:
    """Give what is signed: for which job, who, and which model."""
    return canonical.encode({"job_sha256": document.digest, "site": site, "model_sha256": model_sha256})


def consent_to(document: JobDocument, signer: Signer, *, model_sha256: str | None) -> Consent:
    """Say yes to a job."""
    content = consent_content(document, signer.name, model_sha256=model_sha256)
    signature = signer.sign(content, purpose=CONSENT_PURPOSE)
    return Consent(site=signer.name, model_sha256=model_sha256, signature=signature, certificate=signer.certificate)


def read_consents(
    consents: Sequence[Consent], document: JobDocument, *, roster: Roster, now: datetime
) -> Mapping[str, str | None]:
    """Give the hash of each hospital's own model, once every hospital of the job has said yes.

    Raises:
        JobRefused: ``not_all_agreed``: one is missing, or there are others.
        IdentityError: see :meth:`Roster.accept`; ``bad_signature``: it was signed for another job or model.
    """
    sites = sorted(one.site for one in consents)
    if sites != list(document.sites):
        raise JobRefused("not_all_agreed", f"the job asks {list(document.sites)}, the server shows a yes of {sites}")
    for one in consents:
        roster.accept(one.certificate, name=one.site, role="hospital", now=now)
        content = consent_content(document, one.site, model_sha256=one.model_sha256)
        verify_by(one.certificate, one.signature, purpose=CONSENT_PURPOSE, content=content)
    return {one.site: one.model_sha256 for one in consents}


def hash_model(weights: Weights) -> str:
    """Give SHA-256 of flat weights' little-endian bytes, hexadecimal."""
    return hashlib.sha256(np.ascontiguousarray(weights, "<f4").data).hexdigest()
