"""Progress with a time to go: a bar on a terminal, a plain line now and then elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from paradise_cli.cli.output import note, notes

QUIET_SECONDS = 30.0
"""Between two plain lines where stderr is not a terminal."""


class ProgressLine:
    """One task's progress on stderr."""

    def __init__(self, label: str, total: int | None) -> None:
        self._label, self._total = label, total
        self._bar: Progress | None = None
        self._started = self._last = time.monotonic()
        self._done = self._first = 0
        self._begun = False
        if notes.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                TextColumn("{task.fields[detail]}"),
                console=notes, transient=True, redirect_stdout=False,
            )  # fmt: skip
            self._task = self._bar.add_task(label, total=total, detail="")
            self._bar.start()

    def update(self, done: int, detail: str = "", total: int | None = None) -> None:
        """`done` items of `total` are finished."""
        self._total = total if total is not None else self._total
        if not self._begun:
            self._first, self._begun, self._started = done, True, time.monotonic()
        self._done = done
        now = time.monotonic()
        if self._bar:
            self._bar.update(self._task, completed=done, total=self._total, detail=detail)
        elif now - self._last >= QUIET_SECONDS:
            self._last = now
            of = "" if self._total is None else f" of {self._total:,}"
            note(" ".join(filter(None, [f"{self._label}: {done:,}{of}", self._to_go(now), detail])))

    def _to_go(self, now: float) -> str:
        fresh = self._done - self._first
        if self._total is None or fresh <= 0:
            return ""
        return f"({duration((now - self._started) / fresh * (self._total - self._done))} to go)"

    def close(self) -> None:
        if self._bar:
            self._bar.stop()


@contextmanager
def progress_bar(total: int | None, label: str) -> Iterator[Callable[[int], None]]:
    """Give a function that advances the progress by so many items."""
    line, done = ProgressLine(label, total), 0

    def advance(items: int) -> None:
        nonlocal done
        done += items
        line.update(done)

    try:
        yield advance
    finally:
        line.close()


def duration(seconds: float) -> str:
    """`12s`, `3m 20s`, `2h 05m`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
