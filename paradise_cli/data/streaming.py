"""Images decoded by threads: streamed in bounded memory, or once into a mapped file."""

import dataclasses
import hashlib
import io
import json
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.progress import tell
from paradise_cli.core.randomness import generator
from paradise_cli.core.resources import cache_folder
from paradise_cli.core.storage import publish, read_object, write_json
from paradise_cli.data.base import Key, MemorySplit, Preprocessing, Split
from paradise_cli.data.images import Pixels, UnreadableImage, decode
from paradise_cli.data.shards import ImageFile, Packed, on_disk

T = TypeVar("T")
R = TypeVar("R")

_CHUNK = 2**24  # bytes that are read at a time

_TOLD = 256  # images between two signs of life

_REMEDY = (
    "mend or move away such files, or leave them out of an image_folder or of tar_shards with"
    " data.skip_unreadable"
)


def worker_count() -> int:
    """Threads that decode: one for each core this process may use."""
    # In a container cpu_count is that of the host.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def stream(
    items: Iterable[T],
    fn: Callable[[T], R],
    *,
    workers: int | None = None,
    window: int | None = None,
) -> Generator[R | UnreadableImage, None, None]:
    """`fn(item)` for every item in order, or the UnreadableImage it raised, computed by threads.

    At most `window` results (default 64) are pending or waiting at a time.
    """
    # Threads, not processes: the decoders and torch leave the interpreter's lock alone.
    source = iter(items)
    pool = ThreadPoolExecutor(workers or worker_count(), "paradise-decode")

    def submit(item: T) -> Future[R | UnreadableImage]:
        return pool.submit(_attempt, fn, item)

    try:
        pending = deque(map(submit, islice(source, window or 64)))
        while pending:
            result = pending.popleft().result()
            pending.extend(map(submit, islice(source, 1)))
            yield result
    finally:
        # Not waited for: a stream left early may be collected in one of its own threads.
        pool.shutdown(wait=False, cancel_futures=True)


def _attempt(fn: Callable[[T], R], item: T) -> R | UnreadableImage:
    try:
        return fn(item)
    except UnreadableImage as error:
        return error


@dataclass(frozen=True)
class FolderSplit:
    """Image files decoded as they are needed; in training `random_crop` draws a part of each.

    They lie below `root` by their ids, or `packed` within tar files.
    """

    root: Path
    ids: Sequence[str]
    labels: Tensor
    preprocessing: Preprocessing
    random_crop: bool = False
    workers: int | None = None
    packed: Sequence[Packed] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def file(self, row: int) -> ImageFile:
        """Where an image lies."""
        return self.packed[row] if self.packed else self.root / self.ids[row]

    def fetch(self, order: Tensor, batch_size: int, key: Key, train: bool) -> Iterator[Tensor]:
        """See `Split.fetch`; raises ParadiseError naming the first file that cannot be read."""

        def load(row: int) -> Pixels:
            # Keyed by the row: the crop is the same whichever thread draws it, and when.
            draw = generator(*key, "crop", row) if train and self.random_crop else None
            return decode(self.file(row), self.preprocessing, draw)

        # Two batches ahead: the threads fill the next ones while the model works on this one.
        decoded = stream(order.tolist(), load, workers=self.workers, window=max(64, 2 * batch_size))
        for start in range(0, len(order), batch_size):
            size = min(batch_size, len(order) - start)
            images = np.empty((size, *self.preprocessing.shape), np.uint8)
            for place, pixels in enumerate(islice(decoded, size)):
                if isinstance(pixels, UnreadableImage):
                    raise ParadiseError(f"{pixels}; {_REMEDY}") from pixels
                images[place] = pixels
            yield torch.from_numpy(images)

    def select(self, rows: Tensor) -> "FolderSplit":
        """See `Split.select`."""
        ids = [self.ids[i] for i in rows.tolist()]
        packed = [self.packed[i] for i in rows.tolist()] if self.packed else ()
        return dataclasses.replace(self, ids=ids, labels=self.labels[rows], packed=packed)

    def relabel(self, labels: Tensor) -> "FolderSplit":
        """See `Split.relabel`."""
        return dataclasses.replace(self, labels=labels)

    def to(self, device: torch.device) -> "FolderSplit":
        """Itself: what is streamed stays on the disk."""
        return self


def folder_split(
    root: Path,
    ids: Sequence[str],
    labels: Tensor,
    preprocessing: Preprocessing,
    *,
    random_crop: bool = False,
    memory_gib: float = 4.0,
) -> Split:
    """Images in memory where they fit in `memory_gib` and are not cropped at random, else streamed.

    A random crop needs the whole picture each time, and not the pixels of its centre.
    """
    size = len(ids) * preprocessing.channels * preprocessing.crop[0] * preprocessing.crop[1]
    if random_crop or size > memory_gib * 2**30:
        return FolderSplit(root, ids, labels, preprocessing, random_crop)
    return MemorySplit(decoded(root, ids, preprocessing), labels, ids)


def decoded(root: Path, ids: Sequence[str], preprocessing: Preprocessing) -> Tensor:
    """Memory-mapped uint8 [N, C, H, W] of image files, decoded once into the user's cache.

    A changed file or preprocessing is decoded again, and so is what was damaged in the cache.
    Raises ParadiseError naming the files that cannot be read.
    """
    path = cache_folder("decoded") / f"{_digest(root, ids, preprocessing)}.npy"
    if not _whole(path):
        _decode_all(path, root, ids, preprocessing)
    # Copy-on-write: torch takes no read-only array, and the cache must never change.
    return torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))


