"""Whom `paradise attack` attacks and with which images: our models and anyone's, data sets and
files.
"""

import importlib
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from paradise_cli.attacks.audit.canaries import SampledLatents
from paradise_cli.attacks.engine.classifier import Function
from paradise_cli.build import named_tasks
from paradise_cli.core.arrays import read_archive
from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.machine import choose_device
from paradise_cli.core.randomness import permutation
from paradise_cli.core.registry import did_you_mean
from paradise_cli.data import DATASETS, DataInfo, Split, list_images
from paradise_cli.evaluation.evaluation_data import check_split, open_split
from paradise_cli.inference.loading import LoadedModel, load

IMPORTABLE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
DEFAULT_N = 1000
UNLABELLED = -1
_BATCH = 64


@dataclass(frozen=True)
class Target:
    """A classifier to attack; `loaded` and the `head` that classifies if it is one of ours."""

    function: Function
    label: str
    name: str
    loaded: LoadedModel | None = None
    head: str | None = None


@dataclass(frozen=True)
class Examples:
    """Images float32 [N, C, H, W] in [0, 1], labels int64 [N], and the data's label with split."""

    images: Tensor
    labels: Tensor
    label: str
    classes: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


def open_target(
    name: str, *, device: str = "auto", head: str | None = None, sampled: bool = False
) -> Target:
    """The classifier of a run folder, weights file or zoo name, or what `package.module:function`
    returns.

    One of ours is judged by the mean of z, or with `sampled` by a z drawn anew for every answer. A
    torch module goes to the device, any other function stays where it is. Raises UsageError or
    ParadiseError for what is not there or does not classify.
    """
    if IMPORTABLE.fullmatch(name) and not Path(name).exists():
        if head is not None or sampled:
            raise UsageError(
                "--head and --sampled are for models of PARADISE; build yours the way you want it"
            )
        function = _imported(name)
        if isinstance(function, nn.Module):
            function = function.to(choose_device(device))
        return Target(function, name, name.replace(":", "-"))
    loaded = load(name, device)
    if sampled and not loaded.model.stochastic:
        raise UsageError(
            f"{loaded.source} is deterministic: there is no z to draw (leave out --sampled)"
        )
    function = (
        SampledLatents(loaded.model.classifier(head=head))
        if sampled
        else loaded.model.classifier(head=head)
    )
    head = head or next(n for n, module in loaded.model.heads.items() if module.kind == "logits")
    return Target(function, str(loaded.source), Path(name).stem, loaded, head)


def _imported(name: str) -> Function:
    module_name, _, attribute = name.partition(":")
    if "" not in sys.path:
        sys.path.insert(
            0, ""
        )  # `python -m` finds modules of the current folder, a console script does not
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UsageError(
            f"{name}: cannot import {module_name} ({error}); it is looked for in the current"
            " folder and"
            " among the installed packages"
        ) from error
    except Exception as error:
        raise ParadiseError(
            f"{name}: importing {module_name} fails: {type(error).__name__}: {error} (--debug"
            " shows where)"
        ) from error
    maker: Any = getattr(module, attribute, None)
    if not callable(maker):
        there = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
        raise UsageError(
            f"{name}: {module_name} has no function {attribute}{did_you_mean(attribute, there)}"
        )
    try:
        function = maker()
    except Exception as error:
        raise ParadiseError(
            f"{name}() fails: {type(error).__name__}: {error}; it is called without arguments and"
            " must return"
            " the classifier (--debug shows where)"
        ) from error
    if not callable(function):
        raise ParadiseError(
            f"{name}() returned a {type(function).__name__}: it must return a function (or torch"
            " module)"
            " from pixels [B, C, H, W] in [0, 1] to logits [B, classes]"
        )
    checked: Function = function
    return checked


def open_examples(
    target: Target,
    data: str | None = None,
    *,
    split: str = "test",
    n: int | None = None,
    every: bool = False,
    overrides: Sequence[str] = (),
) -> Examples:
    """The first n of the labelled images in a random order that is always the same.

    Without n they are 1,000 if there are so many, or `every` one.

    `data` is the name of a data set, a folder of class folders, or an .npz with images and labels;
    without it, the data of the model's recipe. Raises UsageError or ParadiseError for what is not
    there, does not fit the model, or is less than n.
    """
    check_split(split)
    if data is not None and data.endswith(".npz"):
        if overrides:
            raise UsageError(f"--set {overrides[0]}: there is nothing to set of an .npz")
        found = _of_archive(Path(data), target)
    elif target.loaded is not None:
        found = _of_model(target.loaded, target.head, data, split, overrides)
    elif data is None:
        raise UsageError(
            "--data is needed for a classifier of your own: a data set, a folder or an .npz"
        )
    else:
        found = _of_data(data, split, overrides)
    labelled = (found.labels != UNLABELLED).nonzero().flatten()
    if not len(labelled):
        raise ParadiseError(f"{found.label} has no labelled images: accuracy needs labels")
    if n is not None and n < 1:
        raise UsageError(f"--n must be at least 1, not {n}")
    if n is not None and n > len(labelled):
        raise UsageError(f"--n {n:,}: {found.label} has only {len(labelled):,} labelled images")
    order = permutation(len(labelled), 0, "attack")[: n or (None if every else DEFAULT_N)]
    rows = labelled[order].sort().values
    notes = found.notes
    if left_out := len(found.labels) - len(labelled):
        notes += (f"{left_out:,} images without a label (-1) are left out",)
    return Examples(found.pixels(rows), found.labels[rows], found.label, found.classes, notes)


