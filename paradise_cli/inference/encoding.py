"""Embeddings of any number of images as one file, in constant memory."""

import csv
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from paradise_cli.core.results import EMBEDDINGS, check_suffix
from paradise_cli.core.storage import publish_together
from paradise_cli.data import UnreadableImage
from paradise_cli.inference.batches import Results
from paradise_cli.inference.image_sources import ImageSource
from paradise_cli.inference.loading import Advance, LoadedModel, draw

_CHUNK = 4096  # texts written at a time
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the same bytes whenever the file is written


@dataclass(frozen=True)
class Encoded:
    """What was written where: `rows` of the source's `images`; the others are `skipped`."""

    out: Path
    index: Path
    images: int
    rows: int
    skipped: list[tuple[str, str]]


def encode_to_file(
    model: LoadedModel,
    source: ImageSource,
    out: Path,
    *,
    samples: int = 0,
    seed: int = 0,
    ahead: int | None = None,
    progress: Advance | None = None,
) -> Encoded:
    """Write the posteriors of all readable images, in order, and beside them the index of rows.

    `.npy` holds the means, float32 [N, latent_dim], or with `samples` K draws instead, [N, K,
    latent_dim]. `.npz` holds mean, log_variance, labels [N, T], ids and, with `samples`, the draws;
    and where images lie in class folders that the model does not know, class_names, which the first
    column of the labels numbers.
    The index is a CSV of row, path and error; an unreadable file has an error and no row. Equal
    calls write equal bytes, whatever `ahead`. Raises UsageError for another suffix and
    ParadiseError where no image is readable or `out` cannot be written, with what was there before
    untouched. The index is away while `out` changes: where it stands, it belongs to it.
    """
    check_suffix(out, EMBEDDINGS, chooses=True)
    model.check_samples(samples)
    # Everything that can be refused is refused before the model sees an image.
    blocks = model.stream(source, model.posterior(), ahead=ahead, progress=progress)
    shape = (samples, model.model.latent_dim) if samples else (model.model.latent_dim,)
    with closing(blocks), publish_together(index_path(out), out) as (lines, temporary):
        with index_file(lines) as index, temporary.open("wb") as file:
            parts = _parts(blocks, source, index, samples, seed)
            if out.suffix == ".npy":
                _write_npy(file, parts, index, shape)
            else:
                _write_npz(file, parts, source, index, samples, model)
    return Encoded(out, index_path(out), len(source.ids), index.rows, index.skipped)


def index_path(out: Path) -> Path:
    """Where the index of an output stands."""
    return out.with_name(f"{out.stem}.index.csv")


class Index:
    """Which row of the output came from which image, and which images could not be read."""

    def __init__(self, file: IO[str]) -> None:
        self.rows = 0
        self.skipped: list[tuple[str, str]] = []
        self.skipped_rows: set[int] = set()
        self._file, self._csv = file, csv.writer(file, lineterminator="\n")
        self._csv.writerow(("row", "path", "error"))

    def add(self, source: ImageSource, block: Results) -> None:
        """Record the rows of a block in their order."""
        errors: dict[int, UnreadableImage] = dict(block.skipped)
        for row in sorted([*block.rows, *errors]):
            if row in errors:
                self.skipped_rows.add(row)
                self.skipped.append((source.ids[row], errors[row].reason))
                self._csv.writerow(("", source.ids[row], errors[row].reason))
            else:
                self._csv.writerow((self.rows, source.ids[row], ""))
                self.rows += 1


@contextmanager
def index_file(path: Path) -> Iterator[Index]:
    """An index that is written to `path`."""
    # File names that are not UTF-8 keep their bytes.
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        yield Index(file)


def _parts(
    blocks: Iterator[Results], source: ImageSource, index: Index, samples: int, seed: int
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """The arrays of each block, its rows entered into the index."""
    for block in blocks:
        index.add(source, block)
        part = block.values
        if samples:
            part = part | {"samples": draw(part["mean"], part["sigma"], block.rows, samples, seed)}
        yield part


def _write_npy(
    file: IO[bytes],
    parts: Iterator[dict[str, NDArray[np.float32]]],
    index: Index,
    shape: tuple[int, ...],
) -> None:
    _header(file, "<f4", (0, *shape))  # how many rows can be read shows at the end
    for part in parts:
        _write(file, part["samples" if len(shape) == 2 else "mean"])
    file.seek(0)
    _header(file, "<f4", (index.rows, *shape))  # numpy leaves room for a larger first number


def _write_npz(
    file: IO[bytes],
    parts: Iterator[dict[str, NDArray[np.float32]]],
    source: ImageSource,
    index: Index,
    samples: int,
    model: LoadedModel,
) -> None:
    """A zip holds one array after the other: they grow in unnamed files on the same disk before.

    Those vanish with the process, however it ends.
    """
    latent_dim = model.model.latent_dim
    own = model.info.targets[0].classes if model.info.targets else ()
    shapes: dict[str, tuple[int, ...]] = {"mean": (latent_dim,), "log_variance": (latent_dim,)}
    if samples:
        shapes["samples"] = (samples, latent_dim)
    with ExitStack() as stack:
        folder = Path(file.name).parent
        spools = {name: stack.enter_context(tempfile.TemporaryFile(dir=folder)) for name in shapes}
        for part in parts:
            for name, spool in spools.items():
                _write(spool, part[name])
        archive = stack.enter_context(zipfile.ZipFile(file, "w"))
        for name, spool in spools.items():
            # Floats do not shrink: the archive is not compressed.
            with _member(archive, name) as member:
                _header(member, "<f4", (index.rows, *shapes[name]))
                spool.seek(0)
                shutil.copyfileobj(spool, member, 1 << 20)
        kept = [row for row in range(len(source.ids)) if row not in index.skipped_rows]
        with _member(archive, "labels") as member:
            _header(member, "<i8", (len(kept), *source.labels.shape[1:]))
            _write(member, source.labels[kept])
        with _member(archive, "ids") as member:
            _write_texts(member, [source.ids[row] for row in kept])
        if source.class_names != own:
            with _member(archive, "class_names") as member:
                _write_texts(member, source.class_names)


def _write_texts(file: IO[bytes], texts: Sequence[str]) -> None:
    width = max(map(len, texts), default=1)
    _header(file, f"<U{width}", (len(texts),))
    for start in range(0, len(texts), _CHUNK):
        _write(file, np.array(texts[start : start + _CHUNK], f"<U{width}"))


def _member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    # Its size is not known before: room for more than 4 GiB has to be made in its header now.
    return archive.open(zipfile.ZipInfo(f"{name}.npy", _LONG_AGO), "w", force_zip64=True)


def _header(file: IO[bytes], kind: str, shape: tuple[int, ...]) -> None:
    npy.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})


def _write(file: IO[bytes], array: NDArray[Any]) -> None:
    file.write(np.ascontiguousarray(array).tobytes())  # a zip member takes no memory of numpy's
