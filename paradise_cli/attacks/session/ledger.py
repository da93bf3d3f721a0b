"""What is already known of each image, recorded as it is learnt, and never twice."""

import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import FileIO
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from paradise_cli.core.checked import Count, Strict
from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.journal import (
    append,
    compare,
    damaged,
    lock,
    parsed,
    require_header,
    require_torn,
    sealed,
    unsealed,
    whole_lines,
)
from paradise_cli.core.results import refuse_foreign
from paradise_cli.core.storage import require_regular

_WHAT = "attack"  # what the work is called in messages
_NAME = re.compile(r"ledger(?:-([1-9][0-9]{0,5}))?\.jsonl")
ATTACKS = "attacks"
"""The key of a header with a digest of the attacks' own code, which may change between calls."""
_HEADER = ("shape", "seed")  # in that of every ledger of an attack, and of no other work
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


class _Line(Strict):
    """An entry as a line of JSON: `point` is the number of the point in the file of points."""

    label: str
    image: Count
    run: Count
    target: Annotated[int, Field(ge=-1, lt=2**63)]
    step: Count
    distance: float
    fooled: bool
    point: Count | None
    sha256: str | None = None  # of the point; older versions wrote none

    @model_validator(mode="after")
    def _believable(self) -> "_Line":
        if self.fooled and (self.point is None or not 0 <= self.distance < math.inf):
            raise ValueError("a success has a point at a distance")
        return self


class Ledger:
    """Entries in memory, by attack, image and run.

    `warnings` are lines for people on what was on record.
    """

    warnings: tuple[str, ...] = ()

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
    """Remove what ledgers have recorded in a folder; raises ParadiseError if one is in use, or a
    file of that name is of other work.
    """
    paths = [path for path in folder.glob("ledger*.jsonl") if _NAME.fullmatch(path.name)]
    try:
        # Nothing is removed before it is known whose all is, and that nobody writes there.
        for path in paths:
            require_regular(path)
            require_header(path, _HEADER)
            with path.open("ab") as lines:
                lock(lines, folder, _WHAT)
        for path in paths:
            # Points first: without a ledger they would be somebody else's.
            points = path.name.replace("ledger", "points").replace(".jsonl", ".f32")
            (folder / points).unlink(missing_ok=True)
            path.unlink()
    except OSError as error:
        raise ParadiseError(
            f"cannot clear {folder}: {error.strerror}; choose another place"
        ) from error


