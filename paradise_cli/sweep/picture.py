"""The rate-distortion plane of a sweep, with intervals on both axes and what theory says."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paradise_cli.core.units import BITS
from paradise_cli.figures.canvas import own_style, save
from paradise_cli.information.frontier import ERRORS, FrontierPoint
from paradise_cli.sweep.result import Frontier, SweepResult

SAMPLES = 300
LETTERS = (30, 10)  # pixels that an alpha takes, across and upwards
TALLEST_BAR = 1.6  # of the largest rate
COLOURS = ("#3b6fb6", "#c9403f", "#3f8f5b", "#8a5fb0", "#b07d2b", "#4f9da6")


@own_style
def draw_frontier(result: SweepResult, path: Path) -> None:
    """Draw every frontier of a sweep in one plane, and publish a PNG."""
    figure = Figure(figsize=(7.6, 5.2), facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    # A frontier whose points have no rate, as of deterministic encoders, is no curve.
    drawn = [each for each in result.frontiers if each.points]
    colours = (
        COLOURS if len(drawn) <= len(COLOURS) else colormaps["turbo"](np.linspace(0, 1, len(drawn)))
    )
    for colour, each in zip(colours, drawn, strict=False):
        _points(
            axes,
            each,
            colour,
            label=each.title or "measured I_N, at each alpha",
        )
    _theory(axes, drawn)
    axes.set_xlim(left=max(0.0, axes.get_xlim()[0]))
    # An upper end that says little runs out of the plane instead of flattening it.
    highest = TALLEST_BAR * max(
        (point.rate for each in drawn for point in each.points), default=1.0
    )
    axes.set_ylim(0, max(0.1, min(axes.get_ylim()[1], highest)))
    axes.set_xlabel(f"distortion D (sampled z), {result.unit}")
    axes.set_ylabel("rate R, nats")
    bits = axes.twinx()
    bits.set_ylim(0, axes.get_ylim()[1] * BITS)
    bits.set_ylabel("bits")
    axes.set_title(f"{result.name}: {result.data}, n = {result.n:,}", fontsize=11, loc="left")
    if drawn:
        # On training data the encoder knows the points: they certify nothing of others.
        bars = "I_N" if result.split == "train" else "certified I(X;Z)"
        axes.legend(
            frameon=False, fontsize=9, title=f"bars: {bars}; D ± {ERRORS:g} standard errors"
        )
    axes.spines[["top"]].set_visible(False)
    # The alphas of several frontiers would lie on top of each other.
    if len(drawn) == 1:
        _name_alphas(axes, drawn[0].points)
    save(figure, path)


def _points(axes: Axes, frontier: Frontier, colour: object, label: str) -> None:
    points = frontier.points
    d, rates = [p.distortion for p in points], [p.rate for p in points]
    bars = [
        [max(0.0, p.rate - p.lower) for p in points], [max(0.0, p.upper - p.rate) for p in points]
    ]  # fmt: skip
    axes.errorbar(
        d, rates, xerr=[ERRORS * p.distortion_error for p in points], yerr=bars,
        fmt="o-", markersize=4.5, linewidth=0.9, elinewidth=1.1, capsize=2, color=colour,
        label=label,
    )  # fmt: skip


def _name_alphas(axes: Axes, points: Sequence[FrontierPoint]) -> None:
    """Write the alpha at each point, in axes of their final limits; of those too close to tell
    apart, all at the last.
    """
    places = axes.transData.transform([(p.distortion, p.rate) for p in points])
    steps = np.abs(np.diff(places, axis=0))
    together: list[str] = []
    for number, point in enumerate(points):
        together.append(f"{point.alpha:.3g}")
        if number < len(steps) and (steps[number] < LETTERS).all():
            continue
        axes.annotate(
            ", ".join(together),
            (point.distortion, point.rate),
            textcoords="offset points",
            xytext=(5, 5),
            fontsize=8,
        )
        together = []


def _theory(axes: Axes, frontiers: Sequence[Frontier]) -> None:
    """Each exact curve, the line of labels, and the cap of the rates, where it is near."""
    orange: dict[str, Any] = {"color": "#e8833a", "linewidth": 1.6}
    d = [point.distortion for each in frontiers for point in each.points]
    curves = [each.exact for each in frontiers if each.exact is not None]
    for dashes, exact in zip(("--", "-.", ":"), dict.fromkeys(curves), strict=False):
        grid = np.linspace(0.9 * min(d), max(max(d), min(exact.d_max, 1.2 * max(d))), SAMPLES)
        middle = [sum(exact.bounds(float(x))) / 2 for x in grid]
        axes.plot(grid, middle, dashes, label=f"exact R(D): {exact.name}", **orange)
    for entropy in {each.entropy for each in frontiers if each.entropy is not None}:
        axes.plot([0.0, entropy], [entropy, 0.0], "--", label="D + R = H(Y)", **orange)
    for cap in sorted({point.cap for each in frontiers for point in each.points}):
        if cap < TALLEST_BAR * max(point.rate for each in frontiers for point in each.points):
            label = f"cap of q or log N: {cap:.2f} nats"
            axes.axhline(cap, color="#999999", linewidth=0.9, linestyle=":", label=label)
