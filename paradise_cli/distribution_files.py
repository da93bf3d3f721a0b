"""Sources from users' files: probabilities with a distortion matrix, or with a named distortion."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paradise_cli.errors import UsageError
from paradise_cli.information.blahut_arimoto import DiscreteSource
from paradise_cli.information.known_sources import MEASURES, KnownSource, measured

KINDS = (".npz", ".json", ".npy")
KEYS = {"p", "d", "x"}


def read_source(path: Path, measure: str | None) -> KnownSource:
    """p(x) and d(x, z), or p(x), optional letters x and a named distortion, from .npz, .json or .npy.

    Raises UsageError for a file that is missing, damaged, ragged or lacks one of them.
    """
    found = {key: _vector(path, key, value) for key, value in _read(path).items()}
    if "p" not in found:
        raise UsageError(f"{path}: no 'p', the probabilities of the source letters; it has {sorted(found)}")
    unknown = found.keys() - KEYS
    if unknown:
        raise UsageError(f"{path}: unknown {sorted(unknown)}; known: p, d, x")
    if ("d" in found) == (measure is not None):
        raise UsageError(
            f"{path}: give either a matrix 'd' in the file or --distortion ({', '.join(MEASURES)}), not both"
            if measure
            else f"{path} has no distortion matrix 'd': choose --distortion {' or '.join(MEASURES)}"
        )
    if "x" in found and found["x"].shape != found["p"].shape:
        raise UsageError(f"{path}: {len(found['x'])} letters 'x' for {len(found['p'])} probabilities 'p'")
    try:
        if measure is not None:
            return KnownSource(path.name, measured(found["p"], measure, found.get("x")))
        return KnownSource(path.name, DiscreteSource(found["p"], found["d"]))
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        match path.suffix:
            case ".npz":
                with np.load(path, allow_pickle=False) as archive:
                    return dict(archive)
            case ".npy":
                return {"p": np.load(path, allow_pickle=False)}
            case _:
                value = json.loads(path.read_text(encoding="utf-8"))
                return value if isinstance(value, dict) else {"p": value}
    except FileNotFoundError as error:
        raise UsageError(f"no such file: {path}") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path} is not a readable {path.suffix} file: {error}") from error


def _vector(path: Path, key: str, value: Any) -> Tensor:
    try:
        return torch.from_numpy(np.asarray(value, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise UsageError(f"{path}: '{key}' is not a full array of numbers (ragged rows or text)") from error
