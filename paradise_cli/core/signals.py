"""Signals that end a process: what is put away, what is saved, and how it is told."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from paradise_cli.core.errors import Interrupted, Requeued

_SCHEDULERS = (signal.SIGTERM, signal.SIGHUP)
"""What a scheduler sends before it takes the machine away, and a terminal that is closed."""


@contextmanager
def end_tidily() -> Iterator[None]:
    """SIGTERM and a closed terminal end the body as SystemExit, with 128 + the signal's number.

    What the body has open is put away on the way out, as unfinished files are.
    """

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)  # what a shell reports of a process that a signal ended

    # What somebody else handles stays theirs, and under nohup SIGHUP is ignored.
    own = [each for each in _SCHEDULERS if signal.getsignal(each) == signal.SIG_DFL]
    with _handled(own, end):
        yield


@contextmanager
def goes_on(kept: str) -> Iterator[None]:
    """What a signal ends within the same command goes on with: raises Interrupted with what was
    `kept`, and where the signal is one of `end_tidily` Requeued.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted(kept) from error
    except SystemExit as error:
        if error.code not in [128 + number for number in _SCHEDULERS]:
            raise
        raise Requeued(kept) from error


def ignore_schedulers() -> None:
    """For a process that has saved and is on its way out: its exit code is to stand."""
    if threading.current_thread() is threading.main_thread():
        for number in _SCHEDULERS:
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def stop_on_signal(say: Callable[[str], None] | None = None) -> Iterator[Callable[[], bool]]:
    """Ctrl-C, SIGTERM and a closed terminal ask for a stop, after which everything is saved.

    The first Ctrl-C is acknowledged by `say`, since a step may be long, and a second one obeyed at
    once. After the others an Interrupted of the body is a Requeued, as it is where no signal came:
    then another process of the same work got it.
    """
    asked = threading.Event()
    requeue = True
    # Under nohup SIGHUP is ignored, and SIGINT in what a script starts with `&`.
    numbers = [
        number
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) != signal.SIG_IGN
    ]
    before = {number: signal.getsignal(number) for number in numbers}

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal requeue
        if say is not None and number == signal.SIGINT and not asked.is_set():
            # In a thread: the signal may have come in the middle of a line that is being written.
            text = "stopping after this step; Ctrl-C again ends at once"
            threading.Thread(target=say, args=[text]).start()
        # By the first one: what comes later changes nothing.
        requeue = requeue if asked.is_set() else number in _SCHEDULERS
        asked.set()
        # Not so SIGTERM: a scheduler sends it to all processes of a job, and those that started
        # them, as torchrun, pass it on. Nothing would be saved.
        if signal.SIGINT in before:
            signal.signal(signal.SIGINT, before[signal.SIGINT])

    with _handled(numbers, ask):
        try:
            yield asked.is_set
        except Interrupted as error:
            if not requeue:
                raise
            raise Requeued(str(error)) from error


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
