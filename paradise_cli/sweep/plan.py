"""Which runs a sweep consists of."""

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from paradise_cli.core.errors import UsageError
from paradise_cli.core.ranges import MOST_RUNS
from paradise_cli.recipe.schema import Recipe, load_recipe
from paradise_cli.sweep.axes import ALPHA, Axis

SEED = "train.seed"

_UNSAFE = re.compile(r"[^A-Za-z0-9._+,-]+")


@dataclass(frozen=True)
class SweepPoint:
    """One run of a sweep: the name of its folder, the fields that distinguish it, its recipe."""

    name: str
    settings: dict[str, str]
    recipe: Recipe

    @property
    def group(self) -> tuple[tuple[str, str], ...]:
        """The settings that distinguish a frontier from others: all but alpha and the seed."""
        return tuple(
            (key, value) for key, value in self.settings.items() if key not in (ALPHA, SEED)
        )


def plan(
    recipe: str, axes: Sequence[Axis], *, seeds: int = 1, overrides: Sequence[str] = ()
) -> list[SweepPoint]:
    """Every combination of the axes' values, each under `seeds` seeds from the recipe's own on.

    The first seed is in no name, so that a sweep can be given more seeds later. All recipes are
    read and checked. Raises UsageError for a field given twice, nothing to sweep, and for recipes
    with mistakes.
    """
    if seeds > MOST_RUNS:
        raise UsageError(f"{seeds:,} seeds; at most {MOST_RUNS:,} are allowed")
    # Each point's own frontier would be trained as well, and shown nowhere.
    overrides = [*overrides, "train.frontier=[]"]
    first = load_recipe(recipe, overrides).recipe.train.seed
    # Seeds are an axis like any other: the runs of a point are averaged by what else they share.
    if seeds > 1:
        axes = [*axes, Axis(SEED, tuple(str(first + number) for number in range(seeds)))]
    keys = [axis.key for axis in axes]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise UsageError(f"a field is swept twice: {', '.join(twice)}")
    if not axes:
        raise UsageError(
            "nothing to sweep: give --alpha first:last:count, --grid key=v1,v2 or --seeds"
        )
    # Before they are read: each is a recipe of its own, in memory.
    if (runs := math.prod(len(axis.values) for axis in axes)) > MOST_RUNS:
        raise UsageError(f"this sweep has {runs:,} trainings; at most {MOST_RUNS:,} are allowed")
    short = _short_names(keys)
    points = []
    for values in itertools.product(*(axis.values for axis in axes)):
        settings = dict(zip((axis.key for axis in axes), values, strict=True))
        chosen = [f"{key}={value}" for key, value in settings.items()]
        parts = [
            # Values may be mappings or paths, which a folder's name cannot hold.
            f"{short[key]}={_UNSAFE.sub('_', value).strip('_')}"
            for key, value in settings.items()
            if (key, value) != (SEED, str(first)) or len(settings) == 1
        ]
        loaded = load_recipe(recipe, [*overrides, *chosen])
        points.append(SweepPoint(",".join(parts), settings, loaded.recipe))
    if len({point.name for point in points}) == len(points):
        return points
    # What the names leave out may be all that distinguishes two points.
    return [
        replace(point, name=f"{number},{point.name}")
        for number, point in enumerate(points, start=1)
    ]


def _short_names(keys: Sequence[str]) -> dict[str, str]:
    """The last word of each key, or the whole where two end alike."""
    last = [key.rpartition(".")[2] for key in keys]  # `alpha` reads better than `objective.alpha`
    return {
        key: word if last.count(word) == 1 else key for key, word in zip(keys, last, strict=True)
    }
