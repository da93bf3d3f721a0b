"""This process: its freed memory, the others that torchrun started beside it, and signals."""

import atexit
import ctypes
import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from paradise_cli.core.errors import (
    ParadiseError,
    UsageError,
    printable,
)

if TYPE_CHECKING:
    from torch import Tensor

Result = TypeVar("Result")

# With -P, a file of the user's current folder cannot stand in for a module.
COMMAND = (sys.executable, "-P", "-m", "paradise_cli")
"""This program, for a process of its own, in which `python_path` has to be set."""
_PACKAGE = str(Path(__file__).resolve().parents[2])

_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_MEETING = timedelta(minutes=10)  # one machine may start long after another
_PATIENCE = timedelta(days=30)  # one rank may attack for days while another waits
_HEED = 0.05  # seconds between two looks for signals
_CURE = "unset what is left of another job, or start the processes with torchrun"
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # as glibc's malloc.h numbers them


def world_size() -> int:
    """How many processes `torchrun` started; 1 without it."""
    found = _launched("WORLD_SIZE")
    if found == 0:
        raise UsageError(f"WORLD_SIZE=0 in the environment: {_CURE}")
    return found or 1


def rank() -> int:
    """The number of this process among all; 0 without `torchrun`."""
    found, size = _launched("RANK"), world_size()
    if found is None and size > 1:
        raise UsageError(f"WORLD_SIZE={size} in the environment, and no RANK: {_CURE}")
    if (found or 0) >= size:
        raise UsageError(f"RANK={found} in the environment, of WORLD_SIZE={size}: {_CURE}")
    return found or 0


def local_rank() -> int | None:
    """The number of this process on its machine; None without `torchrun`."""
    return _launched("LOCAL_RANK")


def local_world_size() -> int:
    """How many processes `torchrun` started on this machine; 1 without it."""
    return _launched("LOCAL_WORLD_SIZE") or 1


def _launched(name: str) -> int | None:
    """A number that `torchrun` gives each of its processes, None without it."""
    text = os.environ.get(name)
    if not text:
        return None
    # Leftovers of a cluster's job may say anything.
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise UsageError(f"{name}={printable(text)} in the environment is no number: {_CURE}")
    return int(text)


def python_path(*folders: str) -> str:
    """PYTHONPATH of a COMMAND: this very package is found first, and modules in `folders` too."""
    return os.pathsep.join(filter(None, [_PACKAGE, os.environ.get("PYTHONPATH"), *folders]))


