"""Progress with a time to go: a bar on a terminal, a plain line now and then elsewhere."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from paradise_cli.cli.output import note, notes
from paradise_cli.core.errors import shown
from paradise_cli.core.processes import beside_main
from paradise_cli.core.progress import shown_work

# Between two plain lines where stderr is not a terminal: a log is read, not watched.
QUIET_SECONDS = 30.0
SLOW_SECONDS = 2.0


class ProgressLine:
    """One task's progress on stderr."""

    def __init__(self, label: str, total: int | None) -> None:
        self._label = label = shown(label)
        self._total = total
        self._bar: Progress | None = None
        self._started = self._last = time.monotonic()
        self._done = self._first = 0
        self._begun = False
        if notes.is_terminal:
            self._bar = Progress(
                # Without markup: a label may name a file.
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[detail]}", markup=False),
                console=notes,
                transient=True,
                # stdout holds the result alone, and may be a file.
                redirect_stdout=False,
            )
            self._task = self._bar.add_task(label, total=total, detail="")
            self._bar.start()

    def update(self, done: int, detail: str = "", total: int | None = None) -> None:
        """`done` items of `total` are finished."""
        self._total = total if total is not None else self._total
        if not self._begun:
            # What was done before, in an earlier process, says nothing of today's speed.
            self._begun = True
            self._first = done
            self._started = time.monotonic()
        self._done = done
        detail = shown(detail)
        now = time.monotonic()
        if self._bar:
            self._bar.update(self._task, completed=done, total=self._total, detail=detail)
        elif now - self._last >= QUIET_SECONDS:
            self._last = now
            total_text = "" if self._total is None else f" of {self._total:,}"
            parts = [f"{self._label}: {done:,}{total_text}", self._to_go(now), detail]
            note(" ".join(filter(None, parts)))

    def _to_go(self, now: float) -> str:
        # By today's speed alone: earlier work may have been done on another machine.
        fresh = self._done - self._first
        if self._total is None or fresh <= 0:
            return ""
        return f"({duration((now - self._started) / fresh * (self._total - self._done))} to go)"

    def close(self) -> None:
        if self._bar:
            self._bar.stop()


@contextmanager
def showing_work() -> Iterator[None]:
    """Show on stderr what library functions do on the way, such as decoding a folder."""
    label, line = "", None

    def show(what: str, done: int, total: int) -> None:
        nonlocal label, line
        if line is None or what != label:
            if line is not None:
                line.close()
            label, line = what, ProgressLine(what, total)
        line.update(done, total=total)
        if done >= total:
            line.close()
            line = None

    before = shown_work.set(show)
    try:
        yield
    finally:
        shown_work.reset(before)
        if line is not None:
            line.close()


@contextmanager
def progress_bar(total: int | None, label: str) -> Iterator[Callable[[int], None]]:
    """Give a function that advances the progress by so many items; the main process shows it."""
    if beside_main():
        yield lambda items: None
        return
    line = ProgressLine(label, total)
    done = 0

    def advance(items: int) -> None:
        nonlocal done
        done += items
        line.update(done)

    try:
        yield advance
    finally:
        line.close()


@contextmanager
def noted_if_slow(text: str) -> Iterator[None]:
    """Note a text where the body takes longer than `SLOW_SECONDS` and shows no progress."""
    waiting = threading.Timer(SLOW_SECONDS, note, [text])
    waiting.start()
    try:
        yield
    finally:
        waiting.cancel()


def duration(seconds: float) -> str:
    """`12s`, `3m 20s`, `2h 05m`."""
    whole = round(seconds)  # no fractions: this is an estimate
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
