"""Folders that one process at a time works in."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.temporary import sweep_out

_LOCK = ".lock"


class Busy(ParadiseError):
    """Another process works there."""


def in_use(work: str, folder: Path) -> str:
    """The message of one that finds a folder taken."""
    return f"another {work} is running in {folder}; wait for it, stop it, or choose another --out"


@contextmanager
def locked(folder: Path, kind: str, work: str, *, shared: bool = False) -> Iterator[None]:
    """Hold the operating system's lock on a folder, which even a killed process frees.

    What killed processes left unfinished there is removed: work that is done writes nothing more.
    Those that hold it `shared` hold it together, and remove nothing. `kind` and `work` say of which
    kind the folder is and what is done there. A new folder in which nothing was kept goes again
    with an error. Raises Busy where another process holds the lock, ParadiseError where the folder
    cannot be written.
    """
    busy = in_use(work, folder)
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except FileNotFoundError as error:  # put away by another process since it was made
        raise Busy(busy) from error
    except OSError as error:
        raise ParadiseError(
            f"cannot write the {kind} folder {folder}: {error.strerror}; choose another with --out"
        ) from error
    try:
        take(handle, busy, shared=shared)
        # Put away since it was opened: who comes next would lock another file of the same name.
        if os.fstat(handle).st_nlink == 0:
            raise Busy(busy)
        if shared:
            yield
            return
        sweep_out(folder)
        try:
            yield
        except BaseException:
            # Only here, where the lock is ours: nobody else has begun there.
            with suppress(OSError):
                if new and os.listdir(folder) == [_LOCK]:
                    (folder / _LOCK).unlink()
                    folder.rmdir()
            raise
    finally:
        os.close(handle)


@contextmanager
def waited_for(path: Path) -> Iterator[None]:
    """Hold the lock on a file that is there for the moment of a change, after whoever holds it.

    Raises ParadiseError where the file cannot be opened for writing.
    """
    try:
        handle = os.open(path, os.O_RDWR)
    except OSError as error:
        raise ParadiseError(f"cannot write {path}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            raise ParadiseError(f"{path}: no locks on this disk: {error.strerror}") from error
        yield
    finally:
        os.close(handle)


class Claims:
    """Numbers that one process at a time holds: locks on the bytes of a file.

    Network file systems know them too, and even a killed process frees its own. Raises
    ParadiseError where the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab")
        except OSError as error:
            raise ParadiseError(f"cannot write {path}: {error.strerror}") from error

    def __enter__(self) -> "Claims":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    @contextmanager
    def taken(self, number: int) -> Iterator[bool]:
        """Hold a number for the body, where nobody else does, and say whether."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
        except (BlockingIOError, PermissionError):  # either says that another process holds it
            yield False
            return
        except OSError as error:
            raise ParadiseError(f"{self.path}: no locks on this disk: {error.strerror}") from error
        try:
            yield True
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, number)


def take(file: int | IO[bytes], taken: str, *, shared: bool = False) -> None:
    """Hold the lock on an open file until it is closed, or a `shared` one with others; raises Busy,
    which says `taken`, where somebody else does.
    """
    # A lock of the system, not a file that exists: it cannot outlive a killed process.
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        raise Busy(taken) from error
