"""One command of the product in a process of its own, watched from outside."""

import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

SECONDS = 120
"""After which a command hangs; the slowest here takes ten on a busy machine."""
MOST_MEMORY = 1.5 * 2**30


@dataclass(frozen=True)
class Outcome:
    """How a command ended: `code` is its exit status, or minus the signal that ended it."""

    code: int
    stdout: str
    stderr: str
    seconds: float
    memory: int
    hung: bool


def run(
    arguments: Sequence[str], place: Path, before: Callable[[], None] = lambda: None
) -> Outcome:
    """`paradise ARGUMENTS` in a folder; `before` is called in the child before it begins."""
    since = time.monotonic()
    streams = [place.parent / name for name in ("stdout", "stderr")]
    status, used, hung = _awaited(started(arguments, place, streams, before), since)
    texts = [stream.read_text(errors="replace") for stream in streams]
    code = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - since
    return Outcome(code, texts[0], texts[1], seconds, used.ru_maxrss * 1024, hung)


def started(
    arguments: Sequence[str],
    place: Path,
    streams: Sequence[Path],
    before: Callable[[], None] = lambda: None,
) -> int:
    """The number of a process that is `paradise ARGUMENTS`; it writes to these two files."""
    sys.stdout.flush()
    # A fork has torch in memory already: a fresh process would take seconds for it.
    child = os.fork()
    if child == 0:
        _become(arguments, place, streams, before)
    return child


def _become(
    arguments: Sequence[str], place: Path, streams: Sequence[Path], before: Callable[[], None]
) -> None:
    """Never returns: an exception in here must not go on as a second campaign."""
    code = 70
    try:
        os.setsid()
        os.chdir(place)
        for number, stream in enumerate(streams, 1):
            opened = os.open(stream, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(opened, number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdout = open(1, "w", closefd=False)
        sys.stderr = open(2, "w", closefd=False, buffering=1)
        sys.argv = ["paradise", *arguments]
        from paradise_cli.__main__ import main

        before()
        try:
            main()
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        if sys.stdout:
            sys.stdout.flush()
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def _awaited(child: int, since: float) -> tuple[int, resource.struct_rusage, bool]:
    while time.monotonic() - since < SECONDS:
        ended, status, used = os.wait4(child, os.WNOHANG)
        if ended:
            return status, used, False
        time.sleep(0.005)
    os.killpg(child, signal.SIGKILL)
    _, status, used = os.wait4(child, 0)
    return status, used, True
