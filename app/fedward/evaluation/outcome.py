"""What an evaluation has brought to the coordinator: noised totals, and the rows that hospitals share."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import AwareDatetime, Field, model_validator

from fedward.evaluation.figures import Figures, Value, figures_of
from fedward.evaluation.sheet import sheet_of
from fedward.federation.record import SitePrivacy
from fedward.identity.document import Sha256
from fedward.settings.job import EvaluatedTask, ExchangeMode
from fedward.settings.read import Name

#: The models of a hospital's row: the release, and what the hospital trained on its own patients alone.
RELEASE: Literal["release"] = "release"
LOCAL: Literal["local"] = "local"

#: Such a model, or that of another hospital: see :func:`model_of`.
ModelName = Annotated[str, Field(pattern=r"^(release|local|of [a-z0-9_-]{1,64})$")]


def model_of(site: str) -> str:
    """Give the name of another hospital's own model in a row; no hospital can be called so."""
    return f"of {site}"


def models_at(site: str, local_models: Collection[str]) -> set[str]:
    """Give the models that a site may have a row of, where those hospitals' own models were tried everywhere."""
    return {RELEASE, LOCAL, *(model_of(other) for other in local_models if other != site)}


class EvaluationOutcome(Value):
    """The raw numbers, as the server writes them.

    Attributes:
        release: The name of the evaluated release.
        number: Its number.
        model_sha256: Of its model file.
        task: Which sheet was counted on.
        operating_point: From here on a score counts as positive.
        exchange: Who could read one site's noised counts.
        asked: The job's sites.
        total: The sum of the noised counts.
        noise_multipliers: Of each site in the sum.
        privacy: What the noised counts cost any counted patient of each site in the sum.
        rows: By site, exact counts of the models that the site shares.
        local_models: The hash of each hospital's own model that was tried on everybody's patients; None where the job
            asked for none.
        not_given: Of each other hospital of such a job, why none of its own was: ``no_own_model``, or its error's code.
        failures: The code of each site that is not in the sum.
    """

    format: Literal["fedward-evaluation/1"] = "fedward-evaluation/1"
    job_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    name: Name
    release: Name
    number: int
    model_sha256: Sha256
    task: EvaluatedTask
    operating_point: float
    exchange: ExchangeMode
    created: AwareDatetime
    asked: tuple[Name, ...]
    total: tuple[float, ...]
    noise_multipliers: dict[Name, Annotated[float, Field(gt=0)]]
    privacy: dict[Name, SitePrivacy]
    rows: dict[Name, dict[ModelName, tuple[float, ...]]] = Field(default_factory=dict)
    local_models: dict[Name, Sha256] | None = None
    not_given: dict[Name, Name] = Field(default_factory=dict)
    failures: dict[Name, Name] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _counts_fill_the_sheet(self) -> Self:
        size = sheet_of(self.task).size
        if any(
            len(counts) != size for counts in (self.total, *(c for row in self.rows.values() for c in row.values()))
        ):
            raise ValueError(f"a sheet for {self.task} has {size} counts")
        return self

    @model_validator(mode="after")
    def _rows_are_of_models_that_were_tried(self) -> Self:
        for site, row in self.rows.items():
            if unknown := set(row) - models_at(site, self.local_models or {}):
                raise ValueError(f"{site} has rows of models that were not tried: {sorted(unknown)}")
        return self

    @property
    def deviation(self) -> float:
        """The standard deviation of the noise of each count of the total."""
        return sheet_of(self.task).bound * math.hypot(*self.noise_multipliers.values())

    def totals(self) -> Figures:
        """Read the noised totals."""
        return figures_of(
            np.array(self.total), self.task, operating_point=self.operating_point, deviation=self.deviation
        )

    def row(self, site: str, model: str) -> Figures | None:
        """Read a site's own counts of a model, None where they stay at the site."""
        counts = self.rows.get(site, {}).get(model)
        if counts is None or not any(counts):
            return None
        return figures_of(np.array(counts), self.task, operating_point=self.operating_point)

    def shared(self) -> Figures | None:
        """Read the exact counts of all sites together, where every site in the sum shares its row."""
        rows = [self.rows.get(site, {}).get(RELEASE) for site in self.noise_multipliers]
        known = [row for row in rows if row is not None and any(row)]
        if not rows or len(known) != len(rows):
            return None
        return figures_of(np.sum(known, axis=0), self.task, operating_point=self.operating_point)
