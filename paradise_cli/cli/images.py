"""What the commands that read images share: their options, and how they report."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paradise_cli.cli.output import note
from paradise_cli.core.errors import printable
from paradise_cli.core.ranges import MOST_AT_ONCE
from paradise_cli.core.units import counted

if TYPE_CHECKING:
    from paradise_cli.evaluation.evaluation_data import EvaluationData
    from paradise_cli.hub.cards import Task
    from paradise_cli.inference.loading import LoadedModel

_SHOWN = 20  # unreadable files that are named
SHOWN_DIGITS = 16  # of a digest, which a message may show
_LONGEST_PATH = 1000  # characters of one; Linux opens none of more than 4,095

ImagesArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="IMAGES",
        help="A folder (all images below it), files, tar files, a quoted pattern such as"
        " 'photos/**/*.jpg', an .npy or .npz array, or a data set such as digits or"
        " fashion_mnist:train.",
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", "-m", help="A run folder, a weights file or a packaged model's name."),
]
AheadOption = Annotated[
    int | None,
    typer.Option(
        "--batch-size", min=1, max=MOST_AT_ONCE,
        help="Images decoded ahead: memory and speed only, never a result.",
        show_default="enough for every core",
    ),
]  # fmt: skip


def load_and_say(
    model: str | None, images: Sequence[str], device: str, task: "Task"
) -> "LoadedModel":
    """The model asked for, or the packaged one for such a task and images; says on stderr which."""
    from paradise_cli.inference.default_model import ANY, default_model
    from paradise_cli.inference.find_model import find_model

    name, kind = (model, "") if model is not None else default_model(in_order(images), task)
    find_model(name)  # a misspelt name is refused before torch is loaded

    from paradise_cli.inference.loading import load

    loaded = load(name, device)
    # Who names no model may not know that there is one, or that it has seen other pictures.
    if model is None:
        why = "the packaged default" if kind == ANY else f"the packaged default for {kind}"
        note(f"model: {name}, {why}, trained on {loaded.info.label} (--model names another)")
    return loaded


def origin_of(command: str, loaded: "LoadedModel", images: Sequence[str]) -> dict[str, Any]:
    """What decides the result of a command on images: see `core.results`."""
    from paradise_cli.core.results import place

    names = [place(image) for image in in_order(images)]
    return {"command": command, **model_of(loaded), "images": names}


def model_of(loaded: "LoadedModel") -> dict[str, str]:
    """Which model decides a result; a file or a run may hold other weights by the next time."""
    from paradise_cli.core.results import place

    return {"model": place(str(loaded.source)), "weights": loaded.digest[:SHOWN_DIGITS]}


def data_of(data: str | None, split: str | None, overrides: Sequence[str]) -> dict[str, Any]:
    """Which images decide the result of a command that judges a model, as `origin_of`."""
    from paradise_cli.core.results import place
    from paradise_cli.data import DEFAULT_SPLIT

    part = split or DEFAULT_SPLIT
    return {"data": data and place(data), "split": part, "settings": placed(overrides)}


def say_whose_data(
    loaded: "LoadedModel | None", data: str | None, overrides: Sequence[str] | None
) -> None:
    """Say on stderr which folder is read since the weights file names it, and not the user."""
    named = data is not None or any(text.startswith("data.root=") for text in overrides or ())
    if loaded is None or named:
        return
    # Before it is read: the file may be a stranger's.
    if (root := loaded.recipe.data.root) is not None:
        note(f"data: {root}, as {loaded.source} names it (--data names another)")


def open_and_say(
    loaded: "LoadedModel", data: str | None, split: str | None, overrides: Sequence[str]
) -> "EvaluationData":
    """The images of one split of a model's data or of `data`; what is to know of them on stderr."""
    from paradise_cli.evaluation.evaluation_data import split_for

    say_whose_data(loaded, data, overrides)
    opened = split_for(loaded, split, data, overrides)
    for line in opened.notes:
        note(f"note: {line}")
    return opened


def placed(overrides: Sequence[str]) -> list[str]:
    """Settings as they are compared: a folder by its whole path."""
    from paradise_cli.core.results import place

    parts = [text.partition("=") for text in overrides]
    return [
        f"{key}={place(value)}" if key.strip() == "data.root" else f"{key}{equals}{value}"
        for key, equals, value in parts
    ]


def refuse_among_read(
    out: Path | None,
    loaded: "LoadedModel | None",
    data: str | None,
    overrides: Sequence[str] | None,
    option: str = "--out",
) -> None:
    """Raise UsageError where pictures at `out` would stand among the images that are judged.

    Before a model is loaded, those that the command line names.
    """
    from paradise_cli.core.results import refuse_among

    if out is None:
        return
    named = [text.partition("=")[2] for text in overrides or () if text.startswith("data.root=")]
    if data is not None:
        refuse_among(out, [data], option)
    elif named:
        refuse_among(out, named, option)
    elif loaded is not None:
        from paradise_cli.build import listed_folders

        refuse_among(out, listed_folders(loaded.recipe), option)


def in_order(images: Sequence[str]) -> list[str]:
    """Names as given on a command line in one order, whatever the shell's language."""
    # A shell sorts what it expands by its own locale, and may name a file twice.
    return sorted(set(images))


def report_skipped(skipped: Sequence[tuple[str, str]], images: int, listed: Path | None) -> None:
    """List the unreadable files on stderr and end with exit code 1, if there are any."""
    if not skipped:
        return
    # A folder of thousands must not push what was written off the screen.
    for path, reason in skipped[:_SHOWN]:
        # A name with a line break would look like two lines of ours.
        note(f"skipped {printable(path, _LONGEST_PATH)}: {printable(reason)}")
    if len(skipped) > _SHOWN:
        note(f"skipped {len(skipped) - _SHOWN:,} more" + (f": see {listed}" if listed else ""))
    note(f"{len(skipped):,} of {counted(images, 'image')} cannot be read and were left out")
    raise typer.Exit(1)
