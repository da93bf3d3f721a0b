"""The images that a classifier is attacked with, and the numbers of their classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paradise_cli.attacks.engine.classifier import Function
from paradise_cli.attacks.engine.introspection import if_it_works, modules_of
from paradise_cli.attacks.protocol.foreign import foreign
from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.randomness import permutation
from paradise_cli.core.units import counted
from paradise_cli.data import DATASETS, Split, match_logits
from paradise_cli.evaluation.evaluation_data import split_for
from paradise_cli.inference.image_archive import is_archive, read_images
from paradise_cli.inference.loading import LoadedModel
from paradise_cli.inference.named_data import open_for_anyone, refuse_choices
from paradise_cli.recipe.tasks import named_tasks
from paradise_cli.robustness.classifiers import NamedClassifier

DEFAULT_N = 1000
UNLABELLED = -1
_BATCH = 64  # images read at a time


@dataclass(frozen=True)
class Examples:
    """Images float32 [N, C, H, W] in [0, 1], labels int64 [N], and the data's label with split.

    `ids` name the images in their data.
    """

    images: Tensor
    labels: Tensor
    label: str
    ids: tuple[str, ...]
    classes: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


def open_examples(
    target: NamedClassifier,
    data: str | None = None,
    *,
    split: str | None = None,
    n: int | None = None,
    most: int = DEFAULT_N,
    every: bool = False,
    overrides: Sequence[str] = (),
) -> Examples:
    """The first n of the labelled images in a random order that is always the same.

    Without n they are `most` if there are so many, or `every` one.

    `data` is a data set, a folder of class folders, or an .npz with images and labels; without it,
    the data of the model's recipe. Labels are class numbers of the target: see `match_classes` and
    `match_logits`. Raises UsageError or ParadiseError for what is not there, does not fit the
    model, or is less than n.
    """
    if n is not None and n < 1:
        raise UsageError(f"--n must be at least 1, not {n}")
    if data is not None and is_archive(data):
        refuse_choices(split, overrides, "an .npz")
        found = _of_archive(Path(data), target)
    elif target.loaded is not None:
        found = _of_model(target.loaded, target.head, data, split, overrides)
    elif data is None:
        raise UsageError(
            "--data is needed for a classifier of your own: a data set, a folder or an .npz"
        )
    else:
        found = _of_data(target.function, data, split, overrides)
    labelled = (found.labels != UNLABELLED).nonzero().flatten()
    if not len(labelled):
        raise ParadiseError(f"{found.label} has no labelled images: accuracy needs labels")
    if n is not None and n > len(labelled):
        raise UsageError(f"--n {n:,}: {found.label} has only {len(labelled):,} labelled images")
    # Always the same order: 100 images are among any 200, and one model's among another's.
    order = permutation(len(labelled), 0, "attack")[: n or (None if every else most)]
    rows = labelled[order].sort().values  # reading in the data's order is faster
    notes = found.notes
    if left_out := len(found.labels) - len(labelled):
        notes += (f"left out: {counted(left_out, 'image')} without a label (-1)",)
    ids = tuple(found.split.ids[row] for row in rows.tolist())
    return Examples(
        pixels_of(found.split, rows), found.labels[rows], found.label, ids, found.classes, notes
    )


@dataclass(frozen=True)
class _Found:
    """Where images lie before the few that are attacked are read; labels int64 [N]."""

    split: Split
    labels: Tensor
    label: str
    classes: tuple[str, ...] | None
    notes: tuple[str, ...] = ()


def pixels_of(split: Split, rows: Tensor) -> Tensor:
    """Images of these rows as float32 [M, C, H, W] in [0, 1]."""
    images = torch.cat(list(split.fetch(rows, _BATCH, (), False)))
    return images.float().div_(255) if images.dtype == torch.uint8 else images.float()


def _column(loaded: LoadedModel, head: str | None) -> int:
    """Which of the model's targets a classification head tells."""
    names = [target.name for target in loaded.info.targets]
    task = named_tasks(loaded.recipe)[head or ""]
    return names.index(task.target) if task.target else 0


def _of_model(
    loaded: LoadedModel,
    head: str | None,
    data: str | None,
    split: str | None,
    overrides: Sequence[str],
) -> _Found:
    opened = split_for(loaded, split, data, overrides)
    column = _column(loaded, head)
    classes = loaded.info.targets[column].classes
    return _Found(opened.split, opened.split.labels[:, column], opened.label, classes, opened.notes)


