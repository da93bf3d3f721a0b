"""Results as lines of JSON, each on the disk as soon as it is known, so that work can go on."""

import errno
import hashlib
import json
import math
import os
from collections.abc import Collection, Mapping
from io import FileIO
from pathlib import Path
from typing import IO, Any

from paradise_cli.core.errors import ParadiseError, UsageError, printable
from paradise_cli.core.locks import take
from paradise_cli.core.storage import require_regular

_ROUNDING = 1e-3
_SEAL = "seal"
IMAGES = "images_sha256"
"""The key of a header that tells images and their labels from others."""
_FOREIGN = "{} was not made by this command: choose another --out, or move it away"
_NAMES = {IMAGES: "images or labels", "code": "code of the classifier"}


class Journal:
    """Entries in `<name>.jsonl` of a folder, and in `entries`, in the order they were added.

    The first line is the `header`: what must be the same for the entries to count, but for keys
    that are `retired`, which older versions wrote. `what` names the work in messages. A line that
    was cut off is forgotten, so whenever the process dies, what the file says is true. Raises
    ParadiseError where it is of other work, in use, damaged or not writable.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        header: Mapping[str, Any],
        what: str,
        retired: Collection[str] = (),
    ) -> None:
        self._folder, self._path = folder, folder / f"{name}.jsonl"
        self.entries: list[dict[str, Any]] = []
        require_regular(self._path)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Unbuffered: what is written has left this process when the call returns.
            self._file = self._path.open("ab+", buffering=0)
        except OSError as error:
            raise ParadiseError(
                f"cannot write {folder}: {error.strerror}; choose another place"
            ) from error
        try:
            lock(self._file, folder, what)
            self._read(header, what, retired)
        except BaseException:
            self.close()
            raise

    def add(self, entry: dict[str, Any]) -> None:
        """Append an entry, which is on the disk afterwards."""
        append(self._file, self._folder, sealed(entry, len(self.entries) + 2))
        os.fsync(self._file.fileno())
        self.entries.append(entry)

    def refuse(self, entry: int) -> ParadiseError:
        """What to raise for an entry, by its number from 0 on, that is none of this work."""
        return ParadiseError(damaged(self._path, entry + 2))

    def close(self) -> None:
        """Let others have the file."""
        self._file.close()

    def _read(self, header: Mapping[str, Any], what: str, retired: Collection[str]) -> None:
        require_torn(self._path)
        lines = whole_lines(self._path)
        if lines:
            found = parsed(self._path, 1, lines[0])
            found = {key: value for key, value in found.items() if key not in retired}
            compare(found, header, self._folder, what)
            numbered = enumerate(lines[1:], start=2)
            self.entries = [unsealed(self._path, number, line) for number, line in numbered]
        # Only what is ours is mended.
        os.ftruncate(self._file.fileno(), sum(len(line) + 1 for line in lines))
        if not lines:
            append(self._file, self._folder, json.dumps(dict(header)).encode() + b"\n")


def discard(folder: Path, name: str, what: str, keys: Collection[str]) -> None:
    """Remove a journal, if there is one whose header has these keys; raises ParadiseError where it
    is in use or of other work.
    """
    path = folder / f"{name}.jsonl"
    require_regular(path)
    if not path.exists():
        return
    try:
        require_header(path, keys)
        with path.open("ab") as file:
            lock(file, folder, what)
        path.unlink()
    except OSError as error:
        raise ParadiseError(
            f"cannot clear {folder}: {error.strerror}; choose another place"
        ) from error


def require_header(path: Path, keys: Collection[str]) -> None:
    """Raise UsageError for a file that does not begin with a header that has these keys."""
    require_torn(path)
    lines = whole_lines(path)
    if lines and not set(keys) <= (_object(lines[0]) or {}).keys():
        raise UsageError(_FOREIGN.format(path))


def require_torn(path: Path) -> None:
    """Raise UsageError for a file without a whole line that is no header either of which a killed
    process wrote a part: that would be cut off as one.
    """
    content = path.read_bytes()
    if b"\n" in content:
        return
    if content[:2] not in (b"", b"{", b'{"') or _object(content) is not None:
        raise UsageError(_FOREIGN.format(path))


def lock(file: IO[bytes], folder: Path, what: str) -> None:
    """Keep others from the file until it is closed; raises ParadiseError where they have it."""
    take(file, f"{folder} is in use by another {what}: wait for it, or choose another")


def append(file: FileIO, folder: Path, content: bytes) -> None:
    """Write all of it at the end of an unbuffered file, or raise ParadiseError."""
    try:
        # A full disk may take a part, and say so by the number of bytes alone.
        if file.write(content) < len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise ParadiseError(
            f"cannot write {folder}: {error.strerror}; what was measured before is kept"
        ) from error


def whole_lines(path: Path) -> list[bytes]:
    """Lines with an end; what follows the last of them was cut off, or is being written."""
    return path.read_bytes().split(b"\n")[:-1]


def sealed(entry: Mapping[str, Any], number: int) -> bytes:
    """The line of that number that holds the entry, with a digest of both."""
    return json.dumps({**entry, _SEAL: _seal(entry, number)}).encode() + b"\n"


def unsealed(path: Path, number: int, line: bytes) -> dict[str, Any]:
    """The entry of a line; raises ParadiseError for another than `sealed` made of that number."""
    entry = parsed(path, number, line)
    # Older versions sealed nothing: their lines are taken as they are.
    seal = entry.pop(_SEAL, None)
    if seal is not None and seal != _seal(entry, number):
        raise ParadiseError(damaged(path, number))
    return entry


def parsed(path: Path, number: int, line: bytes) -> dict[str, Any]:
    """The object that a line holds; raises ParadiseError where it holds none."""
    found = _object(line)
    if found is None:
        raise ParadiseError(damaged(path, number))
    return found


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _seal(entry: Mapping[str, Any], number: int) -> str:
    """What tells an entry from another, and from itself at another place."""
    return hashlib.sha256(json.dumps([number, dict(entry)]).encode()).hexdigest()[:16]


def damaged(path: Path, number: int) -> str:
    """What is said of a line that cannot be read."""
    # Whose a file is stands in its first line.
    remedy = "move it away" if number == 1 else "begin again in this one (--fresh)"
    return f"{path} is damaged in line {number}: choose another folder, or {remedy}"


def compare(found: Mapping[str, Any], header: Mapping[str, Any], folder: Path, what: str) -> None:
    """Raise UsageError where a header is of other work; numbers that are no integers may differ by
    0.001.
    """
    # Through JSON, as theirs went: tuples become lists there, and numbers the nearest double.
    ours = json.loads(json.dumps(dict(header)))
    other = {key for key in {**found, **ours} if not _alike(found.get(key), ours.get(key))}
    # A classifier is known by its answers, which are others on other images.
    if IMAGES in other:
        other.discard("classifier")
    if other:
        named = ", ".join(_difference(key, found.get(key), ours.get(key)) for key in sorted(other))
        raise UsageError(
            f"{folder} holds another {what}, with other {printable(named)}: repeat its"
            " settings to go on with it, choose another folder (--out), or begin again (--fresh)"
        )


def _difference(key: str, before: Any, now: Any) -> str:
    """`seed (0, now 1)`; of digests and lists, which tell nobody anything, the key alone."""
    if key in _NAMES:
        return _NAMES[key]
    told = ["none" if each is None else str(each) for each in (before, now)]
    plain = not isinstance(before, list | dict) and not isinstance(now, list | dict)
    return f"{key} ({told[0]}, now {told[1]})" if plain and len("".join(told)) < 60 else key


def _alike(ours: Any, theirs: Any) -> bool:
    """Whether two JSON values are the same but for rounding."""
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(_alike, ours, theirs))
    if isinstance(ours, float) and isinstance(theirs, float):
        return math.isclose(ours, theirs, rel_tol=_ROUNDING, abs_tol=_ROUNDING)
    return bool(ours == theirs)
