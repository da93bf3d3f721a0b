"""The rate-distortion plane of a sweep, with intervals on both axes and what theory says."""

from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paradise_cli.figures.canvas import save
from paradise_cli.information.frontier import ERRORS
from paradise_cli.sweep.result import Frontier, SweepResult
from paradise_cli.units import BITS

SAMPLES = 300
COLOURS = ("#3b6fb6", "#c9403f", "#3f8f5b", "#8a5fb0", "#b07d2b", "#4f9da6")


def draw_frontier(result: SweepResult, path: Path) -> None:
    """Draw every frontier of a sweep in one plane, and publish a PNG."""
    figure = Figure(figsize=(7.6, 5.2), facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    drawn = [each for each in result.frontiers if each.points]
    colours = COLOURS if len(drawn) <= len(COLOURS) else colormaps["turbo"](np.linspace(0, 1, len(drawn)))
    for colour, each in zip(colours, drawn, strict=False):
        _points(axes, each, colour, label=each.title or "measured I_N, at each alpha", several=len(drawn) > 1)
    if drawn:
        _theory(axes, drawn[0])
    axes.set_ylim(bottom=0)
    axes.set_xlabel(f"distortion D (sampled z), {result.unit}")
    axes.set_ylabel("rate R, nats")
    bits = axes.twinx()
    bits.set_ylim(0, axes.get_ylim()[1] * BITS)
    bits.set_ylabel("bits")
    axes.set_title(f"{result.name}: {result.data}, n = {result.n:,}", fontsize=11, loc="left")
    axes.legend(frameon=False, fontsize=9, title=f"bars: certified I(X;Z); D ± {ERRORS:g} standard errors")
    axes.spines[["top"]].set_visible(False)
    save(figure, path)


def _points(axes: Axes, frontier: Frontier, colour: object, label: str, several: bool) -> None:
    points = frontier.points
    d, rates = [p.distortion for p in points], [p.rate for p in points]
    bars = [
        [max(0.0, p.rate - p.lower) for p in points], [max(0.0, p.upper - p.rate) for p in points]
    ]  # fmt: skip
    axes.errorbar(
        d, rates, xerr=[ERRORS * p.distortion_error for p in points], yerr=bars,
        fmt="o-", markersize=4.5, linewidth=0.9, elinewidth=1.1, capsize=2, color=colour, label=label,
    )  # fmt: skip
    for p in () if several else points:
        axes.annotate(
            f"{p.alpha:.3g}", (p.distortion, p.rate), textcoords="offset points", xytext=(5, 5), fontsize=8
        )


def _theory(axes: Axes, frontier: Frontier) -> None:
    """The exact curve, the line of labels, and the cap that the training's q puts on a rate."""
    d = [p.distortion for p in frontier.points]
    if frontier.exact is not None:
        grid = np.linspace(min(d) * 0.9, max(max(d), min(frontier.exact.d_max, 1.2 * max(d))), SAMPLES)
        middle = [sum(frontier.exact.bounds(float(x))) / 2 for x in grid]
        axes.plot(
            grid, middle, "--", color="#e8833a", linewidth=1.6, label=f"exact R(D): {frontier.exact.name}"
        )
    if frontier.entropy is not None:
        line = np.array([0.0, frontier.entropy])
        axes.plot(line, line[::-1], "--", color="#e8833a", linewidth=1.6, label="D + R = H(Y)")
    cap = min(p.cap for p in frontier.points)
    if cap < 1.5 * max(p.upper for p in frontier.points):
        axes.axhline(
            cap, color="#999999", linewidth=0.9, linestyle=":", label=f"cap of q or log N: {cap:.2f} nats"
        )
