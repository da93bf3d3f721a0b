"""A contact sheet: image files beside each other, row under row."""

from collections.abc import Sequence
from pathlib import Path

import torch

from paradise_cli.data import Preprocessing, UnreadableImage, decode
from paradise_cli.figures.canvas import shortened
from paradise_cli.figures.captioned import Block, draw_captioned

_SIDE = 192  # pixels of an image
COLUMNS = 6
LETTERS = 16  # of a caption's line: more would reach into the next image

Shown = tuple[str, Sequence[tuple[str, str, bool]]]
"""A heading over images: path, caption, and whether it is marked."""


def draw_sheet(rows: Sequence[Shown], path: Path, title: str) -> None:
    """Draw the middle square of each image above its caption, heading under heading.

    What cannot be read any more is white. Publishes a PNG with the same bytes for the same input.
    """
    how = Preprocessing(3, _SIDE, (_SIDE, _SIDE))
    blocks = []
    for heading, images in rows:
        pixels = torch.stack([_read(Path(name), how) for name, _, _ in images])
        captions = [
            "\n".join(shortened(line, LETTERS) for line in caption.splitlines())
            for _, caption, _ in images
        ]
        blocks.append(Block(heading, pixels, captions, [marked for _, _, marked in images]))
    draw_captioned(blocks, path, title, columns=COLUMNS)


def _read(path: Path, how: Preprocessing) -> torch.Tensor:
    try:
        return torch.from_numpy(decode(path, how)).float() / 255
    except UnreadableImage:
        return torch.ones(how.shape)
