"""The files that hold embeddings, each written row after row in bounded memory."""

import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from paradise_cli.core.errors import as_utf8
from paradise_cli.core.os_errors import unhidden
from paradise_cli.inference.image_sources import ImageSource

_CHUNK = 4096  # texts, or rows of a table, that are written at a time
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the same bytes whenever the file is written

Part: TypeAlias = Mapping[str, NDArray[np.float32]]
"""Arrays of consecutive rows, by name."""


@dataclass(frozen=True)
class Embeddings:
    """The rows of a file of embeddings, which come once, and what is known of them beforehand.

    `parts` holds arrays [n, *shape] for each of `shapes`; `kept` lists the rows of the source that
    were read, once all parts have come. `own_classes` are those that the model knows by itself.
    """

    parts: Iterator[Part]
    shapes: Mapping[str, tuple[int, ...]]
    source: ImageSource
    kept: list[int]
    own_classes: tuple[str, ...]

    @property
    def chosen(self) -> str:
        """The array that stands for the image where there is room for one: draws if there are."""
        return "samples" if "samples" in self.shapes else next(iter(self.shapes))

    @property
    def labels(self) -> NDArray[np.int64]:
        """Labels of the rows, int64 [N, T]."""
        return self.source.labels[self.kept]

    @property
    def ids(self) -> list[str]:
        """Which image a row is."""
        return [self.source.ids[row] for row in self.kept]


def _write_npy(path: Path, given: Embeddings) -> None:
    name = given.chosen
    with path.open("wb") as file:
        _header(file, "<f4", (0, *given.shapes[name]))  # how many rows there are shows at the end
        for part in given.parts:
            _write(file, part[name])
        file.seek(0)
        # numpy leaves room for a larger first number.
        _header(file, "<f4", (len(given.kept), *given.shapes[name]))


def _write_npz(path: Path, given: Embeddings) -> None:
    with (
        _spooled(path.parent, given) as spools,
        path.open("wb") as file,
        zipfile.ZipFile(file, "w") as archive,
    ):
        for name, spool in spools.items():
            # Floats do not shrink: the archive is not compressed.
            with _member(archive, name) as member:
                _header(member, "<f4", (len(given.kept), *given.shapes[name]))
                shutil.copyfileobj(spool, member, 1 << 20)
        with _member(archive, "labels") as member:
            _header(member, "<i8", given.labels.shape)
            _write(member, given.labels)
        with _member(archive, "ids") as member:
            _write_texts(member, given.ids)
        if given.source.class_names != given.own_classes:
            with _member(archive, "class_names") as member:
                _write_texts(member, given.source.class_names)


def _write_safetensors(path: Path, given: Embeddings) -> None:
    """Everything but texts, of which the format has none: the index beside it names the rows."""
    from safetensors.numpy import save_file

    with _spooled(path.parent, given) as spools:
        # Mapped, not read: the library copies from where they are.
        arrays: dict[str, NDArray[Any]] = {
            name: _mapped(spool, (len(given.kept), *given.shapes[name]))
            for name, spool in spools.items()
        }
        with unhidden():
            save_file(arrays | {"labels": np.ascontiguousarray(given.labels)}, path)


def _write_parquet(path: Path, given: Embeddings) -> None:
    """A row for each image: path, class where it is known, and a list for each array."""
    import pyarrow as pa
    from pyarrow import parquet

    lists = {name: _list_type(shape) for name, shape in given.shapes.items()}
    schema = pa.schema({"path": pa.string(), "class": pa.string()} | lists)
    done = 0
    with parquet.ParquetWriter(path, schema) as writer:
        for part in _in_chunks(given.parts):
            rows = given.kept[done : done + _rows(part)]
            done += len(rows)
            # Parquet holds UTF-8 only.
            columns = [pa.array([as_utf8(given.source.ids[row]) for row in rows], pa.string())]
            columns.append(pa.array([_class(given.source, row) for row in rows], pa.string()))
            columns += [_list_array(part[name]) for name in lists]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema), len(rows))


WRITERS: dict[str, Callable[[Path, Embeddings], None]] = {
    ".npy": _write_npy,
    ".npz": _write_npz,
    ".parquet": _write_parquet,
    ".safetensors": _write_safetensors,
}
"""By the ending of a file's name; each leaves a whole file or raises."""


def _class(source: ImageSource, row: int) -> str | None:
    label = int(source.labels[row, 0]) if source.labels.shape[1] else -1
    if label < 0:
        return None
    # An archive says by numbers alone what its images are.
    return as_utf8(source.class_names[label]) if source.class_names else str(label)


def _list_type(shape: tuple[int, ...]) -> Any:
    import pyarrow as pa

    kind = pa.float32()
    for size in reversed(shape):
        kind = pa.list_(kind, size)
    return kind


def _list_array(values: NDArray[np.float32]) -> Any:
    import pyarrow as pa

    array = pa.array(values.reshape(-1))
    for size in reversed(values.shape[1:]):
        array = pa.FixedSizeListArray.from_arrays(array, size)
    return array


def _in_chunks(parts: Iterator[Part]) -> Iterator[Part]:
    """The same rows in parts of about `_CHUNK`: a table of small ones is slow to read."""
    waiting: list[Part] = []
    for part in parts:
        waiting.append(part)
        if sum(map(_rows, waiting)) >= _CHUNK:
            yield _joined(waiting)
            waiting = []
    # A group of no rows is refused by its writer, as where nothing of the last block was read.
    if any(map(_rows, waiting)):
        yield _joined(waiting)


def _rows(part: Part) -> int:
    return len(next(iter(part.values())))


def _joined(parts: Sequence[Part]) -> Part:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@contextmanager
def _spooled(folder: Path, given: Embeddings) -> Iterator[dict[str, IO[bytes]]]:
    """Each array in an unnamed file: some formats hold one array after the other.

    On the disk of `folder`; it vanishes with the process, however that ends.
    """
    with ExitStack() as stack:
        spools: dict[str, IO[bytes]] = {
            name: stack.enter_context(tempfile.TemporaryFile(dir=folder)) for name in given.shapes
        }
        for part in given.parts:
            for name, spool in spools.items():
                _write(spool, part[name])
        for spool in spools.values():
            spool.seek(0)
        yield spools


def _mapped(spool: IO[bytes], shape: tuple[int, ...]) -> NDArray[np.float32]:
    # There is no map of no rows.
    return np.memmap(spool, "<f4", "r", shape=shape) if shape[0] else np.zeros(shape, "<f4")


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
