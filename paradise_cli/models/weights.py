"""A model as one file: its weights, the metadata that rebuild it, and a digest of both."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from paradise_cli.core.errors import ParadiseError, printable
from paradise_cli.core.storage import DIGEST, content_digest, load_tensors, save_tensors

FORMAT = 1

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def save_model(path: Path, model: nn.Module, metadata: Mapping[str, Any]) -> None:
    """Write a model's weights with `metadata` (recipe, data, provenance), format and digest."""
    save_weights(path, model.state_dict(), metadata)


def save_weights(path: Path, tensors: dict[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """`save_model` of weights that are in no model."""
    # Through JSON and back, so that the digest is of what a reader will see.
    full: dict[str, Any] = json.loads(json.dumps({**metadata, "format": FORMAT}))
    save_tensors(path, tensors, {**full, DIGEST: content_digest(tensors, full)})


def read_model(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and metadata of a file written by `save_model`, every bit of them verified.

    Raises ParadiseError for a missing, damaged or foreign file and for one of a newer format.
    """
    try:
        tensors, metadata = load_tensors(path)
    except ParadiseError as error:
        raise ParadiseError(f"{error}; restore it or train again") from error
    # Before the digest, which a checkpoint has as well.
    if "state" in metadata:
        raise ParadiseError(
            f"{path} is a training's checkpoint, not a model: name the run folder or its"
            " model.safetensors, or best.safetensors beside this file"
        )
    if DIGEST not in metadata:
        raise _damaged(path, "it carries no digest of its content")
    stored = metadata.pop(DIGEST)
    # A newer format may be digested in another way, so it is named before the digest is.
    version = metadata.get("format")
    if isinstance(version, int) and version > FORMAT:
        named = printable(str(version), 20)
        raise ParadiseError(
            f"{path} is of format {named}, and this version of PARADISE reads up to {FORMAT}:"
            " update paradise-cli"
        )
    if stored != content_digest(tensors, metadata):
        raise _damaged(path, "its content does not match its own digest")
    if version != FORMAT:
        named = printable(repr(version), 20)
        raise ParadiseError(f"{path} is of format {named}; this version reads format {FORMAT}")
    return tensors, metadata


def fill(model: nn.Module, tensors: Mapping[str, Tensor], source: Path) -> None:
    """Load weights into a model of the same architecture.

    Raises ParadiseError, and leaves the model as it was, where names or shapes differ or weights
    are no numbers.
    """
    require_same_shapes(model, tensors, source)
    own = model.state_dict()
    # As they will be: of 64 bits a number may be larger than any of 32.
    ready = {name: tensor.to(own[name].dtype) for name, tensor in tensors.items()}
    # Every verb would go on with them, and each would make another nonsense of it.
    if lost := not_finite(ready):
        raise ParadiseError(
            f"{source}: NaN or infinite weights in {lost}: its training went wrong; take"
            " other weights of the run, or train again"
        )
    model.load_state_dict(ready)


def require_same_shapes(model: nn.Module, tensors: Mapping[str, Tensor], source: Path) -> None:
    """Raise the ParadiseError of `fill`; the model may be on the meta device, without weights."""
    # Half precision is a way to store weights.
    wrong = mismatches(model.state_dict(), tensors, same_type=_same_kind)
    if wrong:
        raise ParadiseError(f"{source} holds the weights of another model: {wrong}")


def mismatches(
    own: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    same_type: Callable[[Tensor, Tensor], bool],
) -> str:
    """In what tensors differ from one's own by name, shape and type; empty where they do not."""
    # Everything that differs in one message, before a single weight is changed.
    both = [name for name in own if name in tensors]
    found = {
        "missing": [name for name in own if name not in tensors],
        "unexpected": [name for name in tensors if name not in own],
        "of another shape": [
            f"{name} {list(tensors[name].shape)} instead of {list(own[name].shape)}"
            for name in both
            if tensors[name].shape != own[name].shape
        ],
        "of another type": [
            f"{name} {tensors[name].dtype} instead of {own[name].dtype}"
            for name in both
            if not same_type(tensors[name], own[name])
        ],
    }
    return "; ".join(
        f"{len(names)} {kind} ({first_names(names)})" for kind, names in found.items() if names
    )


def not_finite(tensors: Mapping[str, Tensor]) -> str:
    """Which tensors hold NaN or infinity, the first of them by name; empty where none does."""
    return first_names([name for name, each in tensors.items() if not bool(each.isfinite().all())])


def _same_kind(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype or (one.dtype in _FLOATS and other.dtype in _FLOATS)


def _damaged(path: Path, reason: str) -> ParadiseError:
    return ParadiseError(
        f"{path} is damaged or was not written by PARADISE: {reason}; restore it or train again"
    )


def first_names(names: list[str], shown: int = 3) -> str:
    """The first of the names of tensors, for a message."""
    # A foreign file names its tensors as it likes.
    return ", ".join(map(printable, names[:shown])) + (", ..." if len(names) > shown else "")
