"""Near-duplicates of images, as programs make them: cropped, resized, saved as JPEG."""

import contextlib
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from paradise_cli.data.images import read_pixels, reading

_LARGEST = 512  # pixels of the short side before: no photo is worth more to a model of 224


def distorted(path: Path, draw: torch.Generator) -> bytes:
    """A near-duplicate of an image file as JPEG: a function of the image and the generator.

    A window of 85% to 97% of each side, anywhere; resized to 40% to 95%; quality 35 to 80. The
    short side has at most 512 pixels before. Raises UnreadableImage.
    """
    with reading(path), contextlib.ExitStack() as turn:
        pixels = read_pixels(path.read_bytes(), 3, turn)
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image = _scaled(image, min(1.0, _LARGEST / min(image.size)))
    kept, scale, quality, left, top = torch.rand(5, generator=draw).tolist()
    share = 0.85 + 0.12 * kept
    width, height = (max(1, round(share * side)) for side in image.size)
    x, y = round(left * (image.width - width)), round(top * (image.height - height))
    image = _scaled(image.crop((x, y, x + width, y + height)), 0.4 + 0.55 * scale)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=round(35 + 45 * quality))
    return file.getvalue()


def _scaled(image: Image.Image, factor: float) -> Image.Image:
    width, height = (max(1, round(factor * side)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)
