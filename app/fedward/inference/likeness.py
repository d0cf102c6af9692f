"""Whether an image is like those that the model was trained on, as far as the model's passport tells."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from fedward.dicom.volume import Volume
from fedward.imaging.traits import Unit, measure_traits, traits_of
from fedward.release.passport import TrainedOn
from fedward.settings.job import Input


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Compared(_Value):
    """One trait of an image beside what the training images had.

    Attributes:
        trait: See :class:`fedward.imaging.traits.Trait`.
        unit: Of all three numbers.
        value: This image's.
        low: The training images' lower end; null where the range is open.
        high: The upper end, likewise.
        is_inside: Whether the value lies between them.
    """

    trait: str
    unit: Unit
    value: float
    low: float | None
    high: float | None
    is_inside: bool


class Likeness(_Value):
    """An image beside the images that the model was trained on.

    Attributes:
        known_from: The hospitals' ``exact`` counts, their ``noised`` ones, or ``nothing``.
        compared: Each trait whose range is known.
        unknown: The names of the traits of which too few training images are known.
    """

    known_from: Literal["exact", "noised", "nothing"]
    compared: tuple[Compared, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def outside(self) -> tuple[Compared, ...]:
        """What lies outside of the training images' ranges."""
        return tuple(one for one in self.compared if not one.is_inside)


def compare(volume: Volume, settings: Input, trained_on: TrainedOn | None) -> Likeness:
    """Compare an image with what a passport says; what it does not say is never taken for alike."""
    if trained_on is None:
        return Likeness(known_from="nothing")
    traits = traits_of(settings)
    values = dict(zip((trait.name for trait in traits), measure_traits(volume, settings).tolist(), strict=True))
    compared = tuple(
        Compared(
            trait=known.trait,
            unit=known.unit,
            value=values[known.trait],
            low=known.low,
            high=known.high,
            is_inside=_is_inside(values[known.trait], known.low, known.high),
        )
        for known in trained_on.ranges
        if known.trait in values
    )
    unknown = tuple(name for name in values if name not in {one.trait for one in compared})
    return Likeness(known_from="noised" if trained_on.noised else "exact", compared=compared, unknown=unknown)


def _is_inside(value: float, low: float | None, high: float | None) -> bool:
    return (low is None or value >= low) and (high is None or value < high)
