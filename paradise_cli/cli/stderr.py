"""stderr, whose reader may go away: what is said there is never worth a result."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from typing import IO, Any


@contextmanager
def lasting_stderr() -> Iterator[None]:
    """Within the body a stderr that is closed, full or no longer read is silent, and no error."""
    # A shell may have closed it: print would then take stdout, and the next file that is opened
    # would take its number, for libraries to write their warnings into.
    if sys.stderr is None:
        with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stderr(nowhere):
            yield
        return
    lasting: Any = _Lasting(sys.stderr)
    with redirect_stderr(lasting):
        yield


class _Lasting:
    """A stream that goes on in silence once it cannot be written."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with self._silent():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._silent():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextmanager
    def _silent(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            # What waits to be written would fail again, at the interpreter's end at the latest.
            with suppress(OSError):  # a stream of a test or a notebook has no descriptor
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._stream.fileno())
                os.close(nowhere)
