"""This process: its freed memory, the others that torchrun started beside it, and signals."""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType

_PATIENCE = timedelta(days=30)  # one rank may attack for days while another waits
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # as glibc's malloc.h numbers them
_LARGEST_KEPT = 32 * 2**20  # the most that glibc allows


def world_size() -> int:
    """How many processes `torchrun` started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """The number of this process among all; 0 without `torchrun`."""
    return int(os.environ.get("RANK", "0"))


def local_rank() -> int | None:
    """The number of this process on its machine; None without `torchrun`."""
    text = os.environ.get("LOCAL_RANK")
    return int(text) if text else None


def is_main() -> bool:
    """Whether this is the one process that reports to the user."""
    return rank() == 0


def join() -> None:
    """Wait for the other processes, so that `any_process` can be asked; once is enough."""
    from torch import distributed

    # gloo: what is agreed on are single numbers, which need no GPU.
    if not distributed.is_initialized():
        distributed.init_process_group("gloo", timeout=_PATIENCE)


def any_process(holds: bool) -> bool:
    """Whether it holds in some process.

    Every process must ask, and where there are several each must have called `join` before.
    """
    if world_size() == 1:
        return holds
    import torch

    found = torch.tensor(int(holds))
    torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX)
    return bool(found)


def keep_freed_memory() -> None:
    """Keep the memory that this process frees for what it allocates next, blocks of 32 MiB or more
    apart (glibc; elsewhere nothing is done).

    By default a training step gives its memory back to the system and takes it again page by page.
    """
    # No other C library has it.
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return
    mallopt(_TRIM_THRESHOLD, -1)  # never
    # Set as well: glibc fits it to the blocks it sees only while neither is set by hand, and from
    # its first value, 128 KiB, on each block would be mapped anew. That costs half a step's time.
    mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT)


@contextmanager
def end_tidily() -> Iterator[None]:
    """SIGTERM and a closed terminal end the body as SystemExit, with 128 + the signal's number.

    What the body has open is put away on the way out, as unfinished files are.
    """

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)  # what a shell reports of a process that a signal ended

    # What somebody else handles stays theirs, and under nohup SIGHUP is ignored.
    signals = (signal.SIGTERM, signal.SIGHUP)
    with _handled([each for each in signals if signal.getsignal(each) == signal.SIG_DFL], end):
        yield


@contextmanager
def stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Ctrl-C, SIGTERM and a closed terminal ask for a stop, after which everything is saved.

    A second one is obeyed at once.
    """
    asked = threading.Event()
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as under nohup
        numbers.append(signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}

    def ask(number: int, frame: FrameType | None) -> None:
        asked.set()
        for each, handler in before.items():
            signal.signal(each, handler)

    with _handled(numbers, ask):
        yield asked.is_set


@contextmanager
def _handled(
    numbers: Sequence[int], handler: Callable[[int, FrameType | None], None]
) -> Iterator[None]:
    """Signals go to a handler within the body, and afterwards to whom they went before."""
    # Python delivers signals to the main thread alone; elsewhere they are the caller's.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
