"""The release gate's verdict: what the sites' single bits, and their silences, mean for a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from fedward.federation.record import NON_INFERIOR, JobRecord
from fedward.identity.document import JobDocument
from fedward.settings.job import GateJob
from fedward.settings.read import Name

#: The site runs no release of the model's name: there is nothing to compare with.
NOTHING_RUNS = "no_active_model"

#: Why a site cannot say; what that means for the release stands in the job.
CANNOT_SAY = frozenset({"too_few_patients", "privacy_spent", "delta_too_large", "no_labelled_case"})


@dataclass(frozen=True)
class CandidateFiles:
    """What a gate brings; nothing in it is trusted.

    Attributes:
        model: The content of ``model.safetensors``.
        document: The canonical document of the job that trained it.
    """

    model: bytes
    document: bytes


class GateStatement(BaseModel):
    """What a passport says of the gate that its model came through.

    Attributes:
        outcome: ``first_release``: no release of the name was there to compare with; ``passed``; ``without_gate``: the
            coordinator released the model in spite of what the gate says, or without asking it.
        job_id: The gate's job; None where none was asked.
        margin: See :class:`GateJob`, as the next three.
        attempts: How many gates of this model were asked.
        sites: By site that was asked: ``non_inferior``, ``not_shown``, or the code of why there is no bit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    outcome: Literal["first_release", "passed", "without_gate"]
    job_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = None
    margin: float | None = None
    confidence: float | None = None
    noise_multiplier: float | None = None
    cannot_say: Literal["block", "pass"] | None = None
    attempts: Annotated[int, Field(ge=0)] = 0
    sites: dict[Name, Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]] = Field(default_factory=dict)


FIRST_RELEASE = GateStatement(outcome="first_release")


def gate_statement(document: JobDocument, record: JobRecord, *, attempts: int) -> GateStatement:
    """Give the verdict of a gate that has ended; ``without_gate`` where it lets nothing pass.

    Args:
        document: What the sites were asked.
        record: What they have answered; the server wrote it, and may name only sites that were asked.
        attempts: How many gates of the model were asked so far.

    Raises:
        ValueError: the document is not a gate's.
    """
    job = document.job
    if not isinstance(job, GateJob):
        raise ValueError(f"expected a gate, got a job of kind {job.kind}")
    is_ours = record.id == document.id and record.status == "completed"
    found = {site: record.sites[site].code for site in document.sites if site in record.sites} if is_ours else {}
    codes = {site: found.get(site, "deadline_missed") for site in document.sites}
    return GateStatement(
        outcome="passed" if passes(codes, cannot_say=job.cannot_say) else "without_gate",
        job_id=document.id,
        margin=job.margin,
        confidence=job.confidence,
        noise_multiplier=job.noise_multiplier,
        cannot_say=job.cannot_say,
        attempts=attempts,
        sites=codes,
    )


def passes(codes: dict[str, str], *, cannot_say: Literal["block", "pass"]) -> bool:
    """Whether the sites' codes let a model pass: no site is against it, and one that compared is for it.

    Where no site runs a release of the name, there is nothing that it could be worse than.
    """
    borne = {NON_INFERIOR, NOTHING_RUNS} | (CANNOT_SAY if cannot_say == "pass" else set())
    compared = NON_INFERIOR in codes.values() or set(codes.values()) == {NOTHING_RUNS}
    return compared and set(codes.values()) <= borne