def _whole(path: Path) -> bool:
    """Whether a file of decoded images is there and ends in the digest of what stands before it."""
    if not path.is_file():
        return False
    size = path.stat().st_size - hashlib.sha256().digest_size
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for start in range(0, size, _CHUNK):
            digest.update(file.read(min(_CHUNK, size - start)))
        return file.read() == digest.digest()


def unreadable(
    root: Path,
    ids: Sequence[str],
    preprocessing: Preprocessing,
    file_of: Callable[[str], ImageFile] | None = None,
) -> dict[str, str]:
    """The image files that cannot be read, and why; each is tried once, and the answer is kept.
    Where it came from the system, as of a server that did not answer, the file is tried anew.

    They lie below `root` by their ids, or where `file_of` says.
    """
    file_of = file_of or root.joinpath
    found: dict[str, str] = {}
    there = []
    for name in ids:
        try:
            on_disk(file_of(name)).stat()
        except OSError as error:  # such as a link to nowhere
            found[name] = error.strerror or str(error)
        else:
            there.append(name)
    digest = _digest(root, there, preprocessing, file_of)
    path = cache_folder("decoded") / f"{digest}.unreadable.json"
    known = _kept(path)
    bad = {name: reason for name, reason in (known or {}).items() if reason}
    # Kept without a reason are those that are to be tried anew.
    tried = there if known is None else sorted(known.keys() - bad.keys())
    anew: dict[str, str] = {}
    images = stream(map(file_of, tried), lambda file: decode(file, preprocessing))
    for done, (name, pixels) in enumerate(zip(tried, images, strict=True), 1):
        if isinstance(pixels, UnreadableImage):
            (anew if pixels.of_the_moment else bad)[name] = pixels.reason
        tell("trying images", done, len(tried), _TOLD)
    kept = bad | dict.fromkeys(anew, "")
    if kept != known:
        write_json(path, kept)
    return found | bad | anew


def _kept(path: Path) -> dict[str, str] | None:
    """The answer that is kept; None where there is none, or a damaged one."""
    kept = read_object(path)
    whole = kept is not None and all(isinstance(reason, str) for reason in kept.values())
    return kept if whole else None


def _digest(
    root: Path,
    ids: Sequence[str],
    preprocessing: Preprocessing,
    file_of: Callable[[str], ImageFile] | None = None,
) -> str:
    file_of = file_of or root.joinpath
    # The 2 is the version of what is stored: raise it where decoding changes.
    digest = hashlib.sha256(json.dumps([2, preprocessing.to_json()]).encode())
    digest.update(os.fsencode(root.resolve()))
    for name in ids:
        digest.update(os.fsencode(name) + f"\0{file_stamp(file_of(name))}\0".encode())
    return digest.hexdigest()[:32]


def file_stamp(file: ImageFile) -> tuple[int, ...]:
    """What a file cannot keep when its content changes; raises ParadiseError where it is gone.

    In place of the content: reading all files would take as long as decoding them.
    """
    path = on_disk(file)
    try:
        status = path.stat()
    except OSError as error:
        raise ParadiseError(f"{path}: {error.strerror}") from error
    # Archives set the time of a file's content to anything, that of its last change is the
    # system's own.
    stamp = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    return (*stamp, file.offset, file.size) if isinstance(file, Packed) else stamp


def _decode_all(path: Path, root: Path, ids: Sequence[str], preprocessing: Preprocessing) -> None:
    bad: list[UnreadableImage] = []
    shape = (len(ids), *preprocessing.shape)
    digest = hashlib.sha256()
    # Written in sequence: a full disk is then an error to report, not a bus error of a memory map.
    with publish(path) as temporary, temporary.open("wb") as file:
        described = io.BytesIO()
        layout = {"descr": "|u1", "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(described, layout)
        file.write(described.getvalue())
        digest.update(described.getvalue())
        files = (root / name for name in ids)
        images = stream(files, lambda p: decode(p, preprocessing), window=256)
        for done, pixels in enumerate(images, 1):
            if isinstance(pixels, UnreadableImage):
                bad.append(pixels)
            elif not bad:  # after the first bad one nothing is kept, but the others are still named
                file.write(pixels.data)
                digest.update(pixels.data)
            tell("decoding images", done, len(ids), _TOLD)
        file.write(digest.digest())  # after the array, where no reader of it looks
        if bad:
            raise not_all_read(bad, len(ids), str(root))


def unread_note(bad: Sequence[str], total: int) -> str:
    """The note where some of so many images, each with its reason, are left out."""
    shown = "; ".join(bad[:5]) + ("; ..." if len(bad) > 5 else "")
    return f"{len(bad):,} of {total:,} images cannot be read and are left out: {shown}"


def not_all_read(bad: Sequence[UnreadableImage], total: int, where: str) -> ParadiseError:
    """What is said where some of so many images, all of which are needed, cannot be read."""
    shown = "".join(f"\n  {error}" for error in bad[:5])
    shown += "\n  ..." if len(bad) > 5 else ""
    return ParadiseError(f"{where}: {len(bad)} of {total} images cannot be read; {_REMEDY}:{shown}")
