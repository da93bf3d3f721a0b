"""What `--data` names, the same in every command: a folder, an .npz, or a data set."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from paradise_cli.build import build_data
from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.registry import did_you_mean
from paradise_cli.core.yaml import Document, overrides_given
from paradise_cli.data import (
    DATASETS,
    DEFAULT_SPLIT,
    DataBundle,
    DataInfo,
    Split,
    UnreadableImage,
    check_contents,
    check_split,
    header,
    list_images,
    open_folder,
)
from paradise_cli.inference.image_archive import is_archive, read_images
from paradise_cli.recipe.check import RecipeError, check_usable, validate
from paradise_cli.recipe.components import expand
from paradise_cli.recipe.schema import Recipe

_LOOKED_AT = 64  # images of a folder whose sizes are compared


@dataclass(frozen=True)
class NamedData:
    """A split, the description of its data, and what reports call it.

    `logit_names` are the classes of a classifier, in the order of its logits, where the user named
    them; `own` is all of the data where a model learned from them, if this is no test split.
    """

    split: Split
    info: DataInfo
    label: str
    notes: tuple[str, ...] = ()
    logit_names: tuple[str, ...] | None = None
    own: DataBundle | None = None


def open_for_model(
    recipe: Recipe,
    info: DataInfo,
    data: str | None,
    *,
    split: str | None = None,
    overrides: Sequence[str] = (),
    source: Path | str = "the model",
) -> NamedData:
    """What `data` names, as a model made by `recipe` for data like `info` reads it.

    Without `data`, that of the recipe. `overrides` are `data.x=y` and change that section of the
    recipe. A part is held out of the recipe's own data only: of others the model has learned
    nothing, so that all of them can judge it. Raises UsageError for a split or override that is
    not one, ParadiseError for what is not there or not of the model's size.
    """
    given, overrides = data, overrides_given(overrides)
    folder = _folder(data)
    part = split or DEFAULT_SPLIT
    if data is not None:
        data, part = named_split(data, split)
    check_split(part)
    if data is not None and is_archive(data):
        refuse_choices(split, overrides, "an .npz")
        return _archive_for_model(data, info)
    if data is not None and data not in DATASETS and folder is None:
        raise _no_such_data(data)
    section = _section(recipe, info, data, folder, overrides)
    changed = _changed(recipe, section, overrides, source)
    # The label, the classes and the held-out part of a recipe are those of its own data alone.
    own = _is_own(recipe, changed.data.name, changed.data.root)
    # A folder is read as the training images were, with all crops, unless a size is asked for.
    sized = any(_key(text) in ("data.size", "data.channels") for text in overrides)
    if own or sized or changed.data.name != "image_folder":
        bundle = build_data(changed)
    else:
        bundle = _folder_for_model(changed, info)
    return _chosen(bundle, part, _way(given, data), own=own)


def open_for_anyone(
    data: str, *, split: str | None = None, overrides: Sequence[str] = ()
) -> NamedData:
    """The folder or data set that `data` names, for a classifier of which nothing is known.

    Raises UsageError or ParadiseError for what is not there.
    """
    overrides = overrides_given(overrides)
    folder = _folder(data)
    name, part = named_split(data, split)
    way = _way(data, name)
    if folder is not None:
        settings = _settings("image_folder", overrides)
        names = settings.pop("classes", None)
        # Nothing says what the classifier reads: the images' own size is the best guess.
        usual, notes = _usual_shape(folder)
        bundle = DATASETS["image_folder"](folder, **usual | settings)
        found = _chosen(bundle, part, way, own=False)
        kept = found.notes if usual.keys() <= settings.keys() else (*found.notes, *notes)
        return replace(found, notes=kept, logit_names=names and tuple(names))
    if name in DATASETS:
        return _chosen(DATASETS[name](None, **_settings(name, overrides)), part, way, own=False)
    raise _no_such_data(data)


def _folder(data: str | None) -> Path | None:
    """The folder that stands in the command as it is."""
    # Not the name without its split: `digits:test` is the data set beside a folder `digits` too.
    return Path(data) if data is not None and os.path.isdir(data) else None


def named_split(data: str, split: str | None) -> tuple[str, str]:
    """Name and split of `digits:train`, or of a name that stands alone the `split` asked for.

    Raises UsageError for an unknown split, and where one is asked for and another named.
    """
    name, colon, own = data.partition(":")
    if not colon or name not in DATASETS or os.path.exists(data):
        name, own = data, split or DEFAULT_SPLIT
    elif split not in (None, own):
        raise UsageError(f"--data {data} and --split {split}: they name two splits, leave out one")
    check_split(own)
    return name, own


def _way(given: str | None, name: str | None) -> str:
    """What stands before the name of a split where data were `given` as they were."""
    return "--split " if given == name else f"{name}:"


def refuse_choices(split: str | None, overrides: Sequence[str], kind: str) -> None:
    """Raise UsageError for `--split` and `--set` where the data have neither."""
    if split is not None:
        check_split(split)
        raise UsageError(f"--split {split}: {kind} has no splits, all its images are taken")
    if overrides:
        raise UsageError(f"--set {overrides[0]}: there is nothing to set of {kind}")


def _no_such_data(name: str) -> UsageError:
    if os.path.isfile(name):
        kind = "an .npy has no labels" if name.endswith(".npy") else "this file holds no data set"
        return UsageError(
            f"--data {name}: {kind}; name an .npz with images and labels, or a folder of class"
            " folders"
        )
    hint = did_you_mean(name.partition(":")[0], list(DATASETS))
    return UsageError(
        f"--data {name}: no such folder or .npz, and no data set of that name{hint}; known:"
        f" {', '.join(DATASETS)}"
    )


def _archive_for_model(data: str, info: DataInfo) -> NamedData:
    """The images of an .npz; their labels are the numbers of the model's classes."""
    archive = read_images(Path(data))
    given = list(archive.images.shape[1:])
    if given != list(info.shape):
        raise ParadiseError(f"{data}: images {given}, the model reads {list(info.shape)}")
    targets = () if archive.labels is None else info.targets
    labels = archive.columns(len(targets)) if targets else archive.unlabelled()
    described = replace(info, label=archive.path.name, targets=targets)
    split = archive.split(labels)
    check_contents(split, described, data)
    return NamedData(split, described, described.label)


