"""Files that are not finished: each in a locked folder of its own, swept out once nobody writes."""

import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

NAME_KEPT = 40  # characters of a file's name in its folder's, which must fit into 255 bytes
_OURS = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")
_swept = set[Path]()


@contextmanager
def unfinished(target: Path, mode: int) -> Iterator[Path]:
    """A new empty file on the disk of `target`, with this mode; it is gone after the body.

    What killed processes left unfinished beside `target` is removed first.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    sweep_out(target.parent)
    # A folder, as some libraries put a file of their own, without a lock, in a file's place.
    folder, lock = _locked(target)
    try:
        content = folder / "content"
        os.close(os.open(content, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
        yield content
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


@contextmanager
def no_empty_folders(path: Path) -> Iterator[None]:
    """Run the body; folders on the way to `path` that it made and left empty do not stay."""
    new = [folder for folder in path.parents if not folder.exists()]
    try:
        yield
    finally:
        with suppress(OSError):  # that this one is not empty, mostly
            for folder in new:
                folder.rmdir()


def _locked(target: Path) -> tuple[Path, int]:
    """A new folder beside `target`, and the descriptor that holds its lock."""
    while True:
        folder = target.with_name(f".{target.name[:NAME_KEPT]}.{secrets.token_hex(4)}.tmp")
        folder.mkdir(mode=0o700)
        # Another process may sweep it out until it is locked.
        with suppress(FileNotFoundError):
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            _lock(lock, fcntl.LOCK_EX)
            if folder.exists():
                return folder, lock
            os.close(lock)


def sweep_out(parent: Path, *, again: bool = False) -> None:
    """Remove the unfinished files in a folder that no process holds; there may be no such folder.

    Whoever writes a file there does so first; a folder of the cache may be read alone. A process
    does it once, or `again` where others write there meanwhile.
    """
    # A folder may get a hundred thousand files, and each would look through all of them.
    if parent in _swept and not again:
        return
    _swept.add(parent)
    # Some folders may be written into, and not looked into; some are not there, or no folders.
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        for entry in list(os.scandir(parent)):
            if _OURS.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                with suppress(OSError):  # somebody else's, or swept out just now
                    _remove(Path(entry.path))


def _remove(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        # A lock of the system, which even a killed process frees, and none that runs.
        if _lock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB):
            shutil.rmtree(folder)
    finally:
        os.close(handle)


def _lock(handle: int, how: int) -> bool:
    """Whether the lock is ours; where a file system has none, it is nobody's."""
    try:
        fcntl.flock(handle, how)
    except OSError:
        return False
    return True
