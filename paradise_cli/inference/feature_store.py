"""Features of images in the user's cache: computed once, whoever asks for them again."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from paradise_cli.core.checked import Strict
from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.journal import append, whole_lines
from paradise_cli.core.locks import Busy, take
from paradise_cli.core.progress import tell

Known: TypeAlias = dict[str, int]
"""The row of each key."""
Add: TypeAlias = Callable[[Sequence[str], NDArray[np.float32]], None]

_WAIT = 0.5  # seconds between two looks at whether another process has finished


class _Block(Strict):
    """A line of the index: the keys of consecutive rows, and the digest of those rows."""

    keys: list[str]
    sha256: str


class FeatureStore:
    """Rows float32 [M, features] by key, in `features.f32` and `index.jsonl` of a folder.

    A line of the index is written after its rows are on the disk. What is cut off or damaged is
    forgotten: whatever the folder says is true, and any number of processes may read it.
    """

    def __init__(self, folder: Path, features: int) -> None:
        self._folder, self._features = folder, features
        self._rows, self._index = folder / "features.f32", folder / "index.jsonl"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for path in (self._rows, self._index):
                path.touch()
        except OSError as error:
            raise ParadiseError(
                f"cannot write {folder}: {error.strerror}; set PARADISE_CACHE to another folder"
            ) from error

    def known(self) -> Known:
        """The keys whose rows are here, each row as it was written."""
        return self._read()[0]

    def mapped(self) -> Tensor:
        """All rows so far, float32 [M, features, 1, 1], memory-mapped."""
        rows = self._rows.stat().st_size // self._row_bytes
        shape = (rows, self._features, 1, 1)
        # Copy-on-write: torch takes no read-only array, and the cache must never change.
        return torch.from_numpy(np.memmap(self._rows, "<f4", mode="c", shape=shape))

    @contextmanager
    def adding(self) -> Iterator[tuple[Known, Add]]:
        """What is known, and how to add to it; one process at a time, the others wait.

        What is added is known at once.
        """
        with (
            self._index.open("ab", buffering=0) as index,
            self._rows.open("ab", buffering=0) as rows,
        ):
            _hold(index)
            known, count, length = self._read()
            os.ftruncate(index.fileno(), length)
            os.ftruncate(rows.fileno(), count * self._row_bytes)

            def add(keys: Sequence[str], values: NDArray[np.float32]) -> None:
                content = values.astype("<f4").tobytes()
                append(rows, self._folder, content)
                # Before the line that says so, also where the machine loses power.
                os.fsync(rows.fileno())
                block = _Block(keys=list(keys), sha256=_digest(content))
                append(index, self._folder, block.model_dump_json().encode() + b"\n")
                first = rows.tell() // self._row_bytes - len(keys)
                known.update(_placed(keys, first))

            yield known, add

    @property
    def _row_bytes(self) -> int:
        return 4 * self._features

    def _read(self) -> tuple[Known, int, int]:
        """The known keys, and how many rows and bytes of the index count."""
        known: Known = {}
        count = length = 0
        with self._rows.open("rb") as rows:
            for line in whole_lines(self._index):
                try:
                    block = _Block.model_validate_json(line)
                except ValidationError:
                    break
                content = rows.read(len(block.keys) * self._row_bytes)
                if len(content) < len(block.keys) * self._row_bytes:
                    break
                if _digest(content) == block.sha256:
                    known |= _placed(block.keys, count)
                count += len(block.keys)
                length += len(line) + 1
        return known, count, length


def image_key(content: bytes) -> str:
    """The key of an image by its content, or by what changes with it."""
    return hashlib.sha256(content).hexdigest()[:32]


def store_name(*made_of: object) -> str:
    """The name of a folder of features, by all that decides them but the images."""
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:32]


def _placed(keys: Sequence[str], first: int) -> Known:
    """The row of each key, of consecutive rows from the first on."""
    return {key: row for row, key in enumerate(keys, first)}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _hold(index: IO[bytes]) -> None:
    """Wait until no other process adds to the store."""
    while True:
        try:
            return take(index, "")
        except Busy:
            tell("waiting for another process that computes features", 0, 1)
            time.sleep(_WAIT)