class FolderLedger(Ledger):
    """Entries also in `ledger.jsonl` of a folder, and the points in `points.f32` beside it.

    A line is written after its point with a digest of it. One that was cut off, or whose point is
    another one now, is forgotten: whenever the process or the machine dies, what the folder says is
    true. The first line is the `header`, what the attack is; it holds the `shape` of an image, and
    what it says of the code of the ATTACKS may be another.
    Several processes may share the folder, each as another `writer`; `settle` reads what the others
    wrote. Numbers of the header that are no integers may differ by 0.001. Raises ParadiseError
    where the folder holds another attack, is in use, damaged or not writable.
    """

    def __init__(self, folder: Path, header: Mapping[str, Any], *, writer: int = 0) -> None:
        super().__init__()
        self._folder, self._header, self._writer = folder, dict(header), writer
        self._size, self._other_attacks = math.prod(header["shape"]), False
        lines, points = self._path(writer), self._point_path(writer)
        for path in (lines, points):
            require_regular(path)
        refuse_foreign(folder, [points.name], lines.name)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _not_writable(folder, error) from error
        self._files: list[FileIO] = []
        self._lines = self._opened(lines)
        try:
            lock(self._lines, folder, _WHAT)
            require_torn(lines)
            read = list(self._read(writer))
            # Only now: a folder of another attack stays as it is.
            self._points = self._opened(points)
            spoiled = [*self._mend(read), *self._read_others()]
        except BaseException:
            self.close()
            raise
        # What was made again since stands behind them.
        known = [entry.run in self.runs(entry.label, entry.image) for entry in spoiled]
        if count := known.count(False):
            self.warnings += (
                f"{count} of the points on record are not as they were written: what led to them is"
                " attacked again",
            )
        if self._other_attacks and self._runs:
            self.warnings += (
                "what is on record was begun with other code of the attacks, and is not measured"
                " again (--fresh measures all with this code)",
            )

    def close(self) -> None:
        for file in self._files:
            file.close()

    def _opened(self, path: Path) -> FileIO:
        try:
            # Unbuffered: what is written has left this process when the call returns.
            self._files.append(path.open("ab+", buffering=0))
        except OSError as error:
            raise _not_writable(self._folder, error) from error
        return self._files[-1]

    def add(self, entry: Entry) -> None:
        super().add(entry)
        # The point goes first: a line that names it is never there without it.
        line: dict[str, Any] = {**entry._asdict(), "point": None}
        if entry.point is not None:
            content = entry.point.contiguous().numpy().astype("<f4").tobytes()
            line |= {"point": self._count, "sha256": _digest(content)}
            self._append(self._points, content)
            self._count += 1
        self._written += 1
        self._append(self._lines, sealed(line, self._written))

    def _append(self, file: FileIO, content: bytes) -> None:
        append(file, self._folder, content)

    def settle(self) -> None:
        # Points before lines here too, as a machine may lose power between the two.
        os.fsync(self._points.fileno())
        os.fsync(self._lines.fileno())
        self._read_others()

    def _path(self, writer: int) -> Path:
        return self._folder / (f"ledger-{writer}.jsonl" if writer else "ledger.jsonl")

    def _point_path(self, writer: int) -> Path:
        return self._folder / (f"points-{writer}.f32" if writer else "points.f32")

    def _mend(self, read: Sequence[tuple[Entry, bool]]) -> list[Entry]:
        """Cut off what a killed process left unfinished of what was `read`, or begin with a header.

        Takes in what is whole and gives the entries that are not.
        """
        # The header, and as many lines as have their points.
        whole = whole_lines(self._path(self._writer))[: len(read) + 1]
        os.ftruncate(self._lines.fileno(), sum(len(line) + 1 for line in whole))
        if not whole:
            self._append(self._lines, json.dumps(self._header).encode() + b"\n")
        self._written = max(1, len(whole))
        self._count = sum(entry.point is not None for entry, _ in read)
        os.ftruncate(self._points.fileno(), 4 * self._size * self._count)
        return self._take_in(read)

    def _read_others(self) -> list[Entry]:
        """Take in what other writers recorded; gives what is not as it was written."""
        spoiled = []
        for path in sorted(self._folder.glob("ledger*.jsonl")):
            name = _NAME.fullmatch(path.name)
            # A copy that somebody made counts nothing twice.
            if name is None or (writer := int(name[1] or 0)) == self._writer:
                continue
            require_regular(path)
            spoiled += self._take_in(self._read(writer))
        return spoiled

    def _take_in(self, read: Iterable[tuple[Entry, bool]]) -> list[Entry]:
        spoiled = []
        for entry, whole in read:
            if whole:
                super().add(entry)
            else:
                spoiled.append(entry)
        return spoiled

    def _read(self, writer: int) -> Iterator[tuple[Entry, bool]]:
        """Each entry of a writer, and whether its point is as it was written."""
        path, points = self._path(writer), 0
        for number, line in enumerate(whole_lines(path), start=1):
            if number == 1:
                found = parsed(path, 1, line)
                ours = self._header.get(ATTACKS)
                compare({**found, ATTACKS: ours}, self._header, self._folder, _WHAT)
                self._other_attacks |= found.get(ATTACKS) != ours
                continue
            entry_of_line = unsealed(path, number, line)
            try:
                row = _Line.model_validate(entry_of_line)
                if row.point not in (None, points):
                    raise ValueError("points are numbered in the order of their lines")
                entry, whole = self._entry(row, writer)
            except (EOFError, FileNotFoundError):
                # The machine died: a line came to the disk, and its point did not.
                return
            except ValueError as error:
                raise ParadiseError(damaged(path, number)) from error
            points += entry.point is not None
            yield entry, whole

    def _entry(self, found: _Line, writer: int) -> tuple[Entry, bool]:
        point, whole = None, True
        if found.point is not None:
            offset = 4 * self._size * found.point
            array = np.fromfile(self._point_path(writer), "<f4", self._size, offset=offset)
            if len(array) < self._size:
                raise EOFError
            # Nor need all of a point have come to the disk where its length did.
            whole = found.sha256 in (None, _digest(array.tobytes()))
            point = torch.from_numpy(array.astype(np.float32).reshape(self._header["shape"]))
        values = found.model_dump(exclude={"point", "sha256"})
        return Entry(**values, point=point), whole


def _not_writable(folder: Path, error: OSError) -> ParadiseError:
    return ParadiseError(f"cannot write {folder}: {error.strerror}; choose another place")


def _digest(content: bytes) -> str:
    """What tells a point from another one, and from what a dying machine or disk made of it."""
    return hashlib.sha256(content).hexdigest()[:16]