def _chosen(bundle: DataBundle, split: str, way: str, *, own: bool) -> NamedData:
    """The split asked for; of data that have no splits, and taught the model nothing, all.

    A split that is not there is refused with the others, named in the user's own `way`; so is what
    would be held out, of which only the training's own data have a part.
    """
    there, label = bundle.splits(), bundle.info.label
    if not own and list(there) == ["train"] and split != "validation":
        images = there["train"]
        whole = f"{label} has no {split} split: all of its {len(images):,} images are taken"
        return NamedData(images, bundle.info, f"all of {label}", (whole, *bundle.notes))
    if split not in there:
        known = " or ".join(f"{way}{name}" for name in there)
        whose = ", which the model learned from," if own else ""
        raise ParadiseError(f"{label}{whose} has no {split} split; it has: {known}")
    # Of test images the model has learned nothing.
    learned_from = bundle if own and split != "test" else None
    return NamedData(there[split], bundle.info, f"{label}, {split}", bundle.notes, own=learned_from)


def _changed(
    recipe: Recipe, section: dict[str, Any], overrides: Sequence[str], source: Path | str
) -> Recipe:
    """The recipe with the data section that is meant."""
    # Through the recipe's own checks: a `--set` is refused here as it is in training.
    document = Document(str(source), recipe.resolved())
    document.data["data"] = section
    for number, text in enumerate(overrides, start=1):
        if not _key(text).startswith("data."):
            raise UsageError(f"--set {text}: only data can be changed here, as in data.root=FOLDER")
        document.override(number, text)
        document.data = expand(Recipe, document.data)
    check_usable(document)
    changed = validate(Recipe, document) if not document.problems else None
    if changed is None:
        raise RecipeError(document.problems)
    return changed


def _section(
    recipe: Recipe,
    info: DataInfo,
    data: str | None,
    folder: Path | None,
    overrides: Sequence[str],
) -> dict[str, Any]:
    """The data section to begin with, before it is changed by `--set`."""
    own: dict[str, Any] = recipe.resolved()["data"]
    name = "image_folder" if folder is not None else data or recipe.data.name
    # The root decides whether the data are the recipe's own: it is looked up before --set applies.
    given = root_given(overrides)
    own_root = recipe.data.root if name == recipe.data.name else None
    root = folder or (own_root if given is None else Path(given))
    if _is_own(recipe, name, root):
        return own
    if name == recipe.data.name:
        section = {key: value for key, value in own.items() if key not in _OF_ONE_FOLDER}
    else:
        # Of the model's size, where that can be chosen.
        known = DATASETS.hyper_parameters(name)
        size = {"size": info.shape[1], "channels": info.shape[0]}
        section = {key: value for key, value in size.items() if key in known}
    return section | {"name": name, "root": root and str(root), "validation": 0.0, "labelled": None}


