"""Embeddings as numbered files, which any number of processes write together; docs/use.md."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from glob import escape
from pathlib import Path
from typing import Any

from paradise_cli.core.errors import UsageError
from paradise_cli.core.locks import Claims
from paradise_cli.core.results import origin_at, replacing
from paradise_cli.core.storage import write_json
from paradise_cli.core.temporary import sweep_out
from paradise_cli.core.units import counted
from paradise_cli.inference.encoding import (
    Encoded,
    dimensions,
    encode_to_file,
    index_path,
    unread_in,
)
from paradise_cli.inference.image_sources import ImageSource
from paradise_cli.inference.loading import Advance, LoadedModel

_WAIT = 0.2  # seconds between two looks at what other processes have written


@dataclass(frozen=True)
class Parts:
    """Which of so many images are in which file: `size` in each but the last, in order."""

    out: Path
    images: int
    size: int

    @property
    def count(self) -> int:
        return -(-self.images // self.size)

    def path(self, number: int) -> Path:
        """As the parts of data sets are commonly called: `z-00003-of-00020.npy`."""
        name = f"{self.out.stem}-{number:05d}-of-{self.count:05d}{self.out.suffix}"
        return self.out.with_name(name)

    def rows(self, number: int) -> range:
        return range(number * self.size, min((number + 1) * self.size, self.images))

    @property
    def paths(self) -> list[Path]:
        return [self.path(number) for number in range(self.count)]

    @property
    def manifest(self) -> Path:
        """It lists the parts and what could not be read, and stands there once all parts do."""
        return self.out.with_name(f"{self.out.stem}.parts.json")


def encode_in_parts(
    model: LoadedModel,
    source: ImageSource,
    out: Path,
    origin: Mapping[str, Any],
    *,
    size: int,
    overwrite: bool = False,
    progress: Advance,
    say: Callable[[str], None],
    **asked: Any,
) -> Encoded:
    """Write what `encode_to_file` would as files of `size` images, and a manifest of them.

    Each process that runs this claims a part that nobody writes or has written, until there is
    none; it waits for those that others write, and takes over where one of them ends. Files have
    the same bytes whatever the number of processes, and however often one was killed. `origin` says
    what decides the result; the images' names and the weights are added. Raises UsageError where
    parts of other sizes stand there, or of another result without `overwrite`.
    """
    parts = Parts(out, len(source.ids), size)
    _refuse_others(parts)
    origin = _whole_origin(model, source, origin, size, out.suffix)
    left, told = list(range(parts.count)), False
    with (
        replacing(parts.manifest, origin, overwrite=overwrite),
        Claims(out.with_name(f".{out.name}.claims")) as claims,
    ):
        while left:
            before = len(left)
            for number in left[:]:
                path, rows = parts.path(number), parts.rows(number)
                wanted = {**origin, "part": number}
                with claims.taken(number) as mine:
                    finished = _finished(path, wanted)
                    if finished:
                        progress(len(rows))
                    elif mine:
                        kept = partial(replacing, origin=wanted, overwrite=overwrite)
                        with kept(path), kept(index_path(path)):
                            _encode(model, source, path, rows, progress, asked)
                if mine or finished:
                    left.remove(number)
            if len(left) == before:
                if not told:
                    say(f"{counted(before, 'part')} being written by others; waiting for them")
                told = True
                time.sleep(_WAIT)
        return _conclude(model, parts, claims, asked)


def _encode(
    model: LoadedModel,
    source: ImageSource,
    path: Path,
    rows: range,
    progress: Advance,
    asked: Mapping[str, Any],
) -> None:
    part = replace(
        source,
        ids=source.ids[rows.start : rows.stop],
        labels=source.labels[rows.start : rows.stop],
        read=lambda start, stop: source.read(rows.start + start, rows.start + stop),
    )
    encode_to_file(model, part, path, first=rows.start, progress=progress, **asked)


def _whole_origin(
    model: LoadedModel, source: ImageSource, origin: Mapping[str, Any], size: int, suffix: str
) -> dict[str, Any]:
    """What decides every part: a folder may have got more images, a file other weights."""
    whole = {**origin, "listing": source.listing, "weights": model.digest, "size": size}
    # One manifest is for z.npy and for z.npz.
    whole["kind"] = suffix
    return dict(json.loads(json.dumps(whole)))


def _finished(path: Path, origin: Mapping[str, Any]) -> bool:
    # The index is away while its file changes.
    return index_path(path).is_file() and origin_at(path) == origin


def _refuse_others(parts: Parts) -> None:
    """Raise where files stand that a reader of all parts would take for some of these."""
    pattern = f"{escape(parts.out.stem)}-[0-9]*-of-[0-9]*{escape(parts.out.suffix)}"
    others = sorted({*parts.out.parent.glob(pattern)} - {*parts.paths})
    if others:
        raise UsageError(
            f"{others[0]} is a part of another result: remove {counted(len(others), 'file')} of"
            " that kind, or choose another --out"
        )


def _conclude(
    model: LoadedModel, parts: Parts, claims: Claims, asked: Mapping[str, Any]
) -> Encoded:
    """Tell of all parts, as they stand on the disk; every process writes the same."""
    listed, skipped = [], list[tuple[str, str]]()
    for number, path in enumerate(parts.paths):
        bad = unread_in(index_path(path))
        skipped += bad
        images = len(parts.rows(number))
        listed.append({"file": path.name, "images": images, "rows": images - len(bad)})
    rows = parts.images - len(skipped)
    unreadable = [{"path": path, "error": reason} for path, reason in skipped]
    whole = {"images": parts.images, "rows": rows, "parts": listed, "unreadable": unreadable}
    write_json(parts.manifest, whole)
    # What a killed process left, after this one had swept.
    sweep_out(parts.out.absolute().parent, again=True)
    claims.path.unlink(missing_ok=True)
    width = dimensions(model, features=asked["features"])
    return Encoded(parts.out, parts.manifest, parts.images, rows, width, skipped)
