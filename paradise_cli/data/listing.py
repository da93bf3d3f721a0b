"""Which image files there are: one walk for folders and patterns, and which of them are read."""

import fnmatch
import glob
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.units import counted

# By suffix: opening each file of a large folder to see what it is would take longer than reading.
SUFFIXES = tuple(
    ".avif .bmp .gif .jfif .jp2 .jpe .jpeg .jpg .pbm .pgm .png .pnm .ppm .tga .tif .tiff"
    " .webp".split()
)
_SYSTEM = {"__MACOSX", "__pycache__", "@eaDir", "$RECYCLE.BIN", "lost+found"}
LARGEST_FILE = 2**29
"""Bytes: more than the largest picture that is safe to open takes, at 16 bits a channel."""


def is_left_out(name: str) -> bool:
    """Whether a folder is hidden, or one that programs leave behind: of thumbnails, of waste."""
    return name.startswith(".") or name in _SYSTEM


def image_ids(folder: Path) -> list[str]:
    """Paths of all images in a folder and below, relative to it, with `/`, sorted.

    Hidden files and folders of the system are skipped. A folder below that cannot be read is listed
    as one image, which cannot be read either, and ends in `/`. Raises UsageError for a missing
    folder, ParadiseError for one without images.
    """
    if not folder.is_dir():
        kind = "is a file, not a folder" if folder.exists() else "no such folder"
        raise UsageError(f"{folder}: {kind}; name a folder of images")
    found: list[str] = []
    # Files that are no images: an empty answer is easier to understand with them.
    others, hidden, packed = 0, False, False
    for prefix, folders, files in _walk(folder):
        hidden |= any(name.startswith(".") for name in (*folders, *files))
        packed |= any(name.lower().endswith(".tar") for name in files)
        shown = [name for name in files if not name.startswith(".")]
        images = [name for name in shown if name.lower().endswith(SUFFIXES) or not name]
        found += [prefix + name for name in images]
        others += len(shown) - len(images)
    if not found:
        raise ParadiseError(
            f"{folder}: no image among its {counted(others, 'file')}"
            f"{', hidden ones left out' if hidden else ''}; readable suffixes:"
            f" {' '.join(SUFFIXES)}"
            f"{'; images in tar files are the data set tar_shards' if packed else ''}"
        )
    return sorted(found)


def _walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Where each folder lies below this one, "" or with `/` at its end, its folders and files.

    Each folder is entered once: by a link only where it lies nowhere else, so that of two paths
    to an image the one is taken that it has without links. One that cannot be read has one file,
    "".
    """
    lost: list[OSError] = []
    visited: set[str] = set()
    begin = [os.fspath(folder)]
    for start in begin:
        for place, folders, files in os.walk(start, onerror=lost.append):
            real = os.path.realpath(place)
            if real in visited:  # a link to a folder above would never end
                folders.clear()
                continue
            visited.add(real)
            yield _prefix(place, folder), [*folders], files
            # In place: os.walk goes on into what is left in its own list, but into no link.
            folders[:] = sorted(name for name in folders if not is_left_out(name))
            paths = [os.path.join(place, name) for name in folders]
            begin += filter(os.path.islink, paths)
    for error in lost:
        if Path(error.filename) == folder:
            raise ParadiseError(f"{folder}: {error.strerror}")
        yield _prefix(error.filename, folder), [], [""]


def _prefix(place: str, folder: Path) -> str:
    inside = os.path.relpath(place, folder).replace(os.sep, "/")
    return "" if inside == "." else f"{inside}/"


def list_images(folder: Path) -> list[Path]:
    """All images in a folder and below, in sorted order; errors as `image_ids`."""
    return [folder / name for name in image_ids(folder)]


def matching(pattern: str) -> list[Path]:
    """The files that a pattern matches, sorted; with `**`, the images in folders of any depth.

    A home folder may be `~`. Raises ParadiseError where `**` has to begin in a folder without
    images.
    """
    whole = Path(os.path.expanduser(pattern))
    if "**" not in whole.parts:
        return sorted(Path(name) for name in glob.glob(str(whole)) if not os.path.isdir(name))
    # By the walk of a folder: that of `glob` need not end where links lead back.
    first = next(i for i, part in enumerate(whole.parts) if glob.has_magic(part))
    folder, rest = Path(*whole.parts[:first]), whole.parts[first:]
    return [folder / name for name in image_ids(folder) if _fits(name.split("/"), rest)]


def _fits(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a path matches a pattern part by part, of which `**` is any number."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_fits(parts[skipped:], pattern[1:]) for skipped in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatch(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:])


def check_readable(path: Path) -> None:
    """Raise OSError or ValueError for what is no regular file, or too large to be read whole."""
    found = path.stat()
    if stat.S_ISDIR(found.st_mode):
        raise ValueError("a folder that cannot be read")
    # A pipe would be waited for without end.
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("no regular file")
    check_size(found.st_size)


def check_size(size: int) -> None:
    """Raise ValueError for an image file of too many bytes to be read whole."""
    if size > LARGEST_FILE:
        raise ValueError(f"{size:,} bytes; images of up to {LARGEST_FILE:,} are read")