_OF_ONE_FOLDER = ("label", "classes")  # settings that are untrue of another folder


def _folder_for_model(recipe: Recipe, info: DataInfo) -> DataBundle:
    """A folder of images, read as the model's training images were."""
    hyper = recipe.data.hyper
    if recipe.data.root is None or not recipe.data.root.is_dir():
        return build_data(recipe)  # which says what is missing
    return open_folder(
        recipe.data.root, info.preprocessing, label=hyper["label"], classes=hyper["classes"],
        memory_gib=hyper["memory_gib"], skip_unreadable=hyper["skip_unreadable"],
    )  # fmt: skip


def _is_own(recipe: Recipe, name: str, root: Path | None) -> bool:
    """Whether this is what the model learned from: any folder may be an image_folder."""
    if name != recipe.data.name:
        return False
    there = recipe.data.root
    if name != "image_folder" or root is None or there is None:
        return name != "image_folder" or root is there
    return os.path.realpath(root) == os.path.realpath(there)


def root_given(overrides: Sequence[str]) -> str | None:
    """The folder that `data.root=FOLDER` among these names, if any."""
    return next((t.partition("=")[2].strip() for t in overrides if _key(t) == "data.root"), None)


def _key(override: str) -> str:
    return override.partition("=")[0].strip()


def _settings(data: str, overrides: Sequence[str]) -> dict[str, Any]:
    """What `data.size=224` and the like say, where there is no recipe to check them against."""
    kinds = {
        name: kind for name, (kind, _) in DATASETS.hyper_parameters(data).items() if kind in _FORMS
    }
    # Read as YAML, as every other --set is; the recipe's checks need a whole recipe.
    document = Document("--set", {"data": {}})
    for number, text in enumerate(overrides, start=1):
        name = _key(text).removeprefix("data.")
        document.override(number, text)
        value = document.data["data"].get(name) if isinstance(document.data["data"], dict) else None
        if _key(text) != f"data.{name}" or name not in kinds or not _fits(value, kinds[name]):
            allowed = ", ".join(f"data.{key}={_FORMS[kind]}" for key, kind in kinds.items())
            raise UsageError(
                f"--set {text}: of {data}, for a classifier of your own, can be set:"
                f" {allowed or 'nothing'}"
            )
    found: dict[str, Any] = document.data["data"]
    return found


_FORMS: dict[Any, str] = {int: "NUMBER", bool: "true", list[str] | None: "[NAME, NAME, ...]"}
"""How a setting of each kind is written."""


def _fits(value: object, kind: object) -> bool:
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and value > 0
    if kind is bool:
        return isinstance(value, bool)
    return isinstance(value, list) and bool(value) and all(isinstance(v, str) for v in value)


def _usual_shape(folder: Path) -> tuple[dict[str, int], tuple[str, ...]]:
    """The commonest short side of a folder's images, and colour if any of them has it.

    One image alone may be a thumbnail, or a grey one among others in colour; that they differ, or
    are no squares, is said.
    """
    files = list_images(folder)
    sides: Counter[int] = Counter()
    shapes = set[tuple[int, int, int]]()
    for file in files[:: max(1, len(files) // _LOOKED_AT)]:
        try:
            shape = header(file)
        except UnreadableImage:
            continue  # reading the folder names it
        sides[min(shape[1:])] += 1
        shapes.add(shape)
    if not sides:
        raise ParadiseError(f"{folder}: none of the images looked at can be read: {files[0]}")
    size = max(sides, key=lambda side: (sides[side], side))
    usual = {"size": size, "channels": max(depth for depth, *_ in shapes)}
    read_as = f"{usual['channels']} x {size} x {size}"
    whose = f"the images of {folder.resolve().name}"
    if len(shapes) > 1:
        note = f"{whose} differ in size or colour: the middle of each is read as {read_as}"
    elif shapes != {(usual["channels"], size, size)}:
        depth, height, width = min(shapes)
        note = f"{whose} are {depth} x {height} x {width}: the middle, {read_as}, is read of each"
    else:
        return usual, ()
    return usual, (f"{note} (data.size and data.channels change that)",)
