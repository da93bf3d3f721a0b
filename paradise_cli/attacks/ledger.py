"""What is already known of each image, kept as it is learnt: append-only, and never twice."""

import fcntl
import json
import math
import os
from collections.abc import Iterator, Mapping
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from paradise_cli.errors import ParadiseError


class Entry(NamedTuple):
    """How one run of the attack `label` on one image ended; `point` [C, H, W] is None if it failed."""

    label: str
    image: int
    run: int
    target: int
    step: int
    distance: float
    point: Tensor | None


class Ledger:
    """Entries in memory, by attack, image and run."""

    def __init__(self) -> None:
        self._runs: dict[str, dict[int, dict[int, Entry]]] = {}

    def runs(self, label: str, image: int) -> dict[int, Entry]:
        """The runs of an attack on an image that have ended, by number."""
        return self._runs.get(label, {}).get(image, {})

    def fell(self, label: str, image: int) -> Entry | None:
        """The run of an attack that counts against an image: of those that succeeded the lowest."""
        succeeded = [entry for entry in self.runs(label, image).values() if entry.point is not None]
        return min(succeeded, key=lambda entry: entry.run, default=None)

    def add(self, entry: Entry) -> None:
        """Put down how a run ended."""
        self._runs.setdefault(entry.label, {}).setdefault(entry.image, {})[entry.run] = entry

    def settle(self) -> None:
        """Make sure of what was put down, and read what others did."""


class FolderLedger(Ledger):
    """Entries also in `ledger.jsonl` of a folder, and the points in `points.f32` beside it.

    A line is written after its point, and one that was cut off is forgotten: whenever the process dies, what
    the folder says is true. The first line is the `header`, what the attack is; it holds the `shape` of an
    image. Several processes may share the folder, each as another `writer`; `settle` reads what the others
    wrote. Raises ParadiseError where the folder holds another attack or is in use.
    """

    def __init__(self, folder: Path, header: Mapping[str, Any], *, writer: int = 0) -> None:
        super().__init__()
        self._folder, self._header, self._writer = folder, dict(header), writer
        self._size = math.prod(header["shape"])
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lines = self._path(writer).open("ab+", buffering=0)
            self._points = self._point_path(writer).open("ab+", buffering=0)
        except OSError as error:
            raise ParadiseError(f"cannot write {folder}: {error.strerror}; choose another place") from error
        try:
            fcntl.flock(self._lines, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ParadiseError(
                f"{folder} is in use by another attack: wait for it, or choose another"
            ) from error
        self._mend()
        self._read_all()

    def add(self, entry: Entry) -> None:
        super().add(entry)
        line: dict[str, Any] = {**entry._asdict(), "point": None}
        if entry.point is not None:
            line["point"] = self._count
            self._append(self._points, entry.point.contiguous().numpy().astype("<f4").tobytes())
            self._count += 1
        self._append(self._lines, json.dumps(line).encode() + b"\n")

    def settle(self) -> None:
        os.fsync(self._points.fileno())
        os.fsync(self._lines.fileno())
        self._read_all()

    def _append(self, file: FileIO, data: bytes) -> None:
        try:
            whole = file.write(data) == len(data)
        except OSError as error:
            raise ParadiseError(
                f"cannot write {self._folder}: {error.strerror}; what was written counts when you go on"
            ) from error
        if not whole:
            raise ParadiseError(f"cannot write {self._folder}: the disk is full; make room and go on")

    def _path(self, writer: int) -> Path:
        return self._folder / (f"ledger-{writer}.jsonl" if writer else "ledger.jsonl")

    def _point_path(self, writer: int) -> Path:
        return self._folder / (f"points-{writer}.f32" if writer else "points.f32")

    def _mend(self) -> None:
        """Cut off what a killed process left unfinished, or begin with the header."""
        whole = self._path(self._writer).read_bytes()
        there = os.fstat(self._points.fileno()).st_size // (4 * self._size)
        # Where the machine died, lines may have come to the disk without their points.
        lost = whole.find(f'"point": {there}}}'.encode())
        end = len(whole) if lost < 0 else lost
        os.ftruncate(self._lines.fileno(), whole.rfind(b"\n", 0, end) + 1)
        if b"\n" not in whole:
            self._lines.write(json.dumps(self._header).encode() + b"\n")
        self._count = sum(entry.point is not None for entry in self._read(self._writer))
        os.ftruncate(self._points.fileno(), 4 * self._size * self._count)

    def _read_all(self) -> None:
        for path in sorted(self._folder.glob("ledger*.jsonl")):
            for entry in self._read(int(path.stem.partition("-")[2] or 0)):
                super().add(entry)

    def _read(self, writer: int) -> Iterator[Entry]:
        lines = self._path(writer).read_text(encoding="utf-8").splitlines(keepends=True)
        header = json.loads(lines[0])
        ours = json.loads(json.dumps(self._header))
        if header != ours:
            other = sorted(key for key in {**header, **ours} if header.get(key) != ours.get(key))
            raise ParadiseError(
                f"{self._folder} holds another attack, with other {', '.join(other)}: repeat its settings to"
                " go on with it, or choose another folder"
            )
        for line in lines[1:]:
            if not line.endswith("\n"):
                return
            found = json.loads(line)
            if found["point"] is not None:
                offset = 4 * self._size * found["point"]
                array = np.fromfile(self._point_path(writer), "<f4", self._size, offset=offset)
                found["point"] = torch.from_numpy(array.astype(np.float32)).view(*self._header["shape"])
            yield Entry(**found)
