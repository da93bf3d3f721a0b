"""The split that a model is judged on, and whether it fits the model."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paradise_cli.build import build_data
from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.yaml import overrides_given
from paradise_cli.data import DataBundle, DataInfo, Split, Target, match_classes
from paradise_cli.inference.find_model import run_of
from paradise_cli.inference.loading import LoadedModel
from paradise_cli.inference.named_data import open_for_model, root_given
from paradise_cli.recipe.schema import Recipe, parse_resolved
from paradise_cli.training.checkpoint import Checkpoints
from paradise_cli.training.data_identity import differences, identity


@dataclass(frozen=True)
class EvaluationData:
    """A split whose labels are the model's class numbers, its name, and what to know of it."""

    split: Split
    label: str
    notes: tuple[str, ...] = ()


def open_split(
    recipe: Recipe,
    info: DataInfo,
    *,
    split: str | None = None,
    data: str | None = None,
    overrides: Sequence[str] = (),
    source: Path | str = "the model",
) -> EvaluationData:
    """A split of what `data` names, or of the data of the model's recipe; see `open_for_model`.

    Raises also ParadiseError where the data do not fit the model, described by `info`.
    """
    overrides = overrides_given(overrides)
    recipe = _where_its_data_lie(recipe, data or root_given(overrides), source)
    found = open_for_model(recipe, info, data, split=split, overrides=overrides, source=source)
    labels, notes = fit_labels(found.split.labels, found.info, info)
    learned = [] if found.own is None else _learned_notes(found.own, source)
    everything = (*found.notes, *notes, *_pixel_notes(found.info, info), *learned)
    return EvaluationData(found.split.relabel(labels), found.label, everything)


def split_for(
    loaded: LoadedModel, split: str | None, data: str | None, overrides: Sequence[str]
) -> EvaluationData:
    """`open_split` for a model that was loaded."""
    return open_split(
        loaded.recipe,
        loaded.info,
        split=split,
        data=data,
        overrides=overrides,
        source=loaded.source,
    )


def fit_labels(labels: Tensor, data: DataInfo, model: DataInfo) -> tuple[Tensor, list[str]]:
    """Labels [N, T] of `data` as int64 [N, T'] in the order of the model's targets and classes.

    With them come notes. Targets and classes are matched by name, or where each side has one target
    or shares no class name, by number; what the data lack, and a class that the model does not
    know, is unlabelled. Raises ParadiseError for images of another shape and for classes of which
    none is known.
    """
    if data.shape != model.shape:
        given, wanted = ("x".join(map(str, shape)) for shape in (data.shape, model.shape))
        raise ParadiseError(
            f"{data.label} has images {given}, the model reads {wanted} (it was trained on"
            f" {model.label})"
        )
    columns, notes = [], []
    for wanted_target in model.targets:
        place = _place(wanted_target, data.targets, len(model.targets))
        # Unlabelled, not refused: rate and reconstruction need no label.
        if place is None:
            columns.append(torch.full((len(labels),), -1))
            notes.append(
                f"{data.label} has no labels of '{wanted_target.name}': its scores are left out"
            )
            continue
        column, note = _fit_classes(
            labels[:, place], data.targets[place], wanted_target, data, model
        )
        columns.append(column)
        notes += [note] if note else []
    return (torch.stack(columns, 1) if columns else labels[:, :0]), notes


def _place(wanted: Target, targets: Sequence[Target], count: int) -> int | None:
    """The label column of a target, by its name or, where each side has one, as the only one."""
    names = [target.name for target in targets]
    if wanted.name in names:
        return names.index(wanted.name)
    # Among several, one of an unknown name could be any of them.
    return 0 if len(names) == count == 1 else None


def _fit_classes(
    column: Tensor, given: Target, wanted: Target, data: DataInfo, model: DataInfo
) -> tuple[Tensor, str | None]:
    # What the data call a class is a folder's name or a data set's: numbers alone would shift.
    found = match_classes(given.classes, wanted.classes, label=data.label)
    if found is None:
        raise ParadiseError(
            f"{data.label} has {len(given.classes)} classes of '{given.name}', the model tells"
            f" {len(wanted.classes)} apart (it was trained on {model.label}), and they share no"
            " name: evaluate it on data with the same classes, or name the folders as its classes"
            " are"
        )
    return found.relabelled(column), found.note


def _learned_from(source: Path | str) -> dict[str, Any] | None:
    """The identity of what the run of these weights was trained on, where that is known."""
    run = run_of(Path(source))
    return None if run is None else Checkpoints(run.checkpoints, {}).data()


def _where_its_data_lie(recipe: Recipe, folder: str | None, source: Path | str) -> Recipe:
    """The recipe, with its data in the `folder` that is named if those lie there now.

    A copy of its training images would else be measured as images that it has never seen.
    """
    own = recipe.resolved()["data"]
    named = folder is not None and os.path.isdir(folder) and own["name"] == "image_folder"
    before = _learned_from(source) if named else None
    if before is None:
        return recipe
    # Without memory images are not read, and their names and labels are enough.
    there = own | {"root": folder, "memory_gib": 0.0}
    moved = parse_resolved({**recipe.resolved(), "data": there}, str(source))
    try:
        found = identity(build_data(moved), pixels=False, splits=("train",))
    except ParadiseError:
        return recipe
    if differences(before | {"pixels": None}, found):
        return recipe
    return parse_resolved({**recipe.resolved(), "data": own | {"root": folder}}, str(source))


def _learned_notes(data: DataBundle, source: Path | str) -> list[str]:
    """What to know where a run was trained on other images than are there now."""
    before = _learned_from(source)
    if before is None:
        return []
    # To read pixels that nothing is compared with takes seconds; and of what a training only
    # measured the model has learned nothing.
    seen = before.get("pixels") is not None
    changes = differences(before, identity(data, pixels=seen, splits=("train",)))
    if not changes:
        return []
    shown = "; ".join(line.strip() for line in changes)
    return [
        f"{data.info.label} has changed since the training ({shown}): which of these images the"
        " model learned from is not known"
    ]


def _pixel_notes(data: DataInfo, model: DataInfo) -> list[str]:
    # Said, not refused: images of one shape may have been prepared in another way on purpose.
    if data.preprocessing == model.preprocessing:
        return []
    return [f"image files are read as {data.preprocessing}, in training as {model.preprocessing}"]
