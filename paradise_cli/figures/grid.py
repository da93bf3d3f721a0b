"""Images in rows and columns, each column under its heading."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from torch import Tensor

from paradise_cli.core.errors import ParadiseError
from paradise_cli.figures.canvas import own_style, pixels, save, shortened

SIDE, GAP, TITLE, HEADING = 1.1, 0.06, 0.42, 0.3  # inches
MOST_LETTERS = 16  # of a heading
INK, SOFT = "#202124", "#5f6368"


@own_style
def draw_grid(
    images: Tensor,
    headings: Sequence[str],
    path: Path,
    title: str,
    *,
    names: Sequence[str] | None = None,
) -> None:
    """Draw images [R, S, C, H, W] in [0, 1], grey or RGB, with S headings, and a name for each row.

    Publishes a PNG with the same bytes for the same input. Raises ParadiseError for images that are
    neither grey nor RGB.
    """
    rows, columns, channels, high, wide = images.shape
    if channels not in (1, 3):
        raise ParadiseError(f"images of {channels} channels cannot be drawn: 1 or 3 are needed")
    left = 0.0 if names is None else SIDE
    tall = SIDE * high / wide
    width, height = left + columns * (SIDE + GAP) + GAP, TITLE + HEADING + rows * (tall + GAP)
    figure = Figure(figsize=(width, height), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))  # in inches from the upper left corner
    size = min(11.0, 132 * width / max(len(title), 1))
    axes.text(GAP, TITLE / 2, title, fontsize=size, va="center", color=INK)
    for column, heading in enumerate(headings):
        axes.text(
            left + GAP + column * (SIDE + GAP), TITLE + HEADING / 2,
            shortened(heading, MOST_LETTERS), fontsize=8.5, va="center", color=SOFT,
        )  # fmt: skip
    for row in range(rows):
        y = TITLE + HEADING + row * (tall + GAP)
        if names is not None:
            name = "\n".join(shortened(line, MOST_LETTERS) for line in names[row].splitlines())
            axes.text(
                left - GAP, y + tall / 2, name, fontsize=8.5, va="center", ha="right", color=INK,
            )  # fmt: skip
        for column, image in enumerate(pixels(images[row])):
            x = left + GAP + column * (SIDE + GAP)
            axes.imshow(
                image, extent=(x, x + SIDE, y + tall, y), cmap="gray", vmin=0, vmax=1,
                aspect="auto", interpolation="antialiased",
            )  # fmt: skip
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_axis_off()
    save(figure, path)
