"""Pictures of images and of what a model's decoders make of them."""

import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.storage import publish, withdraw
from paradise_cli.data.images import Pixels
from paradise_cli.inference.batches import Results
from paradise_cli.inference.encoding import index_file
from paradise_cli.inference.image_sources import ImageSource
from paradise_cli.inference.loading import Advance, LoadedModel

GRID_IMAGES, GRID_COLUMNS, _GAP = 32, 8, 2
_SMALLEST = 48  # pixels a side; smaller images are magnified in the grid


@dataclass(frozen=True)
class Reconstructed:
    """What was written: the grid and, in a folder, `rows` pictures and their index."""

    grid: Path
    index: Path | None
    rows: int
    skipped: list[tuple[str, str]]


def reconstruct_to_files(
    model: LoadedModel,
    source: ImageSource,
    out: Path,
    *,
    ahead: int | None = None,
    progress: Advance | None = None,
) -> Reconstructed:
    """Reconstruct images from the mean of z into a folder, or the first 32 into `out.png`.

    The folder gets a PNG for each image, `index.csv` with row, path and error, and `grid.png`,
    where each row of originals stands over its reconstructions; pictures of an earlier run, whose
    names begin with six digits and a hyphen, go. Raises ParadiseError for a model
    without decoder, for images of which none is readable, and where `out` cannot be written.
    """
    heads = model.decoders()  # first: without one, nothing is read
    if out.is_file() and out.suffix.lower() != ".png":
        raise ParadiseError(f"--out {out} is a file; name a folder, or a picture that ends in .png")
    blocks = model.stream(source, model.reconstructor(), ahead=ahead, progress=progress)
    with closing(blocks):
        write = _picture if out.suffix.lower() == ".png" else _folder
        return write(blocks, source, heads, out)


def _picture(
    blocks: Iterator[Results], source: ImageSource, heads: list[str], out: Path
) -> Reconstructed:
    shown: list[list[Pixels]] = []
    skipped: list[tuple[str, str]] = []
    for block in blocks:
        shown += [strip for _, strip in _strips(block, heads)]
        skipped += [(source.ids[row], error.reason) for row, error in block.skipped]
        if len(shown) >= GRID_IMAGES:
            break  # the rest is not read: a picture of a large folder takes no longer
    _save(_grid(shown[:GRID_IMAGES]), out)
    return Reconstructed(out, None, min(len(shown), GRID_IMAGES), skipped)


def _folder(
    blocks: Iterator[Results], source: ImageSource, heads: list[str], out: Path
) -> Reconstructed:
    shown: list[list[Pixels]] = []
    grid, path = out / "grid.png", out / "index.csv"
    with publish(path) as temporary, index_file(temporary) as index:
        for block in blocks:
            # Away while the pictures change: where it stands, it belongs to them.
            withdraw(path)
            if not index.kept:
                _remove_pictures(out)
            for number, (row, strip) in enumerate(_strips(block, heads), len(index.kept)):
                # The number keeps two images of one name apart; names have a limit of 255 bytes.
                stem = f"{number:06d}-{Path(source.ids[row]).stem[:60]}"
                for head, pixels in zip(heads, strip[1:], strict=True):
                    name = f"{stem}.png" if len(heads) == 1 else f"{stem}.{head}.png"
                    _save(pixels, out / name)
                if len(shown) < GRID_IMAGES:
                    shown.append(strip)
            index.add(source, block)
        _save(_grid(shown), grid)
    return Reconstructed(grid, path, len(index.kept), index.skipped)


def _remove_pictures(out: Path) -> None:
    """Remove those of an earlier run, which may have been more or had other names."""
    for path in out.glob("*.png"):
        if re.match(r"\d{6}-", path.name):
            withdraw(path)


def _strips(block: Results, heads: list[str]) -> Iterator[tuple[int, list[Pixels]]]:
    """Row number, and the original and each decoder's picture as [H, W, C]."""
    # Rounded, not cut off: bytes that were read come back as they were.
    pictures = [np.rint(block.values[name] * 255).astype(np.uint8) for name in ("", *heads)]
    for i, row in enumerate(block.rows):
        yield row, [images[i].transpose(1, 2, 0) for images in pictures]


def _grid(strips: list[list[Pixels]]) -> Pixels:
    """Rows of up to 8 originals, each row over its reconstructions, on white."""
    height, width, channels = strips[0][0].shape
    zoom = max(1, round(_SMALLEST / height))
    step_y = height * zoom + _GAP
    step_x = width * zoom + _GAP
    columns = min(GRID_COLUMNS, len(strips))
    per = len(strips[0])  # an original and its reconstructions
    rows = -(-len(strips) // columns) * per  # rounded up
    grid = np.full((rows * step_y + _GAP, columns * step_x + _GAP, channels), 255, np.uint8)
    for number, strip in enumerate(strips):
        for line, pixels in enumerate(strip):
            top = (number // columns * per + line) * step_y + _GAP
            left = number % columns * step_x + _GAP
            large = pixels.repeat(zoom, 0).repeat(zoom, 1)  # squares, as no filter can invent
            grid[top : top + large.shape[0], left : left + large.shape[1]] = large
    return grid


def _save(pixels: Pixels, path: Path) -> None:
    with publish(path) as temporary:
        flat = pixels[..., 0] if pixels.shape[2] == 1 else pixels  # Pillow's grey has no channel
        Image.fromarray(np.ascontiguousarray(flat)).save(temporary, "PNG")
