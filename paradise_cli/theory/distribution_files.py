"""Sources from users' files: probabilities with a distortion matrix, or with a named distortion."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paradise_cli.core.arrays import read_archive, read_array
from paradise_cli.core.errors import UsageError
from paradise_cli.core.inputs import require_files
from paradise_cli.information.blahut_arimoto import DiscreteSource
from paradise_cli.information.known_sources import KnownSource, measured
from paradise_cli.information.source_names import MEASURES

LARGEST_JSON = 64 * 2**20
KEYS = ("p", "d", "x")


def read_source(path: Path, measure: str | None) -> KnownSource:
    """A source from .npz, .json or .npy: p(x) and d(x, z), or p(x) and a named distortion.

    With a named one the file may hold letters x; without them they are 0, 1, 2, ... Raises
    UsageError for a file that is missing, damaged, ragged or lacks one of them.
    """
    values = _read(path)
    # A misspelt key, left aside in silence, would leave its default in force.
    unknown = [key for key in values if key not in KEYS]
    if unknown or "p" not in values:
        wrong = f"unknown {unknown}" if unknown else "no 'p'"
        raise UsageError(
            f"{path}: {wrong}; it holds p [n], and d [n, m] or perhaps the letters x [n]"
        )
    found = {key: _array(path, key, value) for key, value in values.items()}
    if ("d" in found) == (measure is not None):
        raise UsageError(
            f"{path}: give either a matrix 'd' in the file or --distortion"
            f" ({', '.join(MEASURES)}), not both"
            if measure
            else f"{path} has no distortion matrix 'd': choose --distortion {' or '.join(MEASURES)}"
        )
    if "x" in found and found["x"].shape != found["p"].shape:
        shapes = [list(found[key].shape) for key in "xp"]
        raise UsageError(
            f"{path}: letters 'x' {shapes[0]} and probabilities 'p' {shapes[1]} do not fit"
        )
    try:
        if measure is not None:
            return KnownSource(path.name, measured(found["p"], measure, found.get("x")))
        return KnownSource(path.name, DiscreteSource(found["p"], found["d"]))
    # What is wrong with the numbers is known only there; which file holds them only here.
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def _read(path: Path) -> dict[str, Any]:
    if path.suffix == ".npz":
        arrays, names = read_archive(path, KEYS)
        return dict.fromkeys(names) | arrays  # names that are not ours stay, to be complained of
    if path.suffix == ".npy":
        return {"p": read_array(path)}
    require_files(path)
    size = path.stat().st_size
    # As text a number takes many times its memory, and a sparse file none of the disk.
    if size > LARGEST_JSON:
        raise UsageError(
            f"{path}: {size:,} bytes; JSON of up to {LARGEST_JSON:,} is read: save it as .npz"
        )
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    # Brackets in brackets without end overflow the stack.
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not readable JSON: {error}") from error
    return value if isinstance(value, dict) else {"p": value}


def _array(path: Path, key: str, value: Any) -> Tensor:
    try:
        found = np.asarray(value)
        if found.dtype.kind == "c":  # numpy would leave out the imaginary part
            raise TypeError("complex numbers")
        return torch.from_numpy(found.astype(np.float64))
    # An integer of 400 digits is no float, and no array is nested so deeply.
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise UsageError(
            f"{path}: '{key}' is not a full array of numbers (ragged rows, text, complex"
            " numbers, or numbers beyond 1e308)"
        ) from error