def _of_data(function: Function, data: str, split: str | None, overrides: Sequence[str]) -> _Found:
    """A data set or folder for a classifier of which nothing is known but its answers."""
    found = open_for_anyone(data, split=split, overrides=overrides)
    if not found.info.targets:
        raise ParadiseError(
            f"{found.info.label} has no labels: accuracy needs them (a folder for each class)"
        )
    given = found.info.targets[0].classes
    labels = found.split.labels[:, 0]
    # What the user names counts more than what the classifier carries.
    names = found.logit_names or _own_names(function)
    logits = _logit_count(function, found.split)
    if logits is None:
        # It will be examined, and what it lacks explained, before anything is attacked.
        return _Found(found.split, labels, found.label, given, found.notes)
    # A data set has numbers that everybody uses; a folder's are only the order of its names.
    if names is None and data in DATASETS:
        note = f"the classifier gives {logits:,} logits, {data} has {len(given):,} classes"
        notes = found.notes if logits == len(given) else (*found.notes, note)
        return _Found(found.split, labels, found.label, given, notes)
    match = match_logits(given, logits, names, label=found.info.label)
    notes = found.notes if match.note is None else (*found.notes, match.note)
    classes = names or _placed(given, match.numbers, logits)
    return _Found(found.split, match.relabelled(labels), found.label, classes, notes)


def _placed(names: Sequence[str], numbers: Sequence[int], logits: int) -> tuple[str, ...]:
    """A name for each logit, its number where no folder stands for it."""
    placed = [str(number) for number in range(logits)]
    for name, number in zip(names, numbers, strict=True):
        if number >= 0:
            placed[number] = name
    return tuple(placed)


def _own_names(function: Function) -> tuple[str, ...] | None:
    """The class names that a classifier carries, in the order of its logits."""
    # As torchvision's data sets call them; an object of somebody's own may refuse to be asked.
    names = if_it_works(lambda: getattr(function, "classes", None))
    if isinstance(names, Mapping):
        names = _by_number(names)
    elif isinstance(names, np.ndarray):
        names = names.tolist()
    if isinstance(names, Sequence) and not isinstance(names, str):
        if names and all(isinstance(name, str) for name in names):
            return tuple(names)
    return None


def _by_number(names: Mapping[Any, Any]) -> list[Any] | None:
    """The names of {0: "cat", 1: "dog"} or {"cat": 0, "dog": 1} in order, None of another kind."""
    # Lists, as in an index of names and words for them, are no numbers, nor keys.
    numbered = ((number, name) for name, number in names.items())
    inverse = {number: name for number, name in numbered if isinstance(number, int | np.integer)}
    for numbers in (names, inverse):
        if set(numbers) == set(range(len(names))):
            return [numbers[number] for number in range(len(names))]
    return None


def _logit_count(function: Function, split: Split) -> int | None:
    """How many logits the classifier gives, or None where it does not answer as it should."""
    modules = modules_of(function)
    if any(part.training for module in modules for part in module.modules()):
        return None  # asking would move the running statistics of its batch norms
    weights = [weight for module in modules for weight in module.parameters()]
    images = pixels_of(split, torch.arange(min(2, len(split))))
    given = images.to(weights[0].device) if weights else images
    try:
        with torch.no_grad(), foreign("on", given):
            answer: Any = function(given)
    except ParadiseError:  # the attack says it
        return None
    return answer.shape[1] if isinstance(answer, Tensor) and answer.ndim == 2 else None


def _of_archive(path: Path, target: NamedClassifier) -> _Found:
    """Images of an .npz; its labels are the numbers of the target's classes."""
    archive = read_images(path)
    loaded = target.loaded
    given = list(archive.images.shape[1:])
    if loaded is not None and given != list(loaded.info.shape):
        raise ParadiseError(f"{path}: images {given}, the model reads {list(loaded.info.shape)}")
    if loaded is None:
        labels = archive.column(0, 1)
    else:
        labels = archive.column(_column(loaded, target.head), len(loaded.info.targets))
    return _Found(archive.split(labels[:, None]), labels, path.name, None)
