"""Images with captions below them, block under block."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from paradise_cli.core.errors import ParadiseError
from paradise_cli.figures.canvas import own_style, pixels, save, shortened

COLUMNS = 8
WIDTH, GAP = 9.0, 0.08  # inches
TITLE, HEADING, LINE, MARGIN = 0.42, 0.3, 0.12, 0.1  # inches left for text, and below it
MOST_LETTERS = 19  # of a caption's line
PLAIN, MARKED = "#202124", "#c5221f"


class Block(NamedTuple):
    """A heading over images [M, C, H, W] in [0, 1], grey or RGB; a `marked` caption is red."""

    heading: str
    images: Tensor
    captions: Sequence[str]
    marked: Sequence[bool]


@own_style
def draw_captioned(
    blocks: Sequence[Block], path: Path, title: str = "", *, columns: int = COLUMNS
) -> None:
    """Draw blocks of images of one shape, `columns` in a row, each above its caption.

    Publishes a PNG with the same bytes for the same input. Raises ParadiseError for images of other
    shapes.
    """
    shapes = {tuple(block.images.shape[1:]) for block in blocks}
    if len(shapes) != 1 or next(iter(shapes))[0] not in (1, 3):
        raise ParadiseError(f"images {sorted(shapes)} must have one shape [N, 1 or 3, H, W]")
    ((_, high, wide),) = shapes
    width = WIDTH / COLUMNS - GAP
    height, whole = width * high / wide, columns * (width + GAP)
    tops = [TITLE if title else 0.0]
    for block in blocks:
        row = height + _caption_height(block)
        tops.append(tops[-1] + HEADING + -(-len(block.images) // columns) * row)
    figure = Figure(figsize=(whole, tops[-1]), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))  # in inches from the upper left corner
    size = min(11.0, 1100 / max(len(title), 1))
    axes.text(GAP / 2, TITLE / 2, title, fontsize=size, va="center", color=PLAIN)
    for block, top in zip(blocks, tops[:-1], strict=True):
        _draw(axes, block, top, width, height, columns)
    axes.set_xlim(0, whole)
    axes.set_ylim(tops[-1], 0)
    axes.set_axis_off()
    save(figure, path)


def _caption_height(block: Block) -> float:
    return MARGIN + LINE * max((len(caption.splitlines()) for caption in block.captions), default=0)


def _draw(axes: Axes, block: Block, top: float, width: float, height: float, columns: int) -> None:
    axes.text(GAP / 2, top + HEADING / 2, block.heading, fontsize=9, va="center", color=PLAIN)
    shown = zip(pixels(block.images), block.captions, block.marked, strict=True)
    for number, (image, caption, marked) in enumerate(shown):
        row, column = divmod(number, columns)
        x = column * (width + GAP) + GAP / 2
        y = top + HEADING + row * (height + _caption_height(block))
        # Large photographs shrink here: nearest pixels would not do.
        axes.imshow(
            image, extent=(x, x + width, y + height, y), cmap="gray", vmin=0, vmax=1, aspect="auto",
            interpolation="antialiased",
        )  # fmt: skip
        lines = "\n".join(shortened(line, MOST_LETTERS) for line in caption.splitlines())
        axes.text(
            x + width / 2, y + height + 0.03, lines, fontsize=7, ha="center", va="top",
            color=MARKED if marked else PLAIN,
        )  # fmt: skip
