"""Folders that one process at a time works in."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from paradise_cli.core.errors import ParadiseError


class Busy(ParadiseError):
    """Another process works there."""


@contextmanager
def locked(folder: Path, kind: str, work: str) -> Iterator[None]:
    """Hold the operating system's lock on a folder, which even a killed process frees.

    `kind` and `work` say of which kind the folder is and what is done there. Raises Busy where
    another process holds the lock, ParadiseError where the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise ParadiseError(
            f"cannot write the {kind} folder {folder}: {error.strerror}; choose another with --out"
        ) from error
    try:
        # A lock of the system, not a file that exists: it cannot outlive a killed process.
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Busy(
                f"another {work} is running in {folder}; wait for it, stop it, or choose another"
                " --out"
            ) from error
        yield
    finally:
        os.close(handle)
