"""Folders that one process at a time works in."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

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
        take(
            handle,
            f"another {work} is running in {folder}; wait for it, stop it, or choose another --out",
        )
        yield
    finally:
        os.close(handle)


def take(file: int | IO[bytes], taken: str) -> None:
    """Hold the lock on an open file until it is closed; raises Busy, which says `taken`, where
    somebody else does.
    """
    # A lock of the system, not a file that exists: it cannot outlive a killed process.
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise Busy(taken) from error
