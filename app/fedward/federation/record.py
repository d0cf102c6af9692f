"""A job's own record: what its controller did and what came of it. The truth about a job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from fedward.federation.best import Best
from fedward.identity.document import JobDocument

#: What a site has done with a job of one task; a gate's answers; what it says and does about its own model.
DONE = "done"
NON_INFERIOR, NOT_SHOWN = "non_inferior", "not_shown"
AGREED, GAVE, NO_MODEL = "agreed", "gave", "no_own_model"

#: Every word of a site's outcome that is no error's code.
WORDS = frozenset({DONE, NON_INFERIOR, NOT_SHOWN, AGREED, GAVE, NO_MODEL})


class _Value(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SiteOutcome(_Value):
    """What one site has done with a job of one task: of :data:`WORDS` or its error's code, and its rounded counts."""

    code: str
    counts: dict[str, int] = Field(default_factory=dict)

    @property
    def is_failure(self) -> bool:
        """Whether the site has not done what it was asked."""
        return self.code not in WORDS


class SitePrivacy(_Value):
    """What a job has cost any patient of one site at most, as the site says."""

    epsilon: float
    delta: float


class RoundRecord(_Value):
    """One round.

    Attributes:
        number: From 1.
        seconds: Its wall time on the server.
        weights: Of the sites that contributed.
        failures: The code of each site that did not.
        score: The global validation score of the model that the round *ended* with; None until the sites have
            looked at it, and where none shares it.
        false_positives: Likewise, per scan.
        metrics: The sites' own validation of that model, as far as it leaves them.
        privacy: What the job has cost at each site by then; empty without privacy.
    """

    number: int
    seconds: float
    weights: dict[str, int]
    failures: dict[str, str] = Field(default_factory=dict)
    score: float | None = None
    false_positives: float | None = None
    metrics: dict[str, dict[str, float]] = Field(default_factory=dict)
    privacy: dict[str, SitePrivacy] = Field(default_factory=dict)


class JobRecord(_Value):
    """A whole job.

    Attributes:
        code: Why it failed or was aborted; None otherwise.
        planned_rounds: Of a training job, else 0.
        sites: Of a job of one task, by site.
        best_round: How many rounds went into the kept model; None while there is none.
        weights_sha256: Of the kept model's flat weights, as the sites have received them.
        trained_on: In how many patients' images each bin of a trait was seen, over the sites of the first round, as far
            as it left them: noised in a private job, exact in another one.
    """

    format: Literal["fedward-record/1"] = "fedward-record/1"
    id: str
    name: str
    kind: Literal["train", "gate", "publish", "infer", "evaluate"]
    asked: tuple[str, ...]
    status: Literal["running", "completed", "failed", "aborted"] = "running"
    code: str | None = None
    planned_rounds: int = 0
    rounds: tuple[RoundRecord, ...] = ()
    sites: dict[str, SiteOutcome] = Field(default_factory=dict)
    best_round: int | None = None
    best_score: float | None = None
    weights_sha256: str | None = None
    trained_on: dict[str, float] = Field(default_factory=dict)

    @classmethod
    def begin(cls, document: JobDocument) -> Self:
        """Give the record of a job that starts."""
        job = document.job
        planned = job.training.rounds if job.kind == "train" else 0
        return cls(id=document.id, name=job.name, kind=job.kind, asked=document.sites, planned_rounds=planned)

    def with_round(self, record: RoundRecord) -> Self:
        """Add a round that has ended; it takes the place of an earlier attempt at it."""
        rounds = tuple(entry for entry in self.rounds if entry.number != record.number)
        return self.model_copy(update={"rounds": (*rounds, record)})

    def with_validation(
        self,
        number: int,
        *,
        score: float | None,
        false_positives: float | None,
        metrics: Mapping[str, Mapping[str, float]],
    ) -> Self:
        """Add what the sites say of the model that round ``number`` ended with."""
        values = {
            "score": score,
            "false_positives": false_positives,
            "metrics": {s: dict(m) for s, m in metrics.items()},
        }
        rounds = tuple(r.model_copy(update=values) if r.number == number else r for r in self.rounds)
        return self.model_copy(update={"rounds": rounds})

    def with_privacy(self, number: int, privacy: Mapping[str, SitePrivacy]) -> Self:
        """Set what the job has cost at each site by the end of a round."""
        rounds = tuple(
            r.model_copy(update={"privacy": dict(privacy)}) if r.number == number else r for r in self.rounds
        )
        return self.model_copy(update={"rounds": rounds})

    def with_best(self, best: Best, weights_sha256: str) -> Self:
        """Name the kept model."""
        return self.model_copy(
            update={"best_round": best.round_number, "best_score": best.score, "weights_sha256": weights_sha256}
        )

    def with_trained_on(self, counts: Mapping[str, float]) -> Self:
        """Set what the training images are like."""
        return self.model_copy(update={"trained_on": dict(counts)})

    def with_sites(self, sites: Mapping[str, SiteOutcome]) -> Self:
        """Set what the sites of a job of one task have done."""
        return self.model_copy(update={"sites": dict(sites)})

    def end(self, status: Literal["completed", "failed", "aborted"], code: str | None) -> Self:
        """Close the record."""
        return self.model_copy(update={"status": status, "code": code})
