"""The latent plane: every posterior as its 95% ellipse (paper Fig. 1)."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from torch import Tensor

from paradise_cli.core.errors import ParadiseError
from paradise_cli.data.base import DataInfo
from paradise_cli.figures.canvas import own_style, save, told_apart
from paradise_cli.information.gaussian import DiagonalGaussian, Gaussian

MOST = 2000
# In sigmas: 95% of a 2-D Gaussian lie inside (method.md 6).
WIDTH = 2 * math.sqrt(-2 * math.log(0.05))
UNLABELLED = "#9aa0a6"
LEGEND_CLASSES = 20
MARGIN = 0.03
DOT_SHADE = 0.75
WIDER = 7.2  # inches for each further plane


def draw_posteriors(
    posterior: Gaussian, labels: Tensor, info: DataInfo, path: Path, title: str
) -> None:
    """Draw the first 2,000 posteriors as 95% ellipses in data units, coloured by the first label.

    mu and sigma are [N, 2], labels int64 [N, T]; -1 is drawn grey. Publishes a PNG with the same
    bytes for the same input. Raises ParadiseError for latents that are not 2-D or not finite.
    """
    draw_side_by_side([(posterior, title)], labels, info, path)


@own_style
def draw_side_by_side(
    panels: Sequence[tuple[Gaussian, str]], labels: Tensor, info: DataInfo, path: Path
) -> None:
    """Draw posteriors of the same images by several models, each with its title, in one row.

    As `draw_posteriors`; each plane has the scale of its own latents.
    """
    classes = info.targets[0].classes if info.targets else ()
    n = len(panels[0][0].mu[:MOST])
    numbers = labels[:MOST, 0].cpu().numpy() if labels.shape[1] else np.full(n, -1)
    palette = _palette(len(classes))
    width = 8.6 + WIDER * (len(panels) - 1)
    figure = Figure(figsize=(width, 7.2), facecolor="white")
    for place, (posterior, title) in enumerate(panels):
        mu, sigma, shape, angle = _drawable(posterior)
        left = 0.645 + place * WIDER  # inches; the first panel leaves the place of its numbers
        axes = figure.add_axes((left / width, 0.07, 6.407 / width, 0.86))
        _ellipses(axes, mu, shape, angle, palette[numbers])
        _frame(axes, mu, sigma, title)
    if 0 < len(classes) <= LEGEND_CLASSES:
        _legend(axes, classes, palette, bool((numbers < 0).any()))
    save(figure, path)


def _drawable(posterior: Gaussian) -> tuple[NDArray[np.float64], ...]:
    """mu, sigma and the deviations along an ellipse's own axes, [n, 2] each, and the angle of the
    first of these in degrees, [n]; ParadiseError for what cannot be drawn.
    """
    if posterior.mu.shape[1] != 2:
        raise ParadiseError(
            f"the picture shows 2 latent dimensions; this model has {posterior.mu.shape[1]}"
        )
    drawn = posterior.rows(slice(MOST)).double()
    mu, sigma = (part.cpu().numpy() for part in drawn.marginals())
    if not (np.isfinite(mu).all() and np.isfinite(sigma).all()):
        raise ParadiseError("the picture cannot be drawn: some posteriors are not finite")
    if isinstance(drawn, DiagonalGaussian):
        return mu, sigma, sigma, np.zeros(len(mu))
    values, vectors = np.linalg.eigh(drawn.covariances().cpu().numpy())
    return mu, sigma, np.sqrt(values), np.degrees(np.arctan2(vectors[:, 1, 0], vectors[:, 0, 0]))


def _palette(classes: int) -> NDArray[np.float64]:
    """A colour for each class, then grey for -1, which finds it last: [classes + 1, 3]."""
    if classes <= 10:
        colours = [to_rgb(colour) for colour in _TEN[:classes]]
    elif classes <= LEGEND_CLASSES:
        colours = [to_rgb(colormaps["tab20"](i)) for i in range(classes)]
    else:
        colours = [to_rgb(colormaps["turbo"](i / (classes - 1))) for i in range(classes)]
    return np.array([*colours, to_rgb(UNLABELLED)])


_TEN = (
    "#3b6fb6", "#e8833a", "#3f9b5f", "#c9403f", "#8463b0",
    "#8a5a44", "#d873ad", "#5c5c5c", "#b5b037", "#2fa9bd",
)  # fmt: skip


def _ellipses(
    axes: Axes,
    mu: NDArray[np.float64],
    sigma: NDArray[np.float64],
    angle: NDArray[np.float64],
    colours: NDArray[np.float64],
) -> None:
    # Small ones on top of those that would hide them; stable, for the same bytes every time.
    order = np.argsort(-sigma.prod(1), kind="stable")
    mu, sigma, angle, colours = mu[order], sigma[order], angle[order], colours[order]
    faces, edges = (np.column_stack([colours, opacity]) for opacity in _opacity(mu, sigma))
    axes.add_collection(
        EllipseCollection(
            WIDTH * sigma[:, 0],
            WIDTH * sigma[:, 1],
            angle,
            units="xy",
            offsets=mu,
            offset_transform=axes.transData,
            facecolors=faces,
            edgecolors=edges,
            linewidths=0.4,
        )
    )
    # An ellipse much smaller than the spread of the means would vanish; a dot marks each centre.
    size = float(np.clip(4000 / len(mu), 2, 14))
    axes.scatter(mu[:, 0], mu[:, 1], s=size, c=DOT_SHADE * colours, alpha=0.7, linewidths=0)


def _opacity(
    mu: NDArray[np.float64], sigma: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of faces and edges, [N] each: the more ellipses lie on top of each other, the thinner."""
    low, high = (mu - WIDTH / 2 * sigma).min(0), (mu + WIDTH / 2 * sigma).max(0)
    area = math.pi / 4 * WIDTH**2 * sigma.prod(1) / max((high - low).prod(), 1e-300)
    layers = len(mu) * area
    # Below 0.03 the renderer rounds each of many layers to another hue.
    return np.clip(0.5 / (layers + 1), 0.03, 0.35), np.clip(2.0 / (layers + 1), 0.08, 0.8)


def _frame(axes: Axes, mu: NDArray[np.float64], sigma: NDArray[np.float64], title: str) -> None:
    low, high = (mu - WIDTH / 2 * sigma).min(0), (mu + WIDTH / 2 * sigma).max(0)
    # Zero width where a deterministic model maps all images to one point.
    margin = np.maximum(MARGIN * (high - low), 1e-6)
    axes.set_xlim(low[0] - margin[0], high[0] + margin[0])
    axes.set_ylim(low[1] - margin[1], high[1] + margin[1])
    size = min(11.0, 1050 / len(title)) if title else 11.0  # a long title fits beside the legend
    axes.set_title(title, fontsize=size, loc="left", pad=10, color="#202124")
    axes.set_xlabel("z₁", fontsize=10)
    axes.set_ylabel("z₂", fontsize=10, labelpad=2)
    axes.tick_params(labelsize=8, colors="#5f6368", length=3)
    for spine in axes.spines.values():
        spine.set_color("#dadce0")


def _legend(
    axes: Axes, classes: Sequence[str], palette: NDArray[np.float64], unlabelled: bool
) -> None:
    names = told_apart([*classes, *(["unlabelled"] if unlabelled else [])])
    handles = [
        Line2D(
            [],
            [],
            linestyle="",
            marker="o",
            markersize=7,
            color=palette[i],
            label=name,
        )
        for i, name in enumerate(names)
    ]
    axes.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=9,
        handletextpad=0.3, borderaxespad=0,
    )  # fmt: skip
