"""Commands on a bad day: each ends in one message or as ever, and loses nothing."""

import ctypes
import os
import pwd
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.campaign.child import Outcome, run
from tests.campaign.kills import Killed, begun, keep_within, not_as_whole, unfinished

DISK = 200 * 2**20


@dataclass(frozen=True)
class Condition:
    """What a command meets: `begin(place)` is called in its process before it begins.

    Only `free` bytes are left on its disk, where they are given.
    """

    name: str
    begin: Callable[[Path], None] = lambda place: None
    free: int | None = None


def _read_only(place: Path) -> None:
    for path in (*place.rglob("*"), place):
        path.chmod(path.stat().st_mode & ~0o222)
    # Root may write anywhere until it gives up its capabilities (version 3, of no process's own).
    nothing = (ctypes.c_uint32 * 6)()
    ctypes.CDLL(None).capset((ctypes.c_uint32 * 2)(0x20080522, 0), nothing)


def _make_writable(place: Path) -> None:
    for path in (place, *place.rglob("*")):
        mode = path.stat().st_mode
        # Only where it is not: it would be another file for whoever looks at its time of change.
        if not mode & 0o200:
            path.chmod(mode | 0o200)


def _no_home(place: Path) -> None:
    for name in ("HOME", "XDG_CACHE_HOME", "PARADISE_CACHE", "PARADISE_DATA", "HF_HOME"):
        os.environ.pop(name, None)
    # As for the user of a container whom nobody entered anywhere.
    pwd.getpwuid = _unknown


def _unknown(user: int) -> pwd.struct_passwd:
    raise KeyError(user)


def _closed(stream: int, place: Path) -> None:
    os.close(stream)
    setattr(sys, ("stdin", "stdout", "stderr")[stream], None)


def _to_a_full_disk(place: Path) -> None:
    _redirect(os.open("/dev/full", os.O_WRONLY))


def _to_nobody(place: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    _redirect(write)


def _redirect(descriptor: int) -> None:
    os.dup2(descriptor, 1)
    sys.stdout = open(1, "w", closefd=False)


def _settings(place: Path, **variables: str) -> None:
    os.environ |= variables


CONDITIONS = [
    Condition("full disk", free=0),
    Condition("disk full after 64 KiB", free=2**16),
    Condition("disk full after 1 MiB", free=2**20),
    Condition("read-only", _read_only),
    Condition("no home", _no_home),
    Condition("no stdin", partial(_closed, 0)),
    Condition("no stdout", partial(_closed, 1)),
    Condition("no stderr", partial(_closed, 2)),
    Condition("stdout on a full disk", _to_a_full_disk),
    Condition("nobody reads stdout", _to_nobody),
    Condition("one column", partial(_settings, COLUMNS="1", TERM="dumb")),
    Condition("twenty columns", partial(_settings, COLUMNS="20", FORCE_COLOR="1")),
]

QUIET = ("no stderr", "nobody reads stdout")
"""No message can be seen, or none is wanted: `| head` ends a command as it ends others."""


def possible() -> list[Condition]:
    """Those that this user can bring about: only root has a disk of its own."""
    return [each for each in CONDITIONS if each.free is None or os.geteuid() == 0]


def bore(command: Killed, condition: Condition, base: Path, place: Path, whole: Path) -> str:
    """What is wrong of a command under a condition, and without it afterwards; "" for nothing."""
    with _disk(place, condition.free) as fill:
        begun(command, base, place)
        with fill:
            outcome = run(command.arguments, place, partial(_begin, condition, place))
        _make_writable(place)
        why = _judged(outcome, condition, command, place, whole)
        return why or not_as_whole(command, place, whole)


def _begin(condition: Condition, place: Path) -> None:
    keep_within(place)
    condition.begin(place)


def _judged(
    outcome: Outcome, condition: Condition, command: Killed, place: Path, whole: Path
) -> str:
    said = outcome.stderr
    if outcome.hung or "Traceback" in said or "fault of PARADISE" in said:
        return said[-300:] or "hangs"
    if outcome.code == 0:
        differing = [name for name in command.results if not _same(place / name, whole / name)]
        return f"exit code 0 without {', '.join(differing)}" if differing else unfinished(place)
    if outcome.code not in (1, 2):
        return f"exit code {outcome.code}"
    messages = len(re.findall("^error: ", said, re.MULTILINE | re.IGNORECASE))
    if messages != 1 and condition.name not in QUIET:
        return f"{messages} messages: {said[-300:]}"
    return unfinished(place)


def _same(one: Path, other: Path) -> bool:
    return one.is_file() and one.read_bytes() == other.read_bytes()


@contextmanager
def _disk(place: Path, free: int | None) -> Iterator[AbstractContextManager[None]]:
    """A disk of its own for a folder where one has to be full, and what fills it up."""
    if free is None:
        yield nullcontext()
        return
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(place)]
    subprocess.run(mount, check=True)
    try:
        yield _filled(place, free)
    finally:
        subprocess.run(["umount", str(place)], check=True)


@contextmanager
def _filled(place: Path, free: int) -> Iterator[None]:
    filler = place / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(place).free - free))
    yield
    filler.unlink()
