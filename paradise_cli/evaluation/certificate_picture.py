"""The picture of a certification: what is certified at each radius."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from paradise_cli.core.proportions import Proportion
from paradise_cli.evaluation.certificates import Certification
from paradise_cli.figures.canvas import own_style, save

INK, LINE, BAND, SOFT = "#202124", "#2f5f9e", "#c5d6ea", "#5f6368"


@own_style
def draw_curve(found: Certification, path: Path) -> None:
    """Publish a PNG of certified accuracy against radius, each step of it, with its interval."""
    radii = sorted({0.0} | {row.radius for row in found.images if row.correct})
    shares = [found.certified_accuracy(radius) for radius in radii]
    # What the samples can prove ends here, whatever the classifier: the curve is 0 beyond.
    end = found.largest_radius
    figure = Figure(figsize=(5.2, 3.6), facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    edges = np.array([*radii, max(end, radii[-1])])

    def steps(values: list[float]) -> list[float]:
        return [*values, values[-1]]

    axes.fill_between(
        edges,
        steps([share.low for share in shares]),
        steps([share.high for share in shares]),
        step="post", color=BAND, linewidth=0, label="95% interval, at each radius by itself",
    )  # fmt: skip
    axes.step(
        edges, steps([share.value for share in shares]),
        where="post", color=LINE, linewidth=1.6, label="certified accuracy",
    )  # fmt: skip
    _clean(figure, found.clean_accuracy)
    axes.axvline(end, linestyle=":", linewidth=1.3, color=SOFT, label=_end_label(found))
    axes.set_xlim(0, 1.04 * end)
    axes.set_ylim(0, 1.005)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("Euclidean length of the change, pixels in [0, 1]", fontsize=10)
    axes.set_ylabel(f"share of {len(found.images):,} images", fontsize=10)
    axes.tick_params(labelsize=9.5, colors=SOFT)
    axes.grid(color="#e8eaed", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper left", frameon=False, fontsize=9.5, borderaxespad=0.3)
    save(figure, path)


def _clean(figure: Figure, share: Proportion) -> None:
    """The accuracy of the classifier itself, at no change and without noise."""
    down, up = share.value - share.low, share.high - share.value
    figure.axes[0].errorbar(
        0, share.value, yerr=[[down], [up]], fmt="o", color=INK, markersize=5, capsize=3,
        clip_on=False, zorder=5, label=f"the classifier without noise, {share.value:.1%}",
    )  # fmt: skip


def _end_label(found: Certification) -> str:
    samples, sigma = found.settings.samples, found.settings.sigma
    return f"the most that {samples:,} samples prove at sigma {sigma:g}"
