"""R(D) with its certified band, and the closed form where there is one."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from paradise_cli.core.units import BITS
from paradise_cli.figures.canvas import own_style, save
from paradise_cli.theory.rate_distortion import RateDistortion

SAMPLES = 400


@own_style
def draw_curve(solved: RateDistortion, path: Path) -> None:
    """Draw the certified points and their band, the exact curve and the answers; publish a PNG."""
    curve = solved.curve
    # Left of the first corner the upper bound is infinite: there is nothing to draw.
    corners, _ = curve.hull()
    distortions = np.linspace(corners[0], curve.d_max, SAMPLES)
    band = np.array([curve.rate_between(d) for d in distortions])
    exact = [(d, rate) for d in distortions if (rate := solved.known.rate(d)) is not None]
    figure = Figure(figsize=(7.2, 4.8), facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    axes.fill_between(
        distortions, band[:, 0], band[:, 1], color="#9fc3ee", label="certified band", linewidth=0
    )
    # A bound below 0 is drawn as 0, which the rate is at least.
    points = [point for point in curve.points if point.distortion >= corners[0]]
    axes.plot(
        [point.distortion for point in points], [max(0.0, point.upper) for point in points],
        "o", markersize=4, color="#3b6fb6", label="Blahut-Arimoto",
    )  # fmt: skip
    if exact:
        axes.plot(
            *zip(*exact, strict=True), "--", color="#e8833a", linewidth=1.4, label="closed form"
        )
    for answer in solved.answers:
        if answer.asked == "distortion":
            place = (answer.at, answer.upper)
        else:
            place = (answer.upper, answer.at)
        axes.plot(
            *place, "D", color="#c9403f", markersize=6, label=f"at {answer.asked} {answer.at:g}"
        )
    axes.set_xlabel("distortion D")
    axes.set_ylabel("rate R(D), nats")
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=min(0.0, float(corners[0])))
    # The same rates in bits: a second scale must not be a second curve.
    bits = axes.twinx()
    bits.set_ylim(0, axes.get_ylim()[1] * BITS)
    bits.set_ylabel("bits")
    axes.set_title(solved.known.name, fontsize=11, loc="left")
    axes.legend(frameon=False, fontsize=9)
    axes.spines[["top"]].set_visible(False)
    save(figure, path)
