"""The loss around images as pictures: heights, and which class is named where (paper Fig. 5)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from numpy.typing import NDArray

from paradise_cli.figures.canvas import own_style, save, shortened
from paradise_cli.reproduction.surface import Surface

RIGHT = "#3f9b5f"
# So pale that the true class stands out; neighbours of a thousand classes may share one.
WRONG = ("#e5e7ea", "#d3d9e3", "#e9e0d4", "#c9ced6", "#e3d6dc", "#d6e0dd")
INK = "#5f6368"
SIDE, MARGIN = 2.5, 0.75  # inches
LEVELS = 9  # of height


@own_style
def draw_surface(
    found: Surface, names: Sequence[str], path: Path, title: str, eps: str = ""
) -> None:
    """Draw each plane: above, the loss; below, where the image keeps its class, which is green.

    `names` are the true classes of the planes; `eps` is how their reach is written, as 8/255.
    Publishes a PNG with the same bytes for the same input.
    """
    eps = eps or f"{found.eps:.3g}"
    columns = len(found.rows)
    width = columns * SIDE + 2 * MARGIN
    figure = Figure(figsize=(width, 2 * SIDE + MARGIN), facecolor="white", layout="constrained")
    size = min(11.0, 132 * width / max(len(title), 1))
    figure.suptitle(title, fontsize=size, x=0.01, ha="left")
    grid = figure.subplots(2, columns, squeeze=False, sharex=True, sharey=True)
    # One scale for all, as images are compared; of a flat loss, any.
    low, high = float(found.loss.min()), float(found.loss.max())
    levels = np.linspace(low, high if high > low else low + 1, LEVELS + 1)
    for column, name in enumerate(names):
        upper, lower = grid[:, column]
        heights = _heights(upper, found, column, levels)
        upper.set_title(shortened(name), fontsize=10, loc="left", color=INK)
        _classes(lower, found, column)
        for axes in (upper, lower):
            _frame(axes, found.eps, eps)
        lower.set_xlabel("along the gradient's signs", fontsize=9)
    for axes, label in zip(grid[:, 0], ("loss", "class, the true one green"), strict=True):
        axes.set_ylabel(f"{label}\nalong random signs", fontsize=9)
    bar = figure.colorbar(heights, ax=grid[0].tolist(), label="nats", shrink=0.8)
    bar.ax.tick_params(labelsize=7.5, colors=INK, length=3)
    save(figure, path)


def _heights(axes: Axes, found: Surface, place: int, levels: NDArray[np.float64]) -> ContourSet:
    u, values = found.offsets.numpy(), found.loss[place].numpy()
    heights = axes.contourf(u, u, values, levels, cmap="Blues")
    # Not at the lowest loss itself: around a plain of it a line would look like a step.
    crossed = levels[(levels > values.min()) & (levels < values.max())]
    if len(crossed):
        axes.contour(u, u, values, crossed, colors="white", linewidths=0.5)
    return heights


def _classes(axes: Axes, found: Surface, place: int) -> None:
    predicted, true = found.predicted[place].numpy(), int(found.labels[place])
    colours = np.where(predicted == true, 0, 1 + predicted % len(WRONG))
    edge = float(found.offsets[-1]) * (1 + 1 / (len(found.offsets) - 1))
    axes.imshow(
        colours, extent=(-edge, edge, -edge, edge), origin="lower", vmin=0, vmax=len(WRONG),
        cmap=ListedColormap([RIGHT, *WRONG]), aspect="auto", interpolation="nearest",
    )  # fmt: skip


def _frame(axes: Axes, reach: float, eps: str) -> None:
    axes.plot(0, 0, "+", color="#202124", markersize=8)
    ends, words = (-reach, 0.0, reach), (f"-{eps}", "0", eps)
    axes.set_xticks(ends, words)
    axes.set_yticks(ends, words)
    axes.set_xlim(-reach, reach)
    axes.set_ylim(-reach, reach)
    axes.tick_params(labelsize=7.5, colors=INK, length=3)
    for spine in axes.spines.values():
        spine.set_color("#dadce0")
