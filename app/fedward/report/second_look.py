"""What a report says of doubt, of unfamiliar images, and of where an answer comes from."""

from __future__ import annotations

from types import MappingProxyType

from fedward.inference.doubt import Doubt
from fedward.inference.heat import Explanation
from fedward.inference.likeness import Compared, Likeness

#: The fixed words, by the name under which the template asks for them.
LOOK = MappingProxyType(
    {
        "title": "How far to trust it",
        "number": "No.",
        "image": "Image",
        "outline": "Outline varies by",
        "call": "Probability varies by",
        "entropy": "Entropy",
        "disagreement": "Disagreement",
        "second_read": "Second read",
        "yes": "asked for",
        "no": "–",
        "unit": "nats",
        "heat": "Where the answer comes from",
        "trait": "This image",
        "value": "Measured",
        "range": "Training images",
        "fits": "Within",
        "within": "yes",
        "outside": "NO",
    }
)

_TRAITS = {
    "slice_spacing": "Slice spacing",
    "pixel_spacing": "Pixel spacing",
    "dark_intensity": "Dark intensities (5th percentile)",
    "middle_intensity": "Middle intensities (median)",
    "bright_intensity": "Bright intensities (95th percentile)",
}
_UNITS = {"mm": " mm", "HU": " HU", "stored": "", "deviations": " standard deviations"}
_NOT_MEASURED = {
    "turned_off": "This hospital has turned the measurement of doubt off, so that nothing is said about it.",
    "no_dropout": (
        "The model's doubt was not measured: its network was trained without dropout, so that repeated passes would "
        "all agree and say nothing."
    ),
    "one_release": (
        "The model's doubt was not measured: the hospital compares releases of one name, and only one that fits was "
        "activated here."
    ),
}
_METHODS = {
    "grad_cam": "Grad-CAM",
    "attention_rollout": "Attention roll-out (where the network looked, whatever it found there)",
    "integrated_gradients": "Integrated gradients",
}


def warnings(doubt: Doubt | None, likeness: Likeness | None, kind: str = "lesions") -> tuple[str, ...]:
    """Say what a radiologist must know before the findings; nothing where all is in order.

    Args:
        doubt: None where it was not asked about.
        likeness: Likewise.
        kind: What was found; see :class:`fedward.inference.findings.Findings`.
    """
    said = []
    if doubt and doubt.second_reads:
        said.append(_second_read(doubt, "Structure" if kind == "structures" else "Lesion"))
    if likeness and likeness.outside:
        listed = "; ".join(_outside(one) for one in likeness.outside)
        said.append(
            f"This image is unlike those that the model was trained on. {listed}. "
            "What the model says of it was never tested on such images."
        )
    return tuple(said)


def _second_read(doubt: Doubt, noun: str) -> str:
    numbers = [one.number for one in doubt.second_reads if one.number is not None]
    what = f"{noun if len(numbers) == 1 else noun + 's'} {_listed(numbers)}" if numbers else "This image"
    needs = "need" if len(numbers) > 1 else "needs"
    return (
        f"{what} {needs} a second read: the model contradicts itself there "
        f"(a standard deviation above {doubt.second_read_above:g}). Have another physician judge without the model."
    )


def _listed(numbers: list[int]) -> str:
    *first, last = map(str, numbers)
    return f"{', '.join(first)} and {last}" if first else last


def _outside(one: Compared) -> str:
    return f"{trait(one)} {measured(one)}: the model was trained on {trained(one)}"


def trait(one: Compared) -> str:
    """Name a trait."""
    return _TRAITS.get(one.trait, one.trait)


def measured(one: Compared) -> str:
    """Write this image's value."""
    return f"{_number(one.value)}{_UNITS[one.unit]}"


def trained(one: Compared) -> str:
    """Write the training images' range.

    Example:
        >>> trained(Compared(trait="slice_spacing", unit="mm", value=5, low=0.56, high=2.75, is_inside=False))
        '0.56 to 2.75 mm'
    """
    unit = _UNITS[one.unit]
    if one.low is None and one.high is None:
        return "any value"
    if one.low is None:
        return f"less than {_number(one.high or 0)}{unit}"
    if one.high is None:
        return f"{_number(one.low)}{unit} and more"
    return f"{_number(one.low)} to {_number(one.high)}{unit}"


def _number(value: float) -> str:
    return f"{value:.3g}".replace("-", "−") if abs(value) < 1000 else f"{value:.0f}".replace("-", "−")


def how_doubt(doubt: Doubt) -> str:
    """Say how doubt was measured, or why it was not."""
    if doubt.method == "none":
        return _NOT_MEASURED[doubt.reason]
    by = (
        f"The model looked {doubt.answers} times at the surroundings of each finding, each time with another part of "
        "itself left out (Monte-Carlo dropout)."
        if doubt.method == "dropout"
        else f"{doubt.answers} releases of the model that were activated here looked at each finding."
    )
    left = f" The {doubt.not_measured} smallest findings were not looked at again." if doubt.not_measured else ""
    return (
        f"{by} The numbers say how far the answers lie apart (standard deviation of the probability, at most 0.5); "
        f"above {doubt.second_read_above:g} this hospital asks for a second read. A small number does not mean that "
        f"the model is right, and nothing is said of what it did not find.{left}"
    )


def how_alike(likeness: Likeness) -> str:
    """Say what is known of the training images."""
    if likeness.known_from == "nothing":
        return "What the model's training images were like is not known: no hospital gave such numbers."
    source = (
        "from counts with added noise, which show what many patients' images have in common"
        if likeness.known_from == "noised"
        else "from exact counts of the hospitals that gave them"
    )
    names = [_TRAITS.get(name, name).lower() for name in likeness.unknown]
    unknown = f" Too little is known of: {', '.join(names)}." if names else ""
    return f"What the training images were like is known {source}.{unknown}"


def how_explained(explanation: Explanation) -> str:
    """Say what a coloured picture shows."""
    method = _METHODS[explanation.method]
    if explanation.on_lesion is None or explanation.by_chance is None:
        return f"{method}."
    return (
        f"{method}. {explanation.on_lesion:.0%} of it lies inside the outline, which fills {explanation.by_chance:.1%} "
        "of what the model saw."
    )
