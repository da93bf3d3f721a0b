"""Any number of images through a model, in order, in bounded memory, in blocks of one shape.

On a CPU the model is not parallelised inside: each thread decodes images and, when the images of a
block are complete, takes that block through the model on its own core. No core waits for another,
decoding and model share them as the work falls, and results do not depend on the number of cores.
"""

import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.machine import fast_layout, full_fp32
from paradise_cli.core.threads import one_thread_each
from paradise_cli.data.images import UnreadableImage
from paradise_cli.data.streaming import stream, worker_count
from paradise_cli.inference.image_sources import ImageSource

DIVERGED = "the model gives numbers that are not finite: its training diverged; train again"
_SHOWN = 5  # files that are named where none can be read

BlockFunction = Callable[[Tensor], Mapping[str, Tensor]]
"""Images float32 [B, C, H, W] in [0, 1] to named results, each [B, ...]."""


@dataclass(frozen=True)
class Results:
    """What a model gives for consecutive rows of a source.

    `rows` are those that could be read, ascending; each of `values` has a row for each of them.
    `skipped` says which rows could not be read, and why.
    """

    rows: list[int]
    values: dict[str, NDArray[Any]]
    skipped: list[tuple[int, UnreadableImage]]


def block_size(shape: Sequence[int]) -> int:
    """Images that pass the model at a time, fixed by their size alone.

    Kernels round differently at different batch shapes; at one shape an image's result is always
    the same.
    """
    # Small enough for a core's cache, large enough to keep it busy between two Python calls.
    return int(np.clip(2**17 // (shape[1] * shape[2]), 16, 64))


def stream_results(
    source: ImageSource,
    model: nn.Module,
    compute: BlockFunction,
    *,
    device: torch.device,
    ahead: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Generator[Results, None, None]:
    """`compute` on every image of a source, block after block, in order.

    The model is in eval mode and fp32. At most `ahead` images are decoded ahead of the results (by
    default enough to keep every core busy); it changes speed and memory, never a result. `progress`
    is called with the number of images decoded since its last call. Close it where it is left
    early: its threads are then stopped, and torch has its cores back. Raises ParadiseError for
    results that are no numbers, and NothingReadable at the end where no image could be read.
    """
    size = block_size(source.shape)
    workers = worker_count()
    # A block for each worker, and two that wait: one worker may be slow at a large picture.
    window = max(1, (ahead or (workers + 2) * size) // source.stride)
    on_cpu = device.type == "cpu"  # a GPU takes its blocks one after the other, from this thread
    layout = fast_layout(device, "fp32", model)
    model.to(memory_format=layout)

    def work(piece: _Piece) -> _Piece:
        block, start, stop = piece
        block.read(source, start, stop)
        # The thread that reads a block's last rows takes the block through the model.
        if block.finished(stop - start) and on_cpu:
            block.run(compute, device, layout)
        return piece

    unread: list[tuple[int, UnreadableImage]] = []
    pieces = stream(_pieces(source, size), work, workers=workers, window=window)
    with one_thread_each(), closing(pieces):
        for piece in pieces:
            if isinstance(piece, UnreadableImage):  # `read` keeps those: this one is of the model
                raise piece
            block, start, stop = piece
            if progress:
                progress(stop - start)
            if stop == block.stop:  # pieces come in order: all others of the block are done
                if not on_cpu:
                    block.run(compute, device, layout)
                results = block.results()
                unread += results.skipped
                yield results
    if len(unread) == len(source.ids):
        raise NothingReadable([(source.ids[row], error.reason) for row, error in unread])


def _pieces(source: ImageSource, size: int) -> "Iterator[_Piece]":
    """The source in blocks of `size` rows, each in reads of `source.stride` rows."""
    for start in range(0, len(source.ids), size):
        block = _Block(source, start, min(start + size, len(source.ids)), size)
        for row in range(block.start, block.stop, source.stride):
            yield block, row, min(row + source.stride, block.stop)


class NothingReadable(ParadiseError):
    """No image of a source could be read."""

    def __init__(self, skipped: Sequence[tuple[str, str]]) -> None:
        shown = "".join(f"\n  {path}: {reason}" for path, reason in skipped[:_SHOWN])
        more = "\n  ..." if len(skipped) > _SHOWN else ""
        super().__init__(f"no image can be read, of {len(skipped):,} given:{shown}{more}")


class _Block:
    """Consecutive rows of a source that pass the model together, padded to the fixed size."""

    def __init__(self, source: ImageSource, start: int, stop: int, size: int) -> None:
        self.start, self.stop = start, stop
        # Zeros also stand for what cannot be read: the shape stays, and nobody sees the result.
        self.images = np.zeros((size, *source.shape), source.dtype)
        self.skipped: dict[int, UnreadableImage] = {}
        self.values: dict[str, NDArray[Any]] = {}
        self._left = stop - start
        self._lock = threading.Lock()

    def read(self, source: ImageSource, start: int, stop: int) -> None:
        try:
            self.images[start - self.start : stop - self.start] = source.read(start, stop)
        except UnreadableImage as error:
            self.skipped.update((row, error) for row in range(start, stop))

    def finished(self, count: int) -> bool:
        """Whether these rows were the last that the block waited for."""
        with self._lock:
            self._left -= count
            return self._left == 0

    def run(
        self, compute: BlockFunction, device: torch.device, layout: torch.memory_format
    ) -> None:
        pixels = torch.from_numpy(self.images).to(device)  # bytes travel, not floats
        images = pixels.to(torch.float32, memory_format=layout)
        with torch.inference_mode(), full_fp32(device):
            found = compute(images.div_(255) if pixels.dtype == torch.uint8 else images)
        self.values = {
            name: value[: self.stop - self.start].cpu().numpy() for name, value in found.items()
        }
        del self.images  # finished blocks may wait for an earlier one
        # NaN is no maximum below infinity either; a log-variance may be -inf.
        if not all(value.max() < np.inf for value in self.values.values()):
            raise ParadiseError(DIVERGED)

    def results(self) -> Results:
        rows = [row for row in range(self.start, self.stop) if row not in self.skipped]
        values = self.values
        if self.skipped:
            kept = np.array(rows, np.int64) - self.start
            values = {name: value[kept] for name, value in values.items()}
        return Results(rows, values, sorted(self.skipped.items()))


_Piece = tuple[_Block, int, int]
"""Rows from the first number up to the second, all of one block."""
