"""Image files of every common kind, read into the pixels a model expects."""

import contextlib
import io
import math
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch.nn import functional

from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.processes import give_back_freed_memory
from paradise_cli.data.base import Filter, Preprocessing
from paradise_cli.data.listing import check_readable
from paradise_cli.data.shards import ImageFile

Pixels = NDArray[np.uint8]

# Named, because Pillow hands some of the other formats it knows to external programs.
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP")
_GREY = ("1", "L", "LA", "I", "I;16", "F")  # Pillow's modes without colour
_ORIENTATION = 0x0112  # the EXIF tag: which corner of the scene the first pixel is, 1 to 8
_BAND = 2**22  # pixels that are converted at a time: each step of it makes a copy
_LARGE = 2**24  # pixels of an image of which one at a time is in memory, whatever the threads
_large_one = threading.RLock()


class UnreadableImage(ParadiseError):
    """A file that is no image, a damaged one, or one whose pixels have no agreed meaning."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: unreadable image: {reason}")
        self.path = path
        self.reason = reason

    @property
    def of_the_moment(self) -> bool:
        """Whether it came from the system, which may read the same file another time."""
        cause = self.__cause__
        # Pillow raises OSErrors of its own for what is damaged, without a number.
        numbered = isinstance(cause, OSError) and cause.errno is not None
        return numbered or isinstance(cause, MemoryError) or "out of memory" in self.reason


@contextlib.contextmanager
def reading(file: ImageFile) -> Iterator[None]:
    """Run the body, which reads an image file; raises UnreadableImage for whatever goes wrong."""
    try:
        if isinstance(file, Path):
            check_readable(file)
        yield
    except OSError as error:  # its text repeats the path
        raise UnreadableImage(Path(str(file)), error.strerror or str(error)) from error
    # Which call any large picture an attack; up to twice the limit it is a warning, an error to
    # some.
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableImage(Path(str(file)), _too_large("")) from error
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        raise UnreadableImage(Path(str(file)), str(error) or type(error).__name__) from error


def decode(
    file: ImageFile, preprocessing: Preprocessing, random_crop: torch.Generator | None = None
) -> Pixels:
    """Pixels uint8 [C, H, W] of an image file; with `random_crop`, of a random-resized crop of it.

    EXIF orientation is applied, transparency composited on white, 16 bits scaled to 8 by rounding
    v / 257, and of an animation the first frame taken. Raises UnreadableImage. Many threads may
    call it.
    """
    with reading(file), contextlib.ExitStack() as turn:
        pixels = read_pixels(file.read_bytes(), preprocessing.channels, turn)
        pixels = _cut(pixels, preprocessing, random_crop)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def header(file: ImageFile) -> tuple[int, int, int]:
    """Channels (1 for grey, else 3), height and width of an image file whose pixels are not read.

    Raises UnreadableImage.
    """
    with reading(file):
        source = file if isinstance(file, Path) else io.BytesIO(file.read_bytes())
        with Image.open(source, formats=_FORMATS) as image:
            return (1 if image.mode in _GREY else 3), image.height, image.width


def _cut(pixels: Pixels, how: Preprocessing, random_crop: torch.Generator | None) -> Pixels:
    """The part of a whole image that a model sees, in its size."""
    if how.pre_crop is not None and min(pixels.shape[:2]) >= how.pre_crop:
        pixels = _centre(pixels, how.pre_crop, how.pre_crop)
    if random_crop is not None:
        return _resize(_random_part(pixels, random_crop), *how.crop, how.filter)
    pixels = _resize(pixels, *_resized(pixels.shape, how), how.filter)
    return _centre(pixels, *how.crop)


def read_pixels(data: bytes, channels: int, turn: contextlib.ExitStack) -> Pixels:
    """Pixels uint8 [H, W, channels] of an encoded image, the right way up.

    A large one waits for its turn, which it then has as long as `turn` is open.
    """
    if not data:
        raise ValueError("the file is empty")
    # Most pictures are JPEGs, and this decoder reads them faster than Pillow.
    if data.startswith(b"\xff\xd8\xff"):
        pixels = _read_jpeg(data, turn)
        if pixels is not None:
            if (
                channels == 1
            ):  # from colour, as Pillow does: the decoder's own grey rounds otherwise
                pixels = np.array(Image.fromarray(pixels).convert("L"))[..., None]
            return pixels if b"Exif\0" not in data else _upright(pixels, data)
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except UnidentifiedImageError:
        raise ValueError("not an image, or of a kind that is not supported") from None
    with image:
        _admit(image.height, image.width, turn)
        if image.mode == "I" and image.format != "PPM":  # whose 16 bits Pillow reads so
            raise ValueError(
                "32-bit integer pixels have no agreed range; save it with 8 or 16 bits"
            )
        image.load()
        with contextlib.suppress(Exception):  # damaged metadata must not cost the pixels
            ImageOps.exif_transpose(image, in_place=True)
        return _opaque(image, channels)


def _read_jpeg(data: bytes, turn: contextlib.ExitStack) -> Pixels | None:
    """RGB uint8 [H, W, 3], the same as Pillow's and faster; None where only Pillow can tell."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    # CMYK comes out one level off at nearly every value.
    if colours not in ("YCbCr", "Gray"):
        return None
    _admit(height, width, turn)
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(data, "RGB")
    except ValueError:
        return None
    return pixels