def without_others(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process that works by itself, whoever started this one."""
    return {name: value for name, value in environment.items() if name not in _VARIABLES}


def is_main() -> bool:
    """Whether this is the one process that reports to the user."""
    return rank() == 0


def beside_main() -> bool:
    """Whether another process reports to the user."""
    try:
        return not is_main()
    except UsageError:
        return False  # of what is wrong with its number it may be the only one to know


def join() -> None:
    """Wait for the other processes, so that `any_process` can be asked; once is enough."""
    # Its functions have the group as a default: imported later, by an optimiser, they would keep it
    # and its threads alive beyond the end, which aborts some processes (docs/pitfalls.md).
    import torch.distributed.nn  # noqa: F401
    from torch import cuda, distributed

    if distributed.is_initialized():
        return
    rank()  # what is wrong with the numbers is said here, and not in torch's words
    if missing := [name for name in ("MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]:
        raise UsageError(
            f"WORLD_SIZE={world_size()} in the environment, and no {' and no '.join(missing)}:"
            f" {_CURE}"
        )
    _launched("MASTER_PORT")
    try:
        # What is agreed on are single numbers, which need no GPU; batches travel from GPU to GPU.
        nccl = cuda.is_available() and distributed.is_nccl_available()
        backend = "cpu:gloo,cuda:nccl" if nccl else "gloo"
        _heeding_signals(lambda: _meet(backend))
    except (RuntimeError, ValueError) as error:
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise ParadiseError(
            f"the {world_size()} processes cannot meet at {printable(where)}:"
            f" {printable(str(error))}"
        ) from error
    # Its threads would still run while the interpreter is taken down, which aborts some processes.
    atexit.register(distributed.destroy_process_group)


def _meet(backend: str) -> None:
    from torch import distributed
    from torch.distributed.rendezvous import rendezvous

    # By itself: a process that ended before the meeting is not waited for as one at work.
    store, number, world = next(rendezvous("env://", timeout=_MEETING))
    distributed.init_process_group(
        backend, store=store, rank=number, world_size=world, timeout=_PATIENCE
    )


def _heeding_signals(work: Callable[[], None]) -> None:
    """Do what waits outside of Python, where no signal would be heard, in a thread."""
    raised: list[Exception] = []

    def run() -> None:
        try:
            work()
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(_HEED)
    if raised:
        raise raised[0]


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


def from_main(text: str) -> str:
    """The main process's text, for all; as `any_process`, all must ask."""
    if world_size() == 1:
        return text
    import torch

    sent = text.encode()
    size = torch.tensor(len(sent))
    torch.distributed.broadcast(size, 0)
    # Bytes, and no object of Python: those would travel as pickles.
    content = torch.tensor(list(sent)) if is_main() else torch.empty(int(size), dtype=torch.int64)
    torch.distributed.broadcast(content, 0)
    return bytes(content.tolist()).decode()


def from_each(values: "Tensor") -> "list[Tensor]":
    """What each process has, tensors of one shape on the CPU, in the order of the processes.

    As `any_process`, all must ask.
    """
    if world_size() == 1:
        return [values]
    import torch

    found = [torch.empty_like(values) for _ in range(world_size())]
    torch.distributed.all_gather(found, values)
    return found


def require_same(mine: Mapping[str, object]) -> None:
    """Raise UsageError, in all processes, where one has others of these parts than the main one.

    By the word for each part, as JSON values; as `any_process`, all must ask.
    """
    if world_size() == 1:
        return
    sent = json.dumps(mine)
    own, main = json.loads(sent), json.loads(from_main(sent))
    other = [name for name, part in own.items() if main[name] != part]
    differs = any_process(bool(other))
    if other:
        raise UsageError(
            f"process {rank()} on {socket.gethostname()} has another {' and another '.join(other)}"
            " than the main process; give all the same, and start again"
        )
    if differs:
        raise UsageError("another process was told something else, as it says; give all the same")


@contextmanager
def together() -> Iterator[None]:
    """One message where another process has ended while this one waits for it."""
    if world_size() == 1:
        yield
        return
    try:
        yield
    except RuntimeError as error:
        if not _lost(error):
            raise
        raise ParadiseError(
            "another process has ended, or can no longer be reached; the same command goes on from"
            " what was kept"
        ) from error


def _lost(error: RuntimeError) -> bool:
    """Whether it is what gloo and NCCL say of a process that is gone; they have no type for it."""
    from torch.distributed import DistError

    text = str(error).lower()
    return isinstance(error, DistError) or "gloo" in text or "connection" in text


def first_on_machine(work: Callable[[], Result]) -> Result:
    """Do it on each machine in one process first, and in the others once all of those are done.

    What the first keeps in the machine's cache need not be made again. As `any_process`, all must
    ask.
    """
    # On each machine, as its cache is its own.
    mine = not local_rank()
    found = work() if mine else None
    any_process(False)  # a wait
    return work() if found is None else found


def over_all_processes(counts: Sequence[int]) -> list[int]:
    """The sums of what each process counts; as `any_process`, all must ask."""
    if world_size() == 1:
        return [*counts]
    import torch

    found = torch.tensor(counts, dtype=torch.int64)
    torch.distributed.all_reduce(found, torch.distributed.ReduceOp.SUM)
    return [*found.tolist()]


def keep_freed_memory() -> None:
    """Keep the memory that this process frees for what it allocates next (glibc; elsewhere nothing
    is done).

    By default a training step gives its memory back to the system and takes it again page by page.
    """
    # No other C library has it.
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return
    mallopt(_TRIM_THRESHOLD, -1)  # never
    # No block is mapped by itself: it would be given back, and its pages be taken anew each time.
    # A threshold in its place may be 32 MiB at most, and a batch of large images takes more.
    mallopt(_MMAP_MAX, 0)


def give_back_freed_memory() -> None:
    """Give back what was kept so far, of all threads (glibc; elsewhere nothing is done)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
