"""Embeddings of any number of images as one file, in constant memory."""

import csv
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.results import EMBEDDINGS, check_suffix
from paradise_cli.core.storage import publish_together
from paradise_cli.data import UnreadableImage
from paradise_cli.inference.answers import SCALE_TRIL
from paradise_cli.inference.batches import NothingReadable, Results
from paradise_cli.inference.embedding_files import WRITERS, Embeddings, Part
from paradise_cli.inference.image_sources import ImageSource
from paradise_cli.inference.loading import Advance, LoadedModel, draw

_NO_UTF_8 = "surrogateescape"  # names of files that are not UTF-8 keep their bytes


@dataclass(frozen=True)
class Encoded:
    """What was written where: `rows` of the source's `images`; the others are `skipped`.

    `dimensions` are those of z, or of the features.
    """

    out: Path
    index: Path
    images: int
    rows: int
    dimensions: int
    skipped: list[tuple[str, str]]


def encode_to_file(
    model: LoadedModel,
    source: ImageSource,
    out: Path,
    *,
    features: bool = False,
    samples: int = 0,
    seed: int = 0,
    first: int | None = None,
    ahead: int | None = None,
    overwrite: bool = False,
    progress: Advance | None = None,
) -> Encoded:
    """Write the posteriors of all readable images, in order, and beside them the index of rows.

    `.npy` holds the means, float32 [N, latent_dim], or with `samples` K draws instead, [N, K,
    latent_dim]. `.npz` holds mean, log_variance, labels [N, T], ids and, with `samples`, the draws;
    and class_names, which the first column of the labels numbers, where they are not the model's:
    as of class folders that it does not know, or none at all where labels are those of an archive.
    Of full posteriors there is `scale_tril` too: see `Encoding`.
    `.safetensors` holds the same numbers and no texts, `.parquet` a row of path, class and these
    arrays for each image. With `features` there is one array in their place: the backbone's [N, F].
    The index is a CSV of row, path and error; an unreadable file has an error and no row. Equal
    calls write equal bytes, whatever `ahead`. Raises UsageError for another suffix and for draws of
    features, ParadiseError where no image is readable, `out` cannot be written, or another output
    has this index with other rows (unless `overwrite`), with what was there before untouched. The
    index is away while `out` changes: where it stands, it belongs to it. Of a part of more, from
    the image `first` on, draws are those of the whole, and none need be readable.
    """
    check_suffix(out, EMBEDDINGS, chooses=True)
    model.check_samples(samples)
    if features and samples:
        raise UsageError("features have no distribution to draw from: leave out one of the two")
    # Everything that can be refused is refused before the model sees an image.
    compute = model.features() if features else model.posterior()
    blocks = model.stream(source, compute, ahead=ahead, progress=progress)
    with closing(blocks), publish_together(index_path(out), out) as (lines, temporary):
        with index_file(lines) as index:
            given = Embeddings(
                parts=_parts(blocks, source, index, samples, seed, first),
                shapes=_shapes(model, features, samples),
                source=source,
                kept=index.kept,
                own_classes=model.info.targets[0].classes if model.info.targets else (),
            )
            WRITERS[out.suffix](temporary, given)
        if not overwrite:
            _refuse_other_rows(out, lines)
    rows, width = len(index.kept), dimensions(model, features=features)
    return Encoded(out, index_path(out), len(source.ids), rows, width, index.skipped)


def dimensions(model: LoadedModel, *, features: bool = False) -> int:
    """Of z, or of the features."""
    return model.model.backbone.out_features if features else model.model.latent_dim


def _shapes(model: LoadedModel, features: bool, samples: int) -> dict[str, tuple[int, ...]]:
    """What there is of each image: names of arrays and shapes."""
    size = dimensions(model, features=features)
    if features:
        return {"features": (size,)}
    shapes: dict[str, tuple[int, ...]] = {"mean": (size,), "log_variance": (size,)}
    if model.model.tilt is not None:
        shapes[SCALE_TRIL] = (size, size)
    return shapes | {"samples": (samples, size)} if samples else shapes


def index_path(out: Path) -> Path:
    """Where the index of an output stands."""
    return out.with_name(f"{out.stem}.index.csv")


def sharing(out: Path) -> Path | None:
    """Another output that stands beside this one and has the same index."""
    others = (out.with_suffix(kind) for kind in EMBEDDINGS if kind != out.suffix)
    return next((other for other in others if other.is_file()), None)


def _refuse_other_rows(out: Path, index: Path) -> None:
    """Raise ParadiseError where a new index would number the rows of another output wrongly."""
    other, standing = sharing(out), index_path(out)
    if other is None or not standing.is_file():
        return
    # What the one model or moment could not read, another may read.
    if standing.read_bytes() != index.read_bytes():
        raise ParadiseError(
            f"{standing} is the index of {other} too, which has other rows, as other files could be"
            f" read. Choose another name than {out}, or remove {other} and encode it anew"
        )


class Index:
    """Which row of the output came from which image, and which images could not be read.

    `kept` lists the rows of the source that were read, in their order.
    """

    def __init__(self, file: IO[str]) -> None:
        self.kept: list[int] = []
        self.skipped: list[tuple[str, str]] = []
        self._csv = csv.writer(file, lineterminator="\n")
        self._csv.writerow(("row", "path", "error"))

    def add(self, source: ImageSource, block: Results) -> None:
        """Record the rows of a block in their order."""
        errors: dict[int, UnreadableImage] = dict(block.skipped)
        for row in sorted([*block.rows, *errors]):
            if row in errors:
                self.skipped.append((source.ids[row], errors[row].reason))
                self._csv.writerow(("", source.ids[row], errors[row].reason))
            else:
                self._csv.writerow((len(self.kept), source.ids[row], ""))
                self.kept.append(row)


@contextmanager
def index_file(path: Path) -> Iterator[Index]:
    """An index that is written to `path`."""
    with path.open("w", encoding="utf-8", errors=_NO_UTF_8, newline="") as file:
        yield Index(file)


def unread_in(index: Path) -> list[tuple[str, str]]:
    """The files that have no row in an index, and why."""
    with index.open(encoding="utf-8", errors=_NO_UTF_8, newline="") as file:
        lines = csv.DictReader(file)
        return [(line["path"], line["error"]) for line in lines if not line["row"]]


def _parts(
    blocks: Iterator[Results],
    source: ImageSource,
    index: Index,
    samples: int,
    seed: int,
    first: int | None,
) -> Iterator[Part]:
    """The arrays of each block, its rows entered into the index."""
    # A part of more may be without any image.
    with nullcontext() if first is None else suppress(NothingReadable):
        for block in blocks:
            index.add(source, block)
            part = block.values
            if samples:
                rows = [(first or 0) + row for row in block.rows]
                part = part | {"samples": draw(part, rows, samples, seed)}
            yield part