@dataclass(frozen=True)
class _Found:
    """Where images lie before the few that are attacked are read."""

    split: Split | Tensor
    labels: Tensor
    label: str
    classes: tuple[str, ...] | None
    notes: tuple[str, ...] = ()

    def pixels(self, rows: Tensor) -> Tensor:
        if isinstance(self.split, Tensor):
            images = self.split[rows]
        else:
            images = torch.cat(list(self.split.fetch(rows, _BATCH, (), False)))
        return images.float().div_(255) if images.dtype == torch.uint8 else images.float()


def _of_model(
    loaded: LoadedModel, head: str | None, data: str | None, split: str, overrides: Sequence[str]
) -> _Found:
    if data is not None and Path(data).is_dir():
        data, overrides = "image_folder", [f"data.root={data}", *overrides]
    opened = open_split(
        loaded.recipe,
        loaded.info,
        split=split,
        data=data,
        overrides=overrides,
        source=loaded.source,
    )
    names = [target.name for target in loaded.info.targets]
    task = named_tasks(loaded.recipe)[head or ""]
    column = names.index(task.target) if task.target else 0
    classes = loaded.info.targets[column].classes
    return _Found(opened.split, opened.split.labels[:, column], opened.label, classes, opened.notes)


def _of_data(data: str, split: str, overrides: Sequence[str]) -> _Found:
    """A data set or folder for a classifier of which nothing is known."""
    if Path(data).is_dir():
        first = list_images(Path(data))[0]
        with Image.open(first) as image:
            found = {
                "size": min(image.size),
                "channels": 1 if image.mode in ("1", "L", "I;16") else 3,
            }
        bundle = DATASETS["image_folder"](Path(data), **found | _sizes("image_folder", overrides))
    elif data in DATASETS:
        bundle = DATASETS[data](None, **_sizes(data, overrides))
    else:
        raise UsageError(
            f"--data {data}: no such folder or .npz, and no data set of that name"
            f"{did_you_mean(data, list(DATASETS))}; known: {', '.join(DATASETS)}"
        )
    info: DataInfo = bundle.info
    notes: tuple[str, ...] = ()
    if getattr(bundle, split) is None:
        notes = (f"{info.label} has no {split} split: its train split is attacked",)
        split = "train"
    chosen = getattr(bundle, split)
    if not info.targets:
        raise ParadiseError(
            f"{info.label} has no labels: accuracy needs them (a folder for each class)"
        )
    return _Found(
        chosen, chosen.labels[:, 0], f"{info.label}, {split}", info.targets[0].classes, notes
    )


def _sizes(data: str, overrides: Sequence[str]) -> dict[str, Any]:
    """What `data.size=224` and the like say; without a recipe only whole numbers can be set."""
    known = [
        f"data.{key}" for key, (kind, _) in DATASETS.hyper_parameters(data).items() if kind is int
    ]
    found = {}
    for text in overrides:
        key, _, value = (part.strip() for part in text.partition("="))
        if key not in known or not value.isdecimal() or int(value) < 1:
            allowed = ", ".join(f"{name}=NUMBER" for name in known) or "nothing"
            raise UsageError(
                f"--set {text}: of {data}, for a classifier of your own, can be set: {allowed}"
            )
        found[key.removeprefix("data.")] = int(value)
    return found


def _of_archive(path: Path, target: Target) -> _Found:
    arrays, names = read_archive(path, ("images", "labels"))
    if missing := {"images", "labels"} - set(arrays):
        raise ParadiseError(
            f"{path} has no array {' or '.join(sorted(missing))}; it has: {', '.join(names)}"
        )
    images, labels = arrays["images"], arrays["labels"]
    if images.ndim == 3:
        images = images[:, None]
    if (
        images.ndim != 4
        or images.dtype.kind not in "uf"
        or (images.dtype.kind == "u" and images.dtype != np.uint8)
    ):
        raise ParadiseError(
            f"{path}: images of type {images.dtype} and shape {list(images.shape)}; needed are"
            " [N, C, H, W] or [N, H, W, C], uint8 or float in [0, 1]"
        )
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
        raise ParadiseError(
            f"{path}: labels of type {labels.dtype} and shape {list(labels.shape)};"
            f" {len(images)} integers are needed"
        )
    pixels = torch.from_numpy(np.ascontiguousarray(_channels_first(images)))
    shape = target.loaded.info.shape if target.loaded else tuple(pixels.shape[1:])
    if tuple(pixels.shape[1:]) != tuple(shape):
        raise ParadiseError(
            f"{path}: images {list(pixels.shape[1:])}, the model reads {list(shape)}"
        )
    return _Found(pixels, torch.from_numpy(labels.astype(np.int64)), path.name, None)


def _channels_first(images: NDArray[Any]) -> NDArray[Any]:
    if images.shape[1] not in (1, 3, 4) and images.shape[3] in (1, 3, 4):
        return images.transpose(0, 3, 1, 2)
    return images
