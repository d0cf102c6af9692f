"""How much the model doubts each finding, as a report states it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Deviation = Annotated[float, Field(ge=0, le=0.5)]
Nats = Annotated[float, Field(ge=0)]

#: Decimals of what a report states.
DIGITS = 3


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FindingDoubt(_Value):
    """One finding's doubt.

    Attributes:
        number: The lesion's; null for an image that is judged as a whole.
        outline_deviation: The standard deviation over the answers of the probability that a voxel belongs to the
            lesion: the root of the mean variance over its voxels. Null where the model outlines nothing.
        call_deviation: The same of the positive class's probability. Null where the model judges nothing.
        entropy: Of the mean answer (the call's where there is one), in nats: doubt of every kind.
        disagreement: The part of it in which the answers contradict each other (mutual information): doubt that other
            training data could have settled.
        second_read: Whether a deviation lies above the hospital's threshold.
    """

    number: Annotated[int, Field(ge=1)] | None
    outline_deviation: Deviation | None
    call_deviation: Deviation | None
    entropy: Nats
    disagreement: Nats
    second_read: bool


class Doubt(_Value):
    """How the doubt was measured, and what it is.

    Attributes:
        method: ``dropout`` (Monte-Carlo dropout, Gal and Ghahramani 2016), ``ensemble`` (releases of one name), or
            ``none``: no number stands for what was not measured.
        reason: Why not: the site file's word (``turned_off``), ``no_dropout`` in the network, only ``one_release``.
        answers: How many answers were compared.
        second_read_above: The hospital's threshold.
        findings: The largest findings, by number.
        not_measured: How many smaller ones were not asked about.
    """

    method: Literal["dropout", "ensemble", "none"]
    reason: Literal["", "turned_off", "no_dropout", "one_release"] = ""
    answers: Annotated[int, Field(ge=0)] = 0
    second_read_above: Deviation
    findings: tuple[FindingDoubt, ...] = ()
    not_measured: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _measured_or_says_why_not(self) -> Self:
        if (self.method == "none") != bool(self.reason) or (self.method == "none" and self.findings):
            raise ValueError("a doubt is measured, or there is a reason why it is not")
        if self.findings and self.answers < 2:
            raise ValueError(f"doubt comes from two answers or more, got {self.answers}")
        return self

    def of(self, number: int | None) -> FindingDoubt | None:
        """Give a finding's doubt; None where it was not measured."""
        return next((one for one in self.findings if one.number == number), None)

    @property
    def second_reads(self) -> tuple[FindingDoubt, ...]:
        """The findings that a second reader should look at."""
        return tuple(one for one in self.findings if one.second_read)
