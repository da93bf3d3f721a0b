"""Arrays from users' files, in the formats that hold no code: nothing is ever unpickled."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.inputs import require_files
from paradise_cli.core.storage import read_tensors

PIXEL_ROUNDING = 1e-6  # by which pixels that were normalised and brought back leave [0, 1]

LARGEST_UNPACKED = 2**30
"""Bytes that a file of any size on the disk may unpack to."""
_TIGHTEST = 100  # times smaller: real numbers and pictures are compressed by far less


def read_array(path: Path) -> NDArray[Any]:
    """The array of an `.npy` file.

    Raises UsageError for a missing file or one of another kind, ParadiseError for a damaged one.
    """
    _check_suffix(path, (".npy",))
    with _loaded(path) as array:
        if not isinstance(array, np.ndarray):
            raise UsageError(f"{path} is an .npz archive by another name: rename it")
        return array


def map_array(path: Path) -> np.memmap[Any, np.dtype[Any]]:
    """The array of an `.npy` file without reading it; errors as `read_array`."""
    with _readable(path):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.memmap):
            array.close()
            raise UsageError(f"{path} is an .npz archive by another name: rename it")
        return array


def check_pixels(low: float, high: float, where: str = "") -> None:
    """Raise ParadiseError for floats from `low` to `high` that are no pixels: those lie in [0, 1].

    What leaves it by a rounding is for the caller to clamp. `where` is a file or an array, and ends
    in a colon.
    """
    # No range to divide by, and no normalisation that could be undone.
    if not (math.isfinite(low) and math.isfinite(high)):
        lost = "NaN" if math.isnan(low) else "infinite values"
        raise ParadiseError(f"{where} {lost} in place of pixels: leave those images out".lstrip())
    if low < -PIXEL_ROUNDING or high > 1 + PIXEL_ROUNDING:
        text = (
            f"{where} pixels run from {low:.8g} to {high:.8g}, but must lie in [0, 1]: undo any"
            " normalisation, which belongs into the model, and divide by 255 what is 0 to 255"
        )
        raise ParadiseError(text.lstrip())


def check_bytes(high: int, where: str = "") -> None:
    """Raise ParadiseError for bytes of images that go up to 1 only; `where` as in `check_pixels`.

    They were 0 or 1, and read as bytes, which go to 255, they are all but black.
    """
    if high == 1:
        text = f"{where} uint8 pixels run from 0 to 1 of 255, all but black: write them as float"
        raise ParadiseError(text.lstrip())


def as_int64(labels: NDArray[Any], where: str = "") -> NDArray[np.int64]:
    """Integers as class numbers; raises ParadiseError for larger ones, `where` as in
    `check_pixels`.
    """
    # Of 64 bits without a sign the upper half would turn negative: -1, unlabelled, at the end.
    if labels.size and int(labels.max()) > np.iinfo(np.int64).max:
        text = f"{where} labels up to {labels.max()}: class numbers are needed"
        raise ParadiseError(text.lstrip())
    return labels.astype(np.int64)


def read_archive(path: Path, known: Sequence[str]) -> tuple[dict[str, NDArray[Any]], Sequence[str]]:
    """The arrays of known names in an .npz or .safetensors, and all its names.

    Errors as `read_array`.
    """
    _check_suffix(path, (".npy", ".npz", ".safetensors"))
    if path.suffix == ".safetensors":
        with _readable(path):
            tensors, names = read_tensors(path, known)
        # numpy has no bfloat16.
        return {
            k: (v.double() if v.is_floating_point() else v).numpy() for k, v in tensors.items()
        }, names
    with _loaded(path) as archive:
        if isinstance(archive, np.ndarray):
            raise UsageError(f"{path} is an .npy array by another name: rename it")
        _check_unpacked(path, archive, known)
        arrays = {name: archive[name] for name in archive.files if name in known}
        # What is no .npy in the archive comes as its bytes.
        if others := [name for name, each in arrays.items() if not isinstance(each, np.ndarray)]:
            raise UsageError(f"{path}: {others[0]} is no array: write it with numpy.savez")
        return arrays, archive.files


def _check_unpacked(path: Path, archive: Any, known: Sequence[str]) -> None:
    """Raise ParadiseError for what is small on the disk and would fill the memory."""
    read = [each for each in archive.zip.infolist() if each.filename.removesuffix(".npy") in known]
    packed, size = sum(each.compress_size for each in read), sum(each.file_size for each in read)
    if size > LARGEST_UNPACKED and size > _TIGHTEST * packed:
        raise ParadiseError(
            f"{path}: {packed:,} bytes that unpack to {size:,}, nearly all of them alike; if that"
            " is meant, save it with numpy.savez, which does not compress"
        )


def type_of(array: NDArray[Any]) -> str:
    """The type of an array in words, with what raw bytes may have been."""
    # numpy has no bfloat16: it saves one as two raw bytes and says nothing.
    hint = " (bfloat16 that went through numpy? save float32)" if array.dtype == "V2" else ""
    return "text" if array.dtype.kind == "U" else f"{array.dtype}{hint}"


@contextmanager
def _loaded(path: Path) -> Iterator[Any]:
    """What numpy finds in a file, which it would leave open where it fails."""
    with _readable(path), path.open("rb") as file:
        yield np.load(file, allow_pickle=False)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        require_files(path)
        yield
    except ParadiseError:
        raise
    # numpy lets through a dozen kinds, those of zipfile and tokenize among them.
    except Exception as error:
        # What the operating system refuses is no damage.
        if isinstance(error, OSError) and error.errno is not None:
            raise ParadiseError(f"cannot read {path}: {error.strerror}") from error
        if "Object arrays" in str(error) or "Python objects" in str(error):
            raise UsageError(
                f"{path} holds Python objects, which are never unpickled: save plain arrays of"
                " numbers"
            ) from error
        raise ParadiseError(
            f"{path} cannot be read as numpy arrays: damaged, or of another kind"
        ) from error


def _check_suffix(path: Path, allowed: Sequence[str]) -> None:
    if path.suffix not in allowed:
        kinds = " or ".join(allowed)
        raise UsageError(
            f"{path}: its name must end in {kinds} (pickled files, as .pt, are never opened)"
        )
