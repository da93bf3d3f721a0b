"""Which class of a model is meant by a class of the data: by its name, and by number at last."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from paradise_cli.core.errors import ParadiseError, printable

_SHOWN = 10  # classes that a message names


@dataclass(frozen=True)
class ClassMap:
    """For each class of the data its number for the model, -1 for none; and how it was found."""

    numbers: tuple[int, ...]
    note: str | None = None

    def relabelled(self, labels: Tensor) -> Tensor:
        """Labels int64 [N] of the data as those of the model; -1, unlabelled, stays -1."""
        return torch.tensor([*self.numbers, -1])[labels]  # -1 picks the last


def match_classes(given: Sequence[str], wanted: Sequence[str], *, label: str) -> ClassMap | None:
    """The classes `given` by the data `label` among those `wanted` by a model; None if none fits.

    A class goes by its name wherever the two share one: a name that the model does not know is
    left without a number, and said. Numbers decide only where no name is shared: those that the
    names are, or between equally many classes their order.
    """
    numbers = numbers_of(given, wanted)
    # One shared name shows that names mean the same on both sides; then none goes by number, as
    # cat, dog, parrot would meet bird, cat, dog shifted by one.
    if not set(map(_plain, given)).isdisjoint(map(_plain, wanted)):
        return ClassMap(tuple(numbers), _named_note(given, wanted, numbers, label))
    if (by_number := _by_number(given, len(wanted))) is None:
        return None
    pairs = [
        f"'{name}' of {label} is class {number} of the model, '{wanted[number]}'"
        for name, number in zip(given, by_number, strict=True)
    ]
    note = "classes have other names than in training and are matched by number: "
    return ClassMap(tuple(by_number), note + _few(pairs))


def match_logits(
    folders: Sequence[str], logits: int, names: Sequence[str] | None, *, label: str
) -> ClassMap:
    """The numbers of class folders for a classifier of which the number of logits is known.

    `names` are its classes in the order of its logits, where they are known. Without them folders
    that are named by numbers below `logits` are these, and as many folders as logits are in their
    order. Raises ParadiseError, saying what to do, where the numbers would be guessed.
    """
    if names is not None:
        found = _by_given_names(folders, logits, names, label)
    elif (by_number := _by_number(folders, logits)) is not None:
        found = ClassMap(tuple(by_number))
    else:
        raise ParadiseError(_guessed(folders, logits, label))
    pairs = [
        f"'{folder}' is logit {number}"
        for folder, number in zip(folders, found.numbers, strict=True)
        if number >= 0
    ]
    mapping = f"classes of {label}: {_few(pairs)}"
    return ClassMap(found.numbers, mapping if found.note is None else f"{found.note}; {mapping}")


def _by_given_names(
    folders: Sequence[str], logits: int, names: Sequence[str], label: str
) -> ClassMap:
    if len(names) != logits:
        raise ParadiseError(
            f"the classifier gives {logits:,} logits, but {len(names):,} class names were given:"
            " give one name for each logit, in their order"
        )
    found = match_classes(folders, names, label=label)
    if found is None:
        raise ParadiseError(
            f"none of the class folders of {label} ({_few(list(map(repr, folders)))}) is one of the"
            f" {logits:,} classes of the classifier ({_few(list(map(repr, names)))}): rename the"
            " folders, or give the classes by the folders' names"
        )
    return found


def _guessed(folders: Sequence[str], logits: int, label: str) -> str:
    return (
        f"the classifier gives {logits:,} logits and {label} has {len(folders):,} class folders"
        f" ({_few(list(map(repr, folders)))}), so their numbers are not known. Give the names of"
        " all classes in the order of the logits: as the attribute `classes` of the classifier, or"
        " with --set 'data.classes=[NAME, NAME, ...]'; or let the folder hold a sub-folder for"
        " each class (it may be empty)"
    )


def numbers_of(given: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """The place of each name among those wanted, -1 for none.

    Names that differ in case, punctuation or normal form alone are the same where nothing else is.
    """
    numbers = [-1] * len(given)
    # The strictest first: folders cannot be called 'T-shirt/top', and people write 'Cat' for 'cat'.
    for form in (str, _composed, _plain):
        theirs = _places(map(form, wanted))
        for name, place in _places(map(form, given)).items():
            if numbers[place] < 0:
                numbers[place] = theirs.get(name, -1)
    return numbers


def _places(names: Iterable[str]) -> dict[str, int]:
    """The place of each name that stands there once: of ImageNet's two cranes none is meant."""
    listed = list(names)
    count = Counter(listed)
    return {name: place for place, name in enumerate(listed) if count[name] == 1}


def _composed(name: str) -> str:
    """The name with each accent in its letter: a Mac names folders by letter and accent."""
    return unicodedata.normalize("NFC", name)


def _plain(name: str) -> str:
    """The name without case, spaces and punctuation, or as it is where nothing else is left."""
    # Not the alphanumeric ones alone: the vowels of Hindi are marks, and tell words apart.
    kept = (c for c in _composed(name.casefold()) if unicodedata.category(c)[0] not in "PZC")
    return "".join(kept) or name


def _named_note(
    given: Sequence[str], wanted: Sequence[str], numbers: Sequence[int], label: str
) -> str | None:
    """What to say of a match by name: nothing where each side has the same classes."""
    lost = [name for name, number in zip(given, numbers, strict=True) if number < 0]
    known = [f"'{name}'" for name, number in zip(given, numbers, strict=True) if number >= 0]
    if not lost and len(known) == len(wanted):
        return None
    note = (
        f"classes are matched by name: {label} has {len(known):,} of the model's {len(wanted):,}"
        f" classes{f' ({_few(known)})' if known else ''}"
    )
    theirs = set(map(_plain, wanted))
    for reason, names in {
        "unknown to the model": [name for name in lost if _plain(name) not in theirs],
        "not the name of one class alone": [name for name in lost if _plain(name) in theirs],
    }.items():
        if names:
            note += f"; {reason}, and left without a label: {_few(list(map(repr, names)))}"
    return note


def _by_number(names: Sequence[str], count: int) -> list[int] | None:
    """Which of `count` classes each name means where the names of these are of no help.

    None where it would be guessed.
    """
    numeric = _as_numbers(names)
    # As in ImageNetV2, whose folders 0 to 999 stand in the order of text: 0, 1, 10, 100, ...
    if numeric is not None and max(numeric) < count:
        return numeric
    if len(names) != count:
        return None
    # Folders 1 to 10 stand as 1, 10, 2, ... in the order of their names.
    order = list(range(count)) if numeric is None else sorted(numeric)
    return [order.index(number) for number in numeric or order]


def _as_numbers(names: Sequence[str]) -> list[int] | None:
    """The names as numbers, where all of them are different numbers."""
    if not names or not all(name.isdecimal() for name in names):
        return None
    numbers = [int(name) for name in names]
    return numbers if len(set(numbers)) == len(numbers) else None


def _few(texts: Sequence[str]) -> str:
    more = len(texts) - _SHOWN
    # A weights file of somebody else's may call a class anything, at any length.
    shown = ", ".join(map(printable, texts[:_SHOWN]))
    return shown + (f", and {more:,} more" if more > 0 else "")
