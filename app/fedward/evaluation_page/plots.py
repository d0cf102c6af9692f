"""The plots of a page, each as a ``data:`` URI, so that the page needs no other file."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedward.evaluation.figures import Calibrated, Curve, Estimate
from fedward.evaluation_page.view import Plot

_SIZE = (4.4, 3.3)
_INK, _ACCENT, _SOFT = "#14202b", "#0b5c8a", "#9aa7b3"
_COLOURS = ("#0b5c8a", "#c8553d", "#588157", "#8a5a9e", "#e0a030", "#3d405b", "#7f8c8d", "#1b998b")


def curves(
    named: Mapping[str, Curve], *, x: str, y: str, text: str, is_roc: bool = False, farthest: float | None = None
) -> Plot:
    """Draw curves over one another.

    Args:
        named: At least one.
        x: The axis' name.
        y: The axis' name.
        text: What the plot shows.
        is_roc: Whether chance is a diagonal.
        farthest: Where the axis ends.
    """
    figure, axes = _axes(x, y)
    if is_roc:
        axes.plot([0, 1], [0, 1], color=_SOFT, linewidth=0.8, linestyle="--")
    for place, (name, curve) in enumerate(named.items()):
        area = f" ({curve.area:.3f})" if curve.area is not None else ""
        axes.plot(curve.x, curve.y, color=_COLOURS[place % len(_COLOURS)], linewidth=1.6, label=f"{name}{area}")
    axes.set_ylim(0, 1.02)
    axes.set_xlim(0, farthest)
    axes.legend(fontsize=7, frameon=False, loc="lower right")
    return _drawn(figure, text)


def reliability(calibrated: Calibrated, *, text: str) -> Plot:
    """Draw what came true against what was said; a point is as large as its share of the cases."""
    figure, axes = _axes("probability that was said", "share that came true")
    axes.plot([0, 1], [0, 1], color=_SOFT, linewidth=0.8, linestyle="--")
    points = calibrated.points
    axes.plot([p.confidence for p in points], [p.frequency for p in points], color=_ACCENT, linewidth=1.0)
    axes.scatter(
        [p.confidence for p in points],
        [p.frequency for p in points],
        s=[12 + 180 * p.share for p in points],
        color=_ACCENT,
        alpha=0.8,
    )
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.02, 1.02)
    return _drawn(figure, text)


def bars(heights: Mapping[str, Estimate], *, y: str, text: str) -> Plot:
    """Draw one bar a name, with the noise's standard deviation on it where there is any."""
    figure, axes = _axes("", y)
    places = range(len(heights))
    axes.bar(places, [one.value for one in heights.values()], color=_ACCENT, width=0.6)
    noisy = [(place, one) for place, one in zip(places, heights.values(), strict=True) if one.noise]
    for place, one in noisy:
        axes.errorbar(place, one.value, yerr=one.noise, color=_INK, linewidth=1.0, capsize=3)
    axes.set_xticks(list(places), list(heights), fontsize=8)
    return _drawn(figure, text)


def histogram(edges: Sequence[float], counts: Sequence[float], *, x: str, text: str) -> Plot:
    """Draw counts in bins; noised ones may lie below 0."""
    figure, axes = _axes(x, "patients")
    axes.stairs(counts, edges, fill=True, color=_ACCENT, alpha=0.85)
    axes.axhline(0, color=_INK, linewidth=0.6)
    return _drawn(figure, text)


def _axes(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.tick_params(labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _drawn(figure: Figure, text: str) -> Plot:
    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "fedward", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return Plot(f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}", text)
