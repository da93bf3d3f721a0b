"""The only door to the disk for weights and state: whole files or none, never a pickle."""

import csv
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from paradise_cli.core.errors import ParadiseError, printable
from paradise_cli.core.os_errors import unhidden
from paradise_cli.core.own_streams import own_stream
from paradise_cli.core.temporary import no_empty_folders, unfinished

if TYPE_CHECKING:
    import torch

DIGEST = "sha256"  # where metadata keep the `content_digest` of the rest
METADATA_KEY = "paradise"  # one key: safetensors writes several in random order
MOST_METADATA = 4 * 2**20
"""Characters of metadata that are written and read: a hundred thousand class names, twice."""
DEEPEST_METADATA = 40  # levels; more than that overflow the stack of whoever walks through them


@contextmanager
def publish(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; where the body succeeds, its content goes to `path`.

    A regular file appears whole or not at all: written beside it, synced, renamed. It keeps its
    mode and owner, a new one gets the umask's mode, a symbolic link is followed. Devices, pipes
    and this process's own stdout are written into. Raises ParadiseError for a folder, a place that
    cannot be written and a full disk; a regular file is then as it was.
    """
    before = _existing(path)
    if before is not None and not _replaceable(before):
        with _poured(path, before) as temporary:
            yield temporary
        return
    target = _target(path)
    try:
        with no_empty_folders(target), _temporary(path, target, before) as temporary:
            like = before or temporary.stat()
            yield temporary
            _finish(temporary, target, like)
    except OSError as error:
        raise ParadiseError(
            f"cannot write {path}: {error.strerror or error}; what was there before is untouched"
        ) from error


@contextmanager
def publish_together(last: Path, *others: Path, drawn: Sequence[Path] = ()) -> Iterator[list[Path]]:
    """Like `publish`, of files that are one result; gives a temporary path for each.

    `last` is away while the others change: where it stands, it belongs to them. `drawn` are
    pictures of an older result, which go with it.
    """
    with ExitStack() as published:
        # Left in the opposite order: `last` is renamed last.
        temporaries = [published.enter_context(publish(path)) for path in (last, *others)]
        yield temporaries
        for temporary in temporaries:
            _fsync(temporary)  # a full disk shows before anything is changed
        for path in (last, *drawn):
            withdraw(path)


def withdraw(path: Path) -> None:
    """Remove a regular file, which nobody shall take for a part of what is being written."""
    if path.is_file() and own_stream(path.stat()) is None:
        target = Path(os.path.realpath(path))
        target.unlink()
        _fsync(target.parent)


def _finish(temporary: Path, target: Path, like: os.stat_result) -> None:
    """Put a written file in the place of `target`, with the owner and mode of `like`."""
    _fsync(temporary)
    with suppress(PermissionError):  # only root may give a file to somebody else
        os.chown(temporary, like.st_uid, like.st_gid)
    # Some libraries put a file of their own here: that of safetensors is always 0600.
    os.chmod(temporary, stat.S_IMODE(like.st_mode))
    os.replace(temporary, target)
    _fsync(target.parent)


def require_writable(path: Path) -> None:
    """Raise before long work the ParadiseError that `publish` would raise after it."""
    before = _existing(path)
    if before is None or _replaceable(before):
        with _temporary(path, _target(path), before):
            pass
    # A pipe is not opened to try it: that waits for a reader, and ends what the reader sees.
    elif not os.access(path, os.W_OK):
        raise ParadiseError(f"cannot write {path}: its permissions do not allow it")


def _target(path: Path) -> Path:
    """Where a file is written: renaming onto a link would replace the link itself."""
    target = Path(os.path.realpath(path))
    # Folders are made where the user names them, not where a link to nothing leads.
    if path.is_symlink() and not target.parent.is_dir():
        raise ParadiseError(
            f"cannot write {path}: it is a link to {target}, whose folder is not there; make the"
            " folder, or remove the link"
        )
    return target


def _existing(path: Path) -> os.stat_result | None:
    """What stands at a path, links followed; None for nothing, or a link to nothing yet."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None  # making its folder says what is wrong, if anything
    except OSError as error:
        raise ParadiseError(f"cannot write {path}: {error.strerror or error}") from error
    if stat.S_ISDIR(found.st_mode):
        raise ParadiseError(f"cannot write {path}: it is a folder; name a file in it")
    return found


def _replaceable(found: os.stat_result) -> bool:
    """Whether a new file may take the place of what stands there."""
    return stat.S_ISREG(found.st_mode) and own_stream(found) is None


@contextmanager
def _poured(path: Path, found: os.stat_result) -> Iterator[Path]:
    """A temporary path whose content is written into what stands at `path`, which stays."""
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder) / "content"
        temporary.touch()
        try:
            yield temporary
            stream = own_stream(found)
            if stream is None:
                descriptor = os.open(path, os.O_WRONLY)
            else:
                stream.flush()
                descriptor = os.dup(stream.fileno())  # shares the place that the stream has reached
            with open(descriptor, "wb") as target, temporary.open("rb") as content:
                shutil.copyfileobj(content, target)
        except OSError as error:
            raise ParadiseError(f"cannot write {path}: {error.strerror or error}") from error


