"""A result replaces another only where the same command wrote that one, or with --overwrite.

The origin of a result is kept beside it, in a hidden file: an .npy or .csv has no room for it.
"""

import glob
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from itertools import takewhile
from pathlib import Path
from typing import Any

from paradise_cli.core.errors import UsageError
from paradise_cli.core.own_streams import is_own_stream
from paradise_cli.core.storage import read_object, write_json
from paradise_cli.core.temporary import no_empty_folders

EMBEDDINGS = (".npy", ".npz", ".parquet", ".safetensors")
"""Means alone, or, in the others, all that is known of each posterior."""
PREDICTIONS = (".csv", ".json")
"""The forms of a table of classes; these lists are known before torch is loaded."""
REMEDY = "choose another --out, or add --overwrite"
"""What to do where another result stands."""
# Other endings of a name, as that of `alpha-0.1`, say nothing of what is in a file.
_TELLING = frozenset(
    ".bmp .csv .gif .gz .html .jpeg .jpg .json .jsonl .md .npy .npz .onnx .parquet .pdf .png .pt"
    " .pt2 .pth .safetensors .svg .tar .tif .tiff .toml .tsv .txt .webp .yaml .yml .zip".split()
)


def check_suffix(
    path: Path,
    kinds: Sequence[str] = (),
    option: str = "--out",
    *,
    chooses: bool = False,
    or_folder: bool = False,
) -> None:
    """Raise UsageError for an output whose name says that it is of another kind than `kinds`.

    Without any, or with `or_folder`, a folder is meant. Where the ending `chooses` what is written,
    there must be one.
    """
    # Before the work: it would be lost when its result cannot be written.
    if kinds and path.is_dir() and not or_folder:
        raise UsageError(f"{option} {path} is a folder: name a file in it")
    suffix = path.suffix if chooses else path.suffix.lower()
    if suffix in kinds or not (chooses or suffix in _TELLING):
        return
    if kinds:
        raise UsageError(f"{option} {path}: end it in {' or '.join(kinds)}")
    # Where a folder of that name stands, it was meant.
    if not path.is_dir():
        raise UsageError(f"{option} {path}: a folder is written; leave out {path.suffix}")


def refuse_among(out: Path, images: Iterable[str], option: str = "--out") -> None:
    """Raise UsageError where pictures at `out` would stand among the images they are made of.

    `images` are folders, files and patterns; whatever reads them again would take those along.
    """
    target = Path(os.path.realpath(out))
    for name in images:
        if _among(target, Path(os.path.expanduser(name))):
            raise UsageError(
                f"{option} {out}: the pictures would stand among the images of {name}; choose"
                " another place"
            )


def _among(target: Path, given: Path) -> bool:
    """Whether a file or folder would be read with the folder, file or pattern that was given."""
    parts = given.absolute().parts
    fixed = Path(os.path.realpath(Path(*takewhile(lambda part: not glob.has_magic(part), parts))))
    if not glob.has_magic(str(given)):
        if fixed.is_dir():
            return target.is_relative_to(fixed)
        # The name of a data set is no file.
        return fixed.exists() and target in (fixed, fixed.parent)
    # What a pattern of folders matches lies anywhere below what stands before it.
    if glob.has_magic(str(given.parent)) or "**" in parts:
        return target.is_relative_to(fixed)
    return target == fixed or (target.parent == fixed and fnmatch(target.name, given.name))


def refuse_foreign(folder: Path, files: Iterable[str], *own: str) -> None:
    """Raise UsageError where `files`, patterns of what a command writes into a folder, stand in one
    that it has not worked in: there is nothing like `own`, which it leaves there from the start.
    """
    if any(any(folder.glob(pattern)) for pattern in own):
        return
    there = sorted(path for pattern in files for path in folder.glob(pattern))
    if there:
        raise UsageError(
            f"{there[0]} would be replaced, which this command did not make: choose another --out,"
            " or move it away"
        )


@contextmanager
def replacing(
    path: Path | None,
    origin: Mapping[str, Any],
    *,
    overwrite: bool = False,
    part: str = "",
    others: Sequence[str] = (),
    remedy: str = REMEDY,
) -> Iterator[None]:
    """Run the body, which writes a result to `path`, and remember that this command made it.

    `origin` says what decides the result, in JSON values. `path` may be a folder, known by the
    file `part` in it, with `others` beside it (patterns), or None where nothing is written. Raises
    UsageError, which ends in the `remedy`, before the body where another result stands there; what
    is no regular file, as a pipe, and this process's own stdout are written into.
    """
    if path is None or is_own_stream(path):
        yield
        return
    written = path / part if part else path
    stands = written.is_file() or any(any(path.glob(pattern)) for pattern in others)
    # Asked before the body: hours of work must not end in a refusal.
    if stands and not overwrite:
        _refuse_another(path, written, origin, remedy)
    record = _record(path)
    known, before = read_object(record), _stamp(written)
    with no_empty_folders(record):
        # Ahead of the result: whoever is killed between the two has left what this command made.
        if not path.exists() or path.is_dir() or path.is_file():
            write_json(record, {**(known or {}), "begun": origin})
        try:
            yield
        finally:
            # A body that fails may have written first, as where nobody reads what it says.
            if (stamp := _stamp(written)) == before:
                _restore(record, known)
            else:
                write_json(record, {"origin": origin, "file": stamp})


def origin_at(path: Path) -> dict[str, Any] | None:
    """What decided the result at `path`; None where somebody else put it there, or nobody knows."""
    found = read_object(_record(path)) or {}
    origin = found.get("origin")
    stamp = _stamp(path)
    known = isinstance(origin, dict) and stamp is not None and found.get("file") == stamp
    return origin if known else None


def _restore(record: Path, known: dict[str, Any] | None) -> None:
    if known:
        write_json(record, known)
    else:
        record.unlink(missing_ok=True)


def place(name: str) -> str:
    """A name as it is compared: the whole path of what exists, or of a pattern, else itself."""
    if os.path.exists(name) or glob.has_magic(name):
        return os.path.realpath(name)
    return name


def _refuse_another(path: Path, written: Path, origin: Mapping[str, Any], remedy: str) -> None:
    """Raise where the result at `path` was made otherwise, or nobody knows how."""
    wanted = json.loads(json.dumps(origin))  # tuples come back as lists
    found = read_object(_record(path)) or {}
    known, stamp = found.get("origin"), found.get("file")
    if found.get("begun") == wanted or (known == wanted and stamp == _stamp(written)):
        return
    known = known if isinstance(known, dict) else {}
    differing = [key for key in wanted | known if known.get(key) != wanted.get(key)]
    if known and stamp == _stamp(written) and differing:
        reason = "made with other " + " and ".join(
            f"{key} ({_shown(key, known)}, now {_shown(key, wanted)})" for key in differing
        )
    else:
        reason = "which this command did not make"
    raise UsageError(f"{path} holds another result, {reason}: {remedy}")


def _shown(key: str, origin: Mapping[str, Any]) -> str:
    value = origin.get(key)
    # A command that judges a model takes the data of its recipe where none are named.
    if key == "data" and key in origin and value is None:
        return "those of the recipe"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _record(path: Path) -> Path:
    return path.parent / f".{path.name}.json"


def _stamp(path: Path) -> list[int] | None:
    """Size and time of change: a file that somebody else put there since has another.

    None where there is no regular file.
    """
    if not path.is_file():
        return None
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]
