"""The only door to the disk for weights and state: whole files or none, never a pickle."""

import hashlib
import json
import os
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from paradise_cli.core.errors import ParadiseError

METADATA_KEY = "paradise"  # one key: safetensors writes several in random order


@contextmanager
def publish(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success fsync and rename it there, else remove it.

    Raises ParadiseError when the folder cannot be written or the disk is full; `path` is then as it
    was.
    """
    temporary = _temporary(path)
    try:
        yield temporary
        os.chmod(temporary, 0o666 & ~_umask())
        _fsync(temporary)
        os.replace(temporary, path)
        _fsync(path.parent)
    except OSError as error:
        raise ParadiseError(
            f"cannot write {path}: {error.strerror or error}; what was there before is untouched"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def require_writable(path: Path) -> None:
    """Raise before long work the ParadiseError that `publish` would raise after it."""
    _temporary(path).unlink()


def _temporary(path: Path) -> Path:
    """A new empty file beside `path`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise ParadiseError(
            f"cannot write {path}: {error.strerror}; choose another place or mend its permissions"
        ) from error
    return Path(name)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


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
        file.write(json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def save_tensors(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, Any]) -> None:
    """Write tensors and JSON metadata as one safetensors file; equal content gives equal bytes."""
    text = json.dumps(metadata, sort_keys=True)
    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with publish(path) as temporary:
        try:
            save_file(ready, temporary, {METADATA_KEY: text})
        except (
            SafetensorError
        ) as error:  # the library hides the operating system's error in its text
            raise OSError(str(error)) from error


def load_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors and metadata of a safetensors file written by `save_tensors`.

    Raises ParadiseError for a missing, damaged or foreign file.
    """
    metadata = load_metadata(path)
    return read_tensors(path)[0], metadata


def read_tensors(
    path: Path, wanted: Collection[str] | None = None
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Tensors of any safetensors file, those wanted or all, and all names; errors as
    `load_tensors`.
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
    metadata: dict[str, Any] = json.loads(entries[METADATA_KEY])
    return metadata


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, "pt") as file:
            yield file
    except FileNotFoundError as error:
        raise ParadiseError(f"no such file: {path}") from error
    except (SafetensorError, OSError) as error:
        raise ParadiseError(
            f"{path} is not a readable safetensors file ({error}); it is damaged, cut short or of"
            " another"
            " kind (pickled weights are never opened): restore it or train again"
        ) from error


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
