"""What all figures share: where they are written, the images they are of, how they are told."""

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paradise_cli.cli.images import data_of, model_of, refuse_among_read, say_whose_data
from paradise_cli.cli.options import written
from paradise_cli.cli.output import note, print_json
from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.units import counted, significant

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from paradise_cli.evaluation.evaluation_data import EvaluationData
    from paradise_cli.evaluation.nuisance import Mean
    from paradise_cli.reproduction.loss import Loss
    from paradise_cli.robustness.classifiers import NamedClassifier
    from paradise_cli.robustness.examples import Examples

FOLDER = Path("figures")
Picture = Annotated[
    Path | None,
    typer.Option(
        callback=written(".png"),
        help="The picture; the data that it shows are written beside it.",
        show_default=f"{FOLDER}/FIGURE-MODEL.png",
    ),
]


def picture_at(out: Path | None, figure: str, names: Sequence[str]) -> Path:
    """Where a picture goes: as asked for, or named after the figure and the models."""
    if out is not None:
        return out
    return FOLDER / f"{re.sub(r'[^A-Za-z0-9._-]+', '_', '-'.join([figure, *names]))}.png"


@contextmanager
def beside(
    picture: Path, suffix: str, origin: Mapping[str, Any], *, overwrite: bool
) -> Iterator[Path]:
    """Run the body, which writes the picture and the data it shows; gives the place of those.

    Raises UsageError before the body where another result, or no file, stands at one of them.
    """
    from paradise_cli.core.results import replacing

    if picture.exists() and not picture.is_file():
        raise UsageError(f"--out {picture} is no regular file: name a picture that ends in .png")
    data = picture.with_suffix(suffix)
    with (
        replacing(picture, origin, overwrite=overwrite),
        replacing(data, origin, overwrite=overwrite),
    ):
        yield data


