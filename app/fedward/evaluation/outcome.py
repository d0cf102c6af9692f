"""What an evaluation has brought to the coordinator: noised totals, and the rows that hospitals share."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import AwareDatetime, Field, model_validator

from fedward.evaluation.figures import Figures, Value, figures_of
from fedward.evaluation.sheet import sheet_of
from fedward.federation.record import SitePrivacy
from fedward.settings.job import EvaluatedTask, ExchangeMode
from fedward.settings.read import Name

#: The models of a hospital's row: the release, and what the hospital trained on its own patients alone.
RELEASE: Literal["release"] = "release"
LOCAL: Literal["local"] = "local"


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
        failures: The code of each site that is not in the sum.
    """

    format: Literal["fedward-evaluation/1"] = "fedward-evaluation/1"
    job_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    name: Name
    release: Name
    number: int
    model_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    task: EvaluatedTask
    operating_point: float
    exchange: ExchangeMode
    created: AwareDatetime
    asked: tuple[Name, ...]
    total: tuple[float, ...]
    noise_multipliers: dict[Name, Annotated[float, Field(gt=0)]]
    privacy: dict[Name, SitePrivacy]
    rows: dict[Name, dict[Literal["release", "local"], tuple[float, ...]]] = Field(default_factory=dict)
    failures: dict[Name, Name] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _counts_fill_the_sheet(self) -> Self:
        size = sheet_of(self.task).size
        if any(
            len(counts) != size for counts in (self.total, *(c for row in self.rows.values() for c in row.values()))
        ):
            raise ValueError(f"a sheet for {self.task} has {size} counts")
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

    def row(self, site: str, model: Literal["release", "local"]) -> Figures | None:
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