def _upright(pixels: Pixels, data: bytes) -> Pixels:
    """Turn and mirror as the EXIF orientation asks."""
    turn = 1
    with contextlib.suppress(Exception):  # damaged metadata must not cost the pixels
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            turn = image.getexif().get(_ORIENTATION, 1)
    # Eight orientations are a transposition or not, and then a mirror of either axis or not.
    if turn in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if turn in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if turn in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def _admit(height: int, width: int, turn: contextlib.ExitStack) -> None:
    """Refuse what is too large, and let of what is large one at a time pass."""
    _check_size(height, width)
    if height * width > _LARGE:
        turn.enter_context(_large_one)
        # Pillow allocates in blocks, which each thread would keep.
        turn.callback(give_back_freed_memory)


def _check_size(height: int, width: int) -> None:
    # A file of kilobytes may unpack to more than the memory there is. Pillow only warns of that.
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and height * width > limit:
        raise ValueError(_too_large(f"{height} x {width} pixels, "))


def _too_large(size: str) -> str:
    return f"{size}more than the {Image.MAX_IMAGE_PIXELS:,} pixels that are safe to open"


def _opaque(image: Image.Image, channels: int) -> Pixels:
    """Pixels uint8 [H, W, channels] of any Pillow mode, as `_flat` makes them."""
    rows = max(1, _BAND // image.width)
    pixels = np.empty((image.height, image.width, channels), np.uint8)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        band = _flat(image.crop((0, top, image.width, bottom)), channels)
        pixels[top:bottom] = np.asarray(band).reshape(bottom - top, image.width, channels)
    return pixels


def _flat(image: Image.Image, channels: int) -> Image.Image:
    """Any Pillow mode as opaque 8-bit grey (ITU-601) or RGB."""
    if image.mode == "F":
        raise ValueError("floating-point pixels have no agreed range; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        # Pillow composites no 16 bits: the one grey that is transparent lies on white.
        if (transparent := image.info.get("transparency")) is not None:
            values[values == transparent] = 65535
        # 65535 = 255 * 257: white stays white, where a shift by 8 bits would darken by rounding.
        image = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    elif image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    if image.mode == "LAB":  # which Pillow makes RGB of, and nothing else
        image = image.convert("RGB")
    return image.convert("L" if channels == 1 else "RGB")


def _resized(shape: tuple[int, ...], preprocessing: Preprocessing) -> tuple[int, int]:
    """Height and width before the centre crop, never smaller than it."""
    height, width = shape[:2]
    crop_height, crop_width = preprocessing.crop
    new = (height, width)
    if (short := preprocessing.resize) is not None:
        # Truncated, not rounded: as torchvision does, whose models are read with it.
        long = int(short * max(height, width) / min(height, width))
        new = (short, long) if height <= width else (long, short)
    # The resize may be smaller than the crop, or there may be none.
    if new[0] < crop_height or new[1] < crop_width:
        scale = max(crop_height / height, crop_width / width)
        new = (max(crop_height, round(height * scale)), max(crop_width, round(width * scale)))
    return new


def _resize(pixels: Pixels, height: int, width: int, how: Filter) -> Pixels:
    """Antialiased, [H, W, C] in and out.

    Bilinear within 1/255 of Pillow's, but for about one in 10,000 pixels of a 5:4 resize: where
    both round an exact tie, they may be 2/255 apart.
    """
    if pixels.shape[:2] == (height, width):
        return pixels
    _check_size(height, width)
    images = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None]  # channels last
    images = functional.interpolate(
        images, (height, width), mode=how, align_corners=False, antialias=True
    )
    resized: Pixels = images[0].permute(1, 2, 0).numpy()
    return resized


def _centre(pixels: Pixels, height: int, width: int) -> Pixels:
    top = round((pixels.shape[0] - height) / 2)
    left = round((pixels.shape[1] - width) / 2)
    return pixels[top : top + height, left : left + width]


def _random_part(pixels: Pixels, draw: torch.Generator) -> Pixels:
    """A part of 8% to 100% of the area and of aspect 3/4 to 4/3 (Szegedy et al. 2015, 6)."""
    height, width = pixels.shape[:2]
    # All ten tries are drawn at once, so that how many are needed moves no later number.
    for area, log_ratio, down, right in torch.rand(10, 4, generator=draw).tolist():
        size = height * width * (0.08 + 0.92 * area)
        ratio = math.exp(math.log(3 / 4) + log_ratio * math.log(16 / 9))
        w = round(math.sqrt(size * ratio))
        h = round(math.sqrt(size / ratio))
        if 0 < w <= width and 0 < h <= height:
            top = int(down * (height - h + 1))
            left = int(right * (width - w + 1))
            return pixels[top : top + h, left : left + w]
    # A sliver, into which no try fits: the largest part whose aspect is allowed.
    return _centre(pixels, min(height, round(width * 4 / 3)), min(width, round(height * 4 / 3)))
