"""What is already known of each image, recorded as it is learnt, and never twice."""

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.journal import append, compare, damaged, lock, whole_lines

_WHAT = "attack"  # what the work is called in messages
_TURNED_RANDOM = "turned random"  # the label of an entry that is no attack's


class Entry(NamedTuple):
    """How one run of the attack `label` on one image ended.

    `point` [C, H, W] is the adversarial point, or where a failed run ended if that was to be kept.
    """

    label: str
    image: int
    run: int
    target: int
    step: int
    distance: float
    fooled: bool
    point: Tensor | None


class Ledger:
    """Entries in memory, by attack, image and run."""

    def __init__(self) -> None:
        self._runs: dict[str, dict[int, dict[int, Entry]]] = {}

    def runs(self, label: str, image: int) -> dict[int, Entry]:
        """The runs of an attack on an image that have ended, by number."""
        return self._runs.get(label, {}).get(image, {})

    def success(self, label: str, image: int) -> Entry | None:
        """The run by which an attack broke an image: of those that succeeded the lowest."""
        # The lowest and not the first to end: which that is depends on how many run at once.
        succeeded = [entry for entry in self.runs(label, image).values() if entry.fooled]
        return min(succeeded, key=lambda entry: entry.run, default=None)

    def nearest(self, image: int, labels: Iterable[str]) -> Entry | None:
        """Of the entries by which these attacks broke an image, that at the smallest distance."""
        found = [self.success(label, image) for label in labels]
        broke = [entry for entry in found if entry is not None]
        return min(broke, key=lambda entry: (entry.distance, entry.label), default=None)

    def add(self, entry: Entry) -> None:
        """Record how a run ended."""
        self._runs.setdefault(entry.label, {}).setdefault(entry.image, {})[entry.run] = entry

    @property
    def turned_random(self) -> bool:
        """Whether the classifier was found to answer at random, after it had seemed not to."""
        return bool(self.runs(_TURNED_RANDOM, 0))

    def note_turned_random(self) -> None:
        """Record that, so that an attack that goes on knows it from the start."""
        self.add(Entry(_TURNED_RANDOM, 0, 0, -1, 0, 0.0, False, None))
        self.settle()

    def settle(self) -> None:
        """Make sure that what was recorded is on the disk, and read what other processes did."""

    def close(self) -> None:
        """Let others have what is kept."""


def discard(folder: Path) -> None:
    """Remove what ledgers have recorded in a folder; raises ParadiseError if one is in use."""
    try:
        # Nothing is removed before it is known that nobody writes there.
        for path in folder.glob("ledger*.jsonl"):
            with path.open("ab") as lines:
                lock(lines, folder, _WHAT)
        for path in [*folder.glob("ledger*.jsonl"), *folder.glob("points*.f32")]:
            path.unlink()
    except OSError as error:
        raise ParadiseError(
            f"cannot clear {folder}: {error.strerror}; choose another place"
        ) from error


class FolderLedger(Ledger):
    """Entries also in `ledger.jsonl` of a folder, and the points in `points.f32` beside it.

    A line is written after its point, and one that was cut off is forgotten: whenever the process
    dies, what the folder says is true. The first line is the `header`, what the attack is; it holds
    the `shape` of an image. Several processes may share the folder, each as another `writer`;
    `settle` reads what the others wrote. Numbers of the header that are no integers may differ by
    0.001. Raises ParadiseError where the folder holds another attack, is in use, damaged or not
    writable.
    """

    def __init__(self, folder: Path, header: Mapping[str, Any], *, writer: int = 0) -> None:
        super().__init__()
        self._folder, self._header, self._writer = folder, dict(header), writer
        self._size = math.prod(header["shape"])
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Unbuffered: what is written has left this process when the call returns.
            self._lines = self._path(writer).open("ab+", buffering=0)
            self._points = self._point_path(writer).open("ab+", buffering=0)
        except OSError as error:
            raise ParadiseError(
                f"cannot write {folder}: {error.strerror}; choose another place"
            ) from error
        try:
            lock(self._lines, folder, _WHAT)
            self._mend()
            self._read_all()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._lines.close()
        self._points.close()

    def add(self, entry: Entry) -> None:
        super().add(entry)
        # The point goes first: a line that names it is never there without it.
        line: dict[str, Any] = {**entry._asdict(), "point": None}
        if entry.point is not None:
            line["point"] = self._count
            self._append(self._points, entry.point.contiguous().numpy().astype("<f4").tobytes())
            self._count += 1
        self._append(self._lines, json.dumps(line).encode() + b"\n")

    def _append(self, file: FileIO, content: bytes) -> None:
        append(file, self._folder, content)

    def settle(self) -> None:
        # Points before lines here too, as a machine may lose power between the two.
        os.fsync(self._points.fileno())
        os.fsync(self._lines.fileno())
        self._read_all()

    def _path(self, writer: int) -> Path:
        return self._folder / (f"ledger-{writer}.jsonl" if writer else "ledger.jsonl")

    def _point_path(self, writer: int) -> Path:
        return self._folder / (f"points-{writer}.f32" if writer else "points.f32")

    def _mend(self) -> None:
        """Cut off what a killed process left unfinished, or begin with the header."""
        entries = list(self._read(self._writer))
        # The header, and as many lines as have their points.
        whole = whole_lines(self._path(self._writer))[: len(entries) + 1]
        os.ftruncate(self._lines.fileno(), sum(len(line) + 1 for line in whole))
        if not whole:
            self._append(self._lines, json.dumps(self._header).encode() + b"\n")
        self._count = sum(entry.point is not None for entry in entries)
        os.ftruncate(self._points.fileno(), 4 * self._size * self._count)

    def _read_all(self) -> None:
        for path in sorted(self._folder.glob("ledger*.jsonl")):
            for entry in self._read(int(path.stem.partition("-")[2] or 0)):
                super().add(entry)

    def _read(self, writer: int) -> Iterator[Entry]:
        path = self._path(writer)
        for number, line in enumerate(whole_lines(path), start=1):
            try:
                found = json.loads(line)
                if number > 1:
                    entry = self._entry(found, writer)
                elif not isinstance(found, dict):
                    raise TypeError
            except (EOFError, FileNotFoundError):
                # The machine died: a line came to the disk, and its point did not.
                return
            except (ValueError, TypeError, KeyError) as error:
                raise ParadiseError(damaged(path, number)) from error
            if number > 1:
                yield entry
            else:
                compare(found, self._header, self._folder, _WHAT)

    def _entry(self, found: dict[str, Any], writer: int) -> Entry:
        if found["point"] is not None:
            offset = 4 * self._size * found["point"]
            array = np.fromfile(self._point_path(writer), "<f4", self._size, offset=offset)
            if len(array) < self._size:
                raise EOFError
            point = torch.from_numpy(array.astype(np.float32).reshape(self._header["shape"]))
            return Entry(**{**found, "point": point})
        return Entry(**found)
