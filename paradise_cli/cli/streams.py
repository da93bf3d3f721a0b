"""stdout and stderr, whose readers may go away, and whose files may be full."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import IO, Any

from paradise_cli.core.errors import ParadiseError


class Unwritable(ParadiseError):
    """Text cannot be written to stdout."""


@contextmanager
def lasting_stderr() -> Iterator[None]:
    """Within the body a stderr that is closed, full or no longer read is silent, and no error:
    what is said there is never worth a result.
    """
    # A shell may have closed it: print would then take stdout, and the next file that is opened
    # would take its number, for libraries to write their warnings into.
    if sys.stderr is None:
        with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stderr(nowhere):
            yield
        return
    lasting: Any = _LastingStderr(sys.stderr)
    with redirect_stderr(lasting):
        yield


@contextmanager
def checked_stdout() -> Iterator["_CheckedStdout"]:
    """Within the body what cannot be written to stdout is an error, as where a shell closed it."""
    with ExitStack() as opened:
        # Open to be read only; as with stderr its number would be that of the next file.
        stream = sys.stdout or opened.enter_context(open(os.devnull, encoding="utf-8"))
        checked: Any = _CheckedStdout(stream)
        with redirect_stdout(checked):
            yield checked


class _Guarded:
    """A stream of which `_failed` says what follows where it cannot be written."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with self._watched():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._watched():
            self._stream.flush()

    def close(self) -> None:
        """It stays open: a user's module that closes what it prints to would close our results."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # What waits to be written would fail again, at the interpreter's end at the latest.
            with suppress(OSError):  # a stream of a test or a notebook has no descriptor
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._stream.fileno())
                os.close(nowhere)
            self._failed(error)

    def _failed(self, error: OSError) -> None:
        raise NotImplementedError


class _LastingStderr(_Guarded):
    """It goes on in silence."""

    def _failed(self, error: OSError) -> None:
        pass


class _CheckedStdout(_Guarded):
    """What cannot be written is a ParadiseError, as no other OSError tells its file.

    A pipe that its reader closed stays a BrokenPipeError, which ends without a word: `| head` has
    read enough.
    """

    def write(self, text: str) -> int:
        # Typer tries a stream with nothing, and would keep the failure to itself.
        return 0 if text == "" else super().write(text)

    def _failed(self, error: OSError) -> None:
        if error.errno == errno.EPIPE:
            raise error
        raise Unwritable(f"cannot write to stdout: {error.strerror or 'it is closed'}") from error
