"""Two models side by side: recipes, weights, and a paired test on the same images."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from paradise_cli.core.errors import NoFolder, UsageError
from paradise_cli.core.proportions import NORMAL_95, paired_difference
from paradise_cli.evaluation.evaluate import Bar, Measurement, measure_loaded, silent
from paradise_cli.evaluation.evaluation_data import split_for
from paradise_cli.evaluation.metrics import TaskScores
from paradise_cli.inference.loading import LoadedModel
from paradise_cli.training.run_folder import ABSENT, flat


@dataclass(frozen=True)
class Paired:
    """A number of two models on the same n images; `difference` is second minus first, with its
    95% interval. `p` is the exact probability of so uneven a split under no difference, of
    accuracies alone; `only` are how many images each alone has right.
    """

    name: str
    unit: str
    values: tuple[float, float]
    difference: float
    interval: tuple[float, float]
    n: int
    p: float | None = None
    only: tuple[int, int] | None = None


@dataclass(frozen=True)
class Comparison:
    """What differs between two models; `recipe` are (key, first, second).

    `weights` are how many each has; `same_weights` says whether all are equal, bit for bit. `notes`
    say what to know of the images, and which numbers could not be compared.
    """

    recipe: tuple[tuple[str, Any, Any], ...]
    weights: tuple[int, int]
    same_weights: bool
    data: str
    paired: tuple[Paired, ...]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


def compare(
    first: LoadedModel,
    second: LoadedModel,
    data: str | None = None,
    overrides: Sequence[str] = (),
    *,
    bar: Bar = silent,
) -> Comparison:
    """Compare two models on the test split of `data`, or of the data of their recipes.

    Where nobody says in which folder those are, recipes and weights alone. Raises UsageError where
    they are not the same images, and errors as of evaluating.
    """
    recipe, same = tuple(_differences(first, second)), _equal(first, second)
    weights = _weights(first), _weights(second)
    try:
        opened = [split_for(each, "test", data, overrides) for each in (first, second)]
    except NoFolder as error:
        why = f"numbers are not compared: {error}"
        return Comparison(recipe, weights, same, data="", paired=(), notes=(why,))
    places = [(each.label, list(each.split.ids)) for each in opened]
    if places[0] != places[1]:
        raise UsageError(
            f"the two were trained on other data, {opened[0].label} and {opened[1].label}: name"
            " images for both by --data"
        )
    found = [
        measure_loaded(model, images, bar=bar)
        for model, images in zip((first, second), opened, strict=True)
    ]
    paired, lacking = _paired(*found)
    return Comparison(
        recipe,
        weights,
        same,
        data=opened[0].label,
        paired=tuple(paired),
        # The two are told the same of images that both read alike.
        notes=tuple(dict.fromkeys([*opened[0].notes, *opened[1].notes, *lacking])),
    )


def accuracies(first: Tensor, second: Tensor) -> Paired:
    """Two accuracies on the same images; bool [n] each, whether it is right.

    Only images on which the two differ say which is better: p is that of exact McNemar, and the
    interval is Tango's (method.md 7).
    """
    n = len(first)
    only = int((first & ~second).sum()), int((second & ~first).sum())
    interval = paired_difference(*only, n)
    values = float(first.double().mean()), float(second.double().mean())
    return Paired("accuracy", "", values, (only[1] - only[0]) / n, interval, n, _p(*only), only)


def _p(left: int, right: int) -> float:
    from scipy.stats import binomtest

    return float(binomtest(left, left + right).pvalue) if left + right else 1.0


def means(name: str, unit: str, first: Tensor, second: Tensor) -> Paired:
    """Two means over the same images, float64 [n] each, by their paired differences."""
    difference = second - first
    n = len(difference)
    half = NORMAL_95 * float(difference.std()) / math.sqrt(n) if n > 1 else math.inf
    mean = float(difference.mean())
    values = float(first.mean()), float(second.mean())
    return Paired(name, unit, values, mean, (mean - half, mean + half), n)


def _paired(first: Measurement, second: Measurement) -> tuple[list[Paired], list[str]]:
    """By task that both have: accuracy, and distortion at z = mu. With them come the reasons why
    there are none of a task.
    """
    ours, theirs = ({score.task.name: score for score in each.scores} for each in (first, second))
    found: list[Paired] = []
    lacking = [
        f"{name}: only the {which} model has this task, so its numbers are not compared"
        for which, own, other in (("first", ours, theirs), ("second", theirs, ours))
        for name in own
        if name not in other
    ]
    for name in ours:
        if name in theirs:
            pairs, why = _of_task(ours[name], theirs[name])
            found += pairs
            lacking += why
    return found, lacking


def _of_task(first: TaskScores, second: TaskScores) -> tuple[list[Paired], list[str]]:
    """What the two are worth on the images to which the task applies, and why not, of what is not
    compared.
    """
    task = first.task.name
    ours, theirs = first.per_example(), second.per_example()
    # An unlabelled image is neither right nor wrong.
    known = ~(ours.at_mean.isnan() | theirs.at_mean.isnan())
    if not bool(known.any()):
        return [], [f"{task}: no image has a label, so its numbers are not compared"]
    found = []
    if ours.correct is not None and theirs.correct is not None:
        found.append(accuracies(ours.correct[known] > 0, theirs.correct[known] > 0))
    distortions = first.task.distortion, second.task.distortion
    of, other = (f"{each.unit} of {each.reads}" for each in distortions)
    if of != other:
        return found, [f"{task}: {of} and {other} have no difference, so they are not compared"]
    unit = distortions[0].unit
    found.append(means(f"distortion ({task})", unit, ours.at_mean[known], theirs.at_mean[known]))
    return found, []


def _differences(first: LoadedModel, second: LoadedModel) -> list[tuple[str, Any, Any]]:
    ours, theirs = flat(first.recipe.resolved()), flat(second.recipe.resolved())
    keys = [*ours, *(key for key in theirs if key not in ours)]
    pairs = [(key, ours.get(key, ABSENT), theirs.get(key, ABSENT)) for key in keys]
    return [pair for pair in pairs if pair[1] != pair[2]]


def _weights(model: LoadedModel) -> int:
    return sum(weight.numel() for weight in model.model.parameters())


def _equal(first: LoadedModel, second: LoadedModel) -> bool:
    ours, theirs = first.model.state_dict(), second.model.state_dict()
    return ours.keys() == theirs.keys() and all(
        torch.equal(ours[name].cpu(), theirs[name].cpu()) for name in ours
    )
