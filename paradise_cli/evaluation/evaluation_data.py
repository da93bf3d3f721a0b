"""The split that a model is judged on, and whether it fits the model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paradise_cli.build import build_data
from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.registry import did_you_mean
from paradise_cli.core.yaml import Document
from paradise_cli.data import DATASETS, DataInfo, Split, Target
from paradise_cli.recipe.check import validate
from paradise_cli.recipe.components import expand
from paradise_cli.recipe.schema import Recipe, RecipeError

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class EvaluationData:
    """A split with its labels in the order of the model's targets, and what the user should know of
    it.
    """

    split: Split
    label: str
    notes: tuple[str, ...] = ()


def open_split(
    recipe: Recipe,
    info: DataInfo,
    *,
    split: str = "test",
    data: str | None = None,
    overrides: Sequence[str] = (),
    source: Path | str = "the model",
) -> EvaluationData:
    """A split of the data that the model's recipe names, or of the data set `data`.

    `overrides` are `data.x=y` and change that section of the recipe. Raises UsageError for a split
    or override that is not one, ParadiseError where the data do not fit the model (`info`).
    """
    check_split(split)
    bundle = build_data(_with_data(recipe, info, data, overrides, source))
    there = {name: found for name in SPLITS if (found := getattr(bundle, name)) is not None}
    if split not in there:
        known = " or ".join(f"--split {name}" for name in there)
        raise ParadiseError(f"{bundle.info.label} has no {split} split; it has: {known}")
    labels, notes = fit_labels(there[split].labels, bundle.info, info)
    label = f"{bundle.info.label}, {split}"
    return EvaluationData(
        there[split].relabel(labels), label, (*notes, *_pixel_notes(bundle.info, info))
    )


def check_split(split: str) -> None:
    """Raise UsageError for what is not the name of a split."""
    if split not in SPLITS:
        raise UsageError(
            f"no split '{split}'{did_you_mean(split, list(SPLITS))}; known: {', '.join(SPLITS)}"
        )


def fit_labels(labels: Tensor, data: DataInfo, model: DataInfo) -> tuple[Tensor, list[str]]:
    """Labels [N, T] of `data` as int64 [N, T'] in the order of the model's targets and classes,
    with notes.

    Targets are matched by name, or where each side has one; one that the data lack is unlabelled.
    Raises ParadiseError for images of another shape or another number of classes.
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


def _place(wanted: Target, targets: Sequence[Target], of: int) -> int | None:
    names = [target.name for target in targets]
    if wanted.name in names:
        return names.index(wanted.name)
    return 0 if len(names) == of == 1 else None


def _fit_classes(
    column: Tensor, given: Target, wanted: Target, data: DataInfo, model: DataInfo
) -> tuple[Tensor, str | None]:
    if len(given.classes) != len(wanted.classes):
        raise ParadiseError(
            f"{data.label} has {len(given.classes)} classes of '{given.name}', the model tells"
            f" {len(wanted.classes)} apart (it was trained on {model.label}): evaluate it on data"
            " with"
            " the same classes"
        )
    if given.classes == wanted.classes:
        return column, None
    if set(given.classes) == set(wanted.classes):
        number = torch.tensor([wanted.classes.index(name) for name in given.classes] + [-1])
        return number[column], None  # -1, unlabelled, picks the last
    pairs = zip(given.classes, wanted.classes, strict=True)
    first = next(i for i, (ours, theirs) in enumerate(pairs) if ours != theirs)
    return column, (
        f"classes have other names than in training and are matched by number: class {first} is"
        f" '{given.classes[first]}' in {data.label} and '{wanted.classes[first]}' for the model"
    )


def _pixel_notes(data: DataInfo, model: DataInfo) -> list[str]:
    if data.preprocessing == model.preprocessing:
        return []
    return [f"image files are read as {data.preprocessing}, in training as {model.preprocessing}"]


def _with_data(
    recipe: Recipe, info: DataInfo, data: str | None, overrides: Sequence[str], source: Path | str
) -> Recipe:
    """The recipe with another data section."""
    document = Document(str(source), recipe.resolved())
    if data is not None and data != recipe.data.name:
        document.data["data"] = _other_data(data, info)
    for number, text in enumerate(overrides, start=1):
        if not text.partition("=")[0].strip().startswith("data."):
            raise UsageError(f"--set {text}: only data can be changed here, as in data.root=FOLDER")
        document.override(number, text)
        document.data = expand(Recipe, document.data)
    changed = validate(Recipe, document) if not document.problems else None
    if changed is None:
        raise RecipeError(document.problems)
    return changed


def _other_data(name: str, info: DataInfo) -> dict[str, Any]:
    """The data section for another data set, its images of the model's size where that can be
    chosen.
    """
    known = DATASETS.hyper_parameters(name)
    chosen = {"size": info.shape[1], "channels": info.shape[0]}
    return {"name": name} | {key: value for key, value in chosen.items() if key in known}
