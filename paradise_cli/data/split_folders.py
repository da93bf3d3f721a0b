"""Which sub-folders of a folder are its splits: called so, as people write it, and laid out so."""

import re
from pathlib import Path

from paradise_cli.core.errors import ParadiseError
from paradise_cli.data.listing import is_left_out

_CALLED = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
_SPLIT_OF = {name: split for split, names in _CALLED.items() for name in names}
# As in training_set, test-images, ValidationData.
_NAME = re.compile(rf"({'|'.join(_SPLIT_OF)})[ _-]?(set|data|images)?", re.IGNORECASE)


def sub_folders(place: Path) -> list[str]:
    """Names of the folders in a folder that a person made, sorted; none where it cannot be read."""
    try:
        entries = list(place.iterdir())
    except OSError:  # whoever lists its images says so
        return []
    return sorted(entry.name for entry in entries if entry.is_dir() and not is_left_out(entry.name))


def split_folders(root: Path) -> dict[str, str]:
    """The split of each sub-folder that is one, training images first, else {"": "train"}.

    A class may be called train: a folder of that name is a split where it holds folders itself or
    has another split beside it.
    """
    named = _named_as_splits(root)
    training = [name for name, split in named.items() if split == "train"]
    alone = len(named) == len(training)
    if not training or (alone and not any(sub_folders(root / name) for name in training)):
        return {"": "train"}
    _refuse_doubles(root, named)
    order = list(_CALLED)
    return dict(sorted(named.items(), key=lambda item: order.index(item[1])))


def refuse_splits_as_classes(root: Path) -> None:
    """Raise ParadiseError for a folder of splits without training images: they are no classes."""
    named = _named_as_splits(root)
    found = sub_folders(root)
    holding = len(found) > 1 or any(sub_folders(root / name) for name in found)
    if found and holding and found == sorted(named) and "train" not in named.values():
        raise ParadiseError(
            f"{root} holds {_listed(found)}, which are splits and no classes, and no train/: name"
            f" one of them (data.root={root / found[0]}), or put the training images into train/"
        )


def left_out(root: Path) -> list[str]:
    """What to say of the folders beside the splits of a folder."""
    splits = split_folders(root)
    beside = [] if "" in splits else [name for name in sub_folders(root) if name not in splits]
    if not beside:
        return []
    named = _listed(list(splits))
    return [f"{root.name} is split into {named}; left out is what lies beside: {_listed(beside)}"]


def _named_as_splits(root: Path) -> dict[str, str]:
    found = {name: _NAME.fullmatch(name) for name in sub_folders(root)}
    return {name: _SPLIT_OF[is_one[1].lower()] for name, is_one in found.items() if is_one}


def _refuse_doubles(root: Path, named: dict[str, str]) -> None:
    for split in _CALLED:
        both = [name for name, its in named.items() if its == split]
        if len(both) > 1:
            raise ParadiseError(
                f"{root} holds {_listed(both)}, which all mean the {split} split; keep one of them"
            )


def _listed(names: list[str]) -> str:
    shown = ", ".join(f"{name}/" for name in names[:5])
    return f"{shown}, ..." if len(names) > 5 else shown
