"""Images above what a decoder makes of them."""

from pathlib import Path

from matplotlib.figure import Figure
from torch import Tensor

from paradise_cli.core.errors import ParadiseError
from paradise_cli.figures.canvas import pixels, save

COLUMNS = 10
MOST = 40
GAP = 0.08  # between images, in image widths


def draw_reconstructions(
    images: Tensor, reconstructions: Tensor, path: Path, title: str = ""
) -> None:
    """Draw up to 40 originals, each with its reconstruction below it.

    Both are [N, C, H, W] in [0, 1], grey or RGB. Publishes a PNG with the same bytes for the same
    input. Raises ParadiseError where the two have different shapes.
    """
    if images.shape != reconstructions.shape or images.shape[1] not in (1, 3):
        raise ParadiseError(
            f"images {list(images.shape)} and reconstructions {list(reconstructions.shape)} must"
            " have one"
            " shape [N, 1 or 3, H, W]"
        )
    originals, decoded = (pixels(part[:MOST]) for part in (images, reconstructions))
    # Ten in a row and two under each other, at whatever size the images have.
    columns = min(COLUMNS, len(originals))
    rows = -(-len(originals) // columns)
    height, width = originals.shape[1:3]
    cell = (width * (1 + GAP), height * (2 + 2.5 * GAP))
    inches = 9.0 / (columns * cell[0])
    head = 0.4 if title else 0.05
    figure = Figure(figsize=(9.0, rows * cell[1] * inches + head), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1 - head / figure.get_figheight()))
    for number, (above, below) in enumerate(zip(originals, decoded, strict=True)):
        row, column = divmod(number, columns)
        for place, image in enumerate((above, below)):
            x = column * cell[0] + width * GAP / 2
            y = row * cell[1] + height * (GAP / 2 + place * (1 + GAP / 2))
            extent = (x, x + width, y + height, y)
            # Without smoothing, which would hide what single pixels came out as.
            axes.imshow(image, extent=extent, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_xlim(0, columns * cell[0])
    axes.set_ylim(rows * cell[1], 0)
    axes.set_axis_off()
    if title:
        figure.suptitle(
            title, fontsize=11, x=0.01, ha="left", y=1 - 0.1 / figure.get_figheight(), va="top"
        )
    save(figure, path)