@contextmanager
def _temporary(path: Path, target: Path, before: os.stat_result | None) -> Iterator[Path]:
    """A new empty file beside `target`, which nobody may read that may not read `target`."""
    mode = 0o666 if before is None else 0o600 | stat.S_IMODE(before.st_mode) & 0o666
    with ExitStack() as kept:
        try:
            temporary = kept.enter_context(unfinished(target, mode))
        except OSError as error:
            raise ParadiseError(
                f"cannot write {path}: {error.strerror}; choose another place or mend its"
                " permissions"
            ) from error
        yield temporary


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def publish_text(path: Path) -> Iterator[IO[str]]:
    """Like `publish`, with the temporary file open for text."""
    with publish(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        yield file


def write_json(path: Path, value: Any) -> None:
    """Write JSON, sorted and indented, as a whole file or not at all."""
    with publish_text(path) as file:
        file.write(_json(value))


def read_object(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file of ours; None where there is none, or a damaged one."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n"


def write_numbers(
    document: Path, value: Any, table: Path, rows: Sequence[Mapping[str, Any]], picture: Path
) -> None:
    """Write a JSON document and the CSV table of its rows, as `publish_together`.

    A row may lack columns of others. A `picture` of an older document is removed.
    """
    with publish_together(document, table, drawn=[picture]) as (text, lines):
        with lines.open("w", encoding="utf-8", newline="") as file:
            columns = list(dict.fromkeys(key for row in rows for key in row))
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        with text.open("w", encoding="utf-8", newline="\n") as file:
            file.write(_json(value))


def save_tensors(path: Path, tensors: dict[str, "torch.Tensor"], metadata: dict[str, Any]) -> None:
    """Write tensors and JSON metadata as one safetensors file; equal content gives equal bytes."""
    from safetensors.torch import save_file

    text = json.dumps(metadata, sort_keys=True)
    if len(text) > MOST_METADATA:
        raise ParadiseError(f"cannot write {path}: {_too_much(text)}")
    # Copies: the format refuses two tensors in the same memory, as tied weights are.
    ready = {
        name: each.detach().to("cpu", copy=True).contiguous() for name, each in tensors.items()
    }
    with publish(path) as temporary, unhidden():
        save_file(ready, temporary, {METADATA_KEY: text})


def file_digest(path: Path) -> str:
    """The sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_digest(tensors: Mapping[str, "torch.Tensor"], metadata: Mapping[str, Any]) -> str:
    """Hex sha256 over the metadata and every tensor's name, type, shape and bytes, by name."""
    import torch

    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_tensors(path: Path) -> tuple[dict[str, "torch.Tensor"], dict[str, Any]]:
    """Tensors and metadata of a safetensors file written by `save_tensors`.

    Raises ParadiseError for a missing, damaged or foreign file.
    """
    metadata = load_metadata(path)
    return read_tensors(path)[0], metadata


def read_tensors(
    path: Path, wanted: Collection[str] | None = None
) -> tuple[dict[str, "torch.Tensor"], list[str]]:
    """The wanted tensors, or all, of any safetensors file, and all its names.

    Errors as `load_tensors`.
    """
    with _opened(path) as file:
        names = list(file.keys())
        kept = names if wanted is None else [name for name in names if name in wanted]
        return {name: file.get_tensor(name) for name in kept}, names


def load_metadata(path: Path) -> dict[str, Any]:
    """Metadata alone, without reading the tensors; errors as `load_tensors`."""
    with _opened(path) as file:
        entries = file.metadata() or {}
    if METADATA_KEY not in entries:
        raise ParadiseError(
            f"{path} holds tensors but no PARADISE metadata: it was not written by `paradise train`"
        )
    metadata = _parsed(path, entries[METADATA_KEY])
    if not isinstance(metadata, dict):
        raise ParadiseError(f"{path}: its metadata cannot be read: they are no mapping")
    return metadata


def _parsed(path: Path, text: str) -> Any:
    """Metadata of a file that anyone may have written: neither endless nor endlessly deep."""
    if len(text) > MOST_METADATA:
        raise ParadiseError(f"{path}: its metadata cannot be read: {_too_much(text)}")
    try:
        found = json.loads(text)
    # Also a number of thousands of digits is a ValueError.
    except (ValueError, RecursionError) as error:
        raise ParadiseError(f"{path}: its metadata cannot be read: {error}") from error
    if _deeper(found, DEEPEST_METADATA):
        raise ParadiseError(f"{path}: its metadata cannot be read: they are nested too deeply")
    return found


def _too_much(text: str) -> str:
    return f"{len(text):,} characters of metadata; at most {MOST_METADATA:,} are allowed"


def _deeper(value: Any, levels: int) -> bool:
    """Whether JSON values are nested deeper than this."""
    if not isinstance(value, dict | list):
        return False
    inside = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deeper(each, levels - 1) for each in inside)


def require_regular(path: Path) -> None:
    """Raise ParadiseError for a folder, a pipe or a device in place of a file, links followed.

    What is not there passes.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise ParadiseError(f"cannot read {path}: {error.strerror or error}") from error
    # To open a pipe is to wait for whoever writes into it, maybe for ever.
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise ParadiseError(f"{path} is {kind}, and no file: move it away or name another")


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    require_regular(path)
    try:
        # The library calls a file missing that may not be read.
        path.open("rb").close()
        with safe_open(path, "pt") as file:
            yield file
    except FileNotFoundError as error:
        raise ParadiseError(f"no such file: {path}") from error
    except PermissionError as error:
        raise ParadiseError(f"cannot read {path}: {error.strerror}") from error
    except (SafetensorError, OSError) as error:
        why = printable(str(error))
        raise ParadiseError(
            f"{path} is not a readable safetensors file ({why}): damaged, cut short or of another"
            " kind (pickled weights are never opened)"
        ) from error
