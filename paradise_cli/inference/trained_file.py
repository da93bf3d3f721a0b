"""What a weights file says, checked: anyone may have written it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from paradise_cli.build import build_model, build_outline
from paradise_cli.core.errors import ParadiseError, printable
from paradise_cli.data import DataInfo
from paradise_cli.hub.records import record_of
from paradise_cli.models import StochasticEncoder
from paradise_cli.models.weights import fill, read_model, require_same_shapes
from paradise_cli.recipe.schema import Recipe, parse_resolved


@dataclass(frozen=True)
class TrainedFile:
    """Weights, the recipe and data that they were trained by, and where they come from.

    `provenance` has an integer `step` where it has `weights`, which of a run's weights these are.
    """

    tensors: dict[str, Tensor]
    recipe: Recipe
    info: DataInfo
    provenance: dict[str, Any]


def read_trained(path: Path) -> TrainedFile:
    """The content of a weights file; whether the weights fit the recipe is not looked at.

    Raises ParadiseError for what is missing, damaged, of another version, or wants to import
    modules without being allowed to.
    """
    tensors, metadata = read_model(path)
    recipe, data, provenance = (_part(path, metadata, n) for n in ("recipe", "data", "provenance"))
    _refuse_foreign_imports(path, recipe)
    # Recipe and description come from the file: the data need not be there to use a model.
    parsed = parse_resolved(recipe, str(path))
    try:
        info = DataInfo.from_json(data)
    except ParadiseError as error:
        raise ParadiseError(f"{path}: {error}") from error
    if "weights" in provenance:
        _check_origin(path, provenance["weights"], provenance.get("step"))
    return TrainedFile(tensors, parsed, info, provenance)


def _check_origin(path: Path, weights: Any, step: Any) -> None:
    """Raise ParadiseError for what cannot be shown as which weights these are, of which step."""
    if type(step) is not int or not 0 <= step < 2**63:
        raise ParadiseError(f"{path}: its provenance names no step; train it again")
    if weights is not None and not (isinstance(weights, str) and weights == printable(weights, 40)):
        raise ParadiseError(
            f"{path}: its provenance does not name its weights in a few printable characters; train"
            " it again"
        )


def build_trained(found: TrainedFile, source: Path) -> StochasticEncoder:
    """The model of a weights file; raises ParadiseError, naming `source`, where the two differ."""
    # The memory for its weights is claimed only once the file is known to hold them.
    try:
        outline = build_outline(build_model, found.recipe, found.info, len(found.tensors))
    except ParadiseError as error:
        why = printable(str(error))
        raise ParadiseError(f"{source} does not fit its own recipe: {why}") from error
    if outline is not None:
        require_same_shapes(outline, found.tensors, source)
    model = build_model(found.recipe, found.info)
    fill(model, found.tensors, source)
    return model


def _part(path: Path, metadata: Mapping[str, Any], name: str) -> dict[str, Any]:
    part = metadata.get(name)
    if not isinstance(part, dict):
        raise ParadiseError(f"{path} says nothing of its {name} in its metadata; train it again")
    return part


def _refuse_foreign_imports(path: Path, recipe: Mapping[str, Any]) -> None:
    """Importing runs a module: a pulled model may ask for it only if the user said so."""
    names = recipe.get("imports")
    origin = record_of(path) if names else None
    if origin is None or origin.allow_imports:
        return
    named = printable(", ".join(map(str, names)) if isinstance(names, list) else str(names))
    raise ParadiseError(
        f"{origin.repo} wants to import {named}, which runs code: if you trust it, paradise"
        f" zoo pull {origin.repo}@{origin.commit} --allow-imports"
    )