def save_arrays(path: Path, arrays: Mapping[str, "NDArray[Any]"]) -> None:
    """Publish arrays as an .npz; the same arrays give the same bytes."""
    import numpy as np

    from paradise_cli.core.storage import publish

    with publish(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def tell(
    numbers: Mapping[str, Any],
    picture: Path,
    data: Path,
    as_json: bool,
    show: Callable[[], None] | None = None,
) -> None:
    """Say what was written; on stdout JSON, or else what `show` prints."""
    if as_json:
        print_json({"picture": str(picture), "data": str(data), **numbers})
    elif show is not None:
        show()
    note(f"{picture}; the data it shows: {data}")


@dataclass(frozen=True)
class Asked:
    """What every figure of classifiers is asked for; `most` images, where no n says how many."""

    models: Sequence[str]
    data: str | None
    split: str | None
    overrides: Sequence[str]
    n: int | None
    most: int
    head: str | None
    device: str
    out: Path | None
    overwrite: bool


@dataclass(frozen=True)
class Opened:
    """The classifiers, the images they are asked about, and where picture and data go."""

    targets: Sequence["NamedClassifier"]
    examples: "Examples"
    picture: Path
    arrays: Path

    @property
    def places(self) -> tuple[Path, Path]:
        """Of the picture and of the data it shows."""
        return self.picture, self.arrays


@contextmanager
def on_examples(figure: str, asked: Asked, **settings: Any) -> Iterator[Opened]:
    """Run the body, which makes a figure of classifiers; `settings` decide it too.

    What a user's own classifier prints is no result: stdout is stderr meanwhile.
    """
    with redirect_stdout(sys.stderr):
        targets = open_classifiers(asked.models, head=asked.head, device=asked.device)
        picture = picture_at(asked.out, figure, [each.name for each in targets])
        for target in targets:
            refuse_among_read(picture, target.loaded, asked.data, asked.overrides)
        examples = same_examples(targets, asked)
        models = [
            {"model": each.label} if each.loaded is None else model_of(each.loaded)
            for each in targets
        ]
        origin = {
            "command": f"figure {figure}",
            "models": models,
            **data_of(asked.data, asked.split, asked.overrides),
            "n": len(examples.images),
            **settings,
        }
        with beside(picture, ".npz", origin, overwrite=asked.overwrite) as arrays:
            yield Opened(targets, examples, picture, arrays)


def open_classifiers(
    models: Sequence[str], *, head: str | None, device: str
) -> list["NamedClassifier"]:
    """The classifiers of these names; a misspelt one is refused before torch is loaded."""
    from paradise_cli.inference.find_model import find_model

    for each in models:
        if ":" not in each:
            find_model(each)
    from paradise_cli.robustness.classifiers import open_classifier

    return [open_classifier(each, device=device, head=head) for each in models]


def same_examples(targets: Sequence["NamedClassifier"], asked: Asked) -> "Examples":
    """The labelled images that all these classifiers are asked about.

    Raises ParadiseError where two of them read other images or number classes in another way.
    """
    import torch

    from paradise_cli.robustness.examples import open_examples

    def opened(target: "NamedClassifier") -> "Examples":
        say_whose_data(target.loaded, asked.data, asked.overrides)
        return open_examples(
            target, asked.data, split=asked.split, n=asked.n, most=asked.most,
            overrides=asked.overrides,
        )  # fmt: skip

    first, *others = [opened(target) for target in targets]
    for target, other in zip(targets[1:], others, strict=True):
        same = other.images.shape == first.images.shape and torch.equal(other.images, first.images)
        if not same or not torch.equal(other.labels, first.labels):
            raise ParadiseError(other_images((targets[0].label, first), (target.label, other)))
    for line in first.notes:
        note(f"note: {line}")
    return first


def other_images(*pair: tuple[str, "Examples | EvaluationData"]) -> str:
    """The message of two models, by name, whose data are not the same."""
    (one, first), (other, second) = pair
    return (
        f"{one} is judged on {first.label}, and {other} on {second.label}: these are not the same"
        " images and classes; name one data set for all, by --data"
    )


def losses_of(
    targets: Sequence["NamedClassifier"], names: Sequence[str], examples: "Examples", device: str
) -> dict[str, "Loss"]:
    """The loss of each classifier on the images, by name."""
    from paradise_cli.reproduction.loss import Loss
    from paradise_cli.robustness.classifiers import device_for

    found = {}
    for name, target in zip(names, targets, strict=True):
        with saying_whose(target):
            where = device_for(target, device)
            found[name] = Loss(target.function, examples.images, examples.labels, where)
        for hint in found[name].hints:
            note(f"note: {target.label}: {hint}")
    return found


@contextmanager
def saying_whose(target: "NamedClassifier") -> Iterator[None]:
    """Errors of the body name the classifier, of which there may be several."""
    try:
        yield
    except ParadiseError as error:
        if target.label in str(error):
            raise
        raise type(error)(f"{target.label}: {error}") from error


def name_of(target: "NamedClassifier") -> str:
    """What a classifier is called in a figure: one of somebody's own as it was typed."""
    # The class of two networks may be one, as nn.Sequential.
    return target.label if target.loaded is None else target.title


def class_names(examples: "Examples", labels: Sequence[int]) -> list[str]:
    """Names of these classes, their numbers where nothing names them."""
    names = examples.classes
    return [str(label) if names is None else names[label] for label in labels]


def title_of(opened: Opened, *more: str) -> str:
    """Models, data, number of images and what else decides the figure, in one line."""
    models = ", ".join(name_of(each) for each in opened.targets)
    n = counted(len(opened.examples.images), "image")
    return " · ".join([f"{models} on {opened.examples.label}, {n}", *more])


def mean_words(mean: "Mean", n: int, unit: str = "") -> tuple[str, str]:
    """A mean over n images with its unit, and its interval; of one there is none."""
    space = f" {unit}" if unit else ""
    interval = f"{significant(mean.low)} to {significant(mean.high)}" if n > 1 else "-"
    return f"{significant(mean.value)}{space}", interval
