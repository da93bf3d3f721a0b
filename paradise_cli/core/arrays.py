"""Arrays from users' files, in the formats that hold no code: nothing is ever unpickled."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.storage import read_tensors


def read_array(path: Path) -> NDArray[Any]:
    """The array of an `.npy` file.

    Raises UsageError for a missing file or one of another kind, ParadiseError for a damaged one.
    """
    _check_suffix(path, (".npy",))
    with _loaded(path) as array:
        if not isinstance(array, np.ndarray):
            raise UsageError(f"{path} is an .npz archive by another name: rename it")
        return array


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
        return {name: archive[name] for name in archive.files if name in known}, archive.files


def require_files(*paths: Path | None) -> None:
    """Raise UsageError for the first of these files that does not exist."""
    for path in paths:
        if path is not None and not path.is_file():
            raise UsageError(f"no such file: {path}")


def type_of(array: NDArray[Any]) -> str:
    """The type of an array in words, with what raw bytes may have been."""
    # numpy has no bfloat16: it saves one as two raw bytes and says nothing.
    hint = " (bfloat16 that went through numpy? save float32)" if array.dtype == "V2" else ""
    return f"{array.dtype}{hint}"


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
        if "Object arrays" in str(error):
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
